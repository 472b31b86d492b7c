// Kernels that read tiles as stored: expansion to f32, and attention of a few lanes (decoding). See kernels.h.
#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/kernels.h"
#include "attention/tile_layout.h"
#include "tessera/base/error.h"
#include "tessera/tensor/dtype.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/tile_kernels.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "attention/block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::attention::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE int lanes_of(D d) { return static_cast<int>(hn::Lanes(d)); }

// One vector of f32 from stored elements.
HWY_INLINE V load_stored(D d, const float* p) { return hn::Load(d, p); }
HWY_INLINE V load_stored(D d, const hwy::bfloat16_t* p) {
  return hn::PromoteTo(d, hn::Load(hn::Rebind<hwy::bfloat16_t, D>(), p));
}
HWY_INLINE V load_stored(D d, const hwy::float16_t* p) {
  return hn::PromoteTo(d, hn::Load(hn::Rebind<hwy::float16_t, D>(), p));
}

template <typename T>
void expand_plain(const std::byte* tile, int64_t head_dim, float* HWY_RESTRICT keys, float* HWY_RESTRICT values) {
  const D d;
  const T* source = reinterpret_cast<const T*>(tile);
  const int64_t half = kTileRows * head_dim;
  for (int64_t i = 0; i < half; i += lanes_of(d)) hn::StoreU(load_stored(d, source + i), d, keys + i);
  if (values == nullptr) return;
  for (int64_t i = 0; i < half; i += lanes_of(d)) hn::StoreU(load_stored(d, source + half + i), d, values + i);
}

HWY_INLINE V load_unaligned(D d, const float* p) { return hn::LoadU(d, p); }
HWY_INLINE V load_unaligned(D d, const hwy::bfloat16_t* p) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<hwy::bfloat16_t, D>(), p));
}
HWY_INLINE V load_unaligned(D d, const hwy::float16_t* p) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<hwy::float16_t, D>(), p));
}

// Whole vectors are moved: what one writes beyond its six keys, the next one overwrites or the gap between groups
// takes; what it reads beyond the last key lies in the values.
template <typename T>
void pack_plain(const std::byte* tile, int64_t head_dim, float* HWY_RESTRICT keys, float* HWY_RESTRICT values) {
  const D d;
  const int lanes = lanes_of(d);
  const T* source = reinterpret_cast<const T*>(tile);
  const int64_t stride = key_group_floats(head_dim);
  for (int64_t c = 0; c < head_dim; ++c) {
    const T* from = source + c * kTileRows;
    float* target = keys + c * kPackedKeys;
    for (int64_t group = 0; group < kKeyGroups; ++group, from += kPackedKeys, target += stride) {
      for (int i = 0; i < kPackedKeys; i += lanes) hn::StoreU(load_unaligned(d, from + i), d, target + i);
    }
  }
  if (values == nullptr) return;
  source += kTileRows * head_dim;
  const int panel = panel_lanes();
  for (int64_t r = 0; r < kTileRows; ++r) {
    for (int64_t c = 0; c < head_dim; c += panel) {
      float* target = values + c * kTileRows + r * panel;
      hn::Store(load_stored(d, source), d, target);
      hn::Store(load_stored(d, source + lanes), d, target + lanes);
      source += panel;
    }
  }
}

void pack(const KeyValueTile& tile, int64_t head_dim, float* keys, float* values) {
  switch (tile.format) {
    case TileFormat::f32:
      pack_plain<float>(tile.data, head_dim, keys, values);
      break;
    case TileFormat::bf16:
      pack_plain<hwy::bfloat16_t>(tile.data, head_dim, keys, values);
      break;
    case TileFormat::f16:
      pack_plain<hwy::float16_t>(tile.data, head_dim, keys, values);
      break;
    default:
      break;
  }
}

// `groups` groups of 32 codes to f32.
template <int kBits>
HWY_INLINE void expand_groups(const uint8_t* HWY_RESTRICT codes, const uint16_t* scales, const uint16_t* zeros,
                              int64_t groups, float* HWY_RESTRICT target) {
  const hn::CappedTag<float, 8> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> du8;
  constexpr int kBytes = kQuantGroup * kBits / 8;
  const auto mask = hn::Set(di, (1 << kBits) - 1);
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int64_t g = 0; g < groups; ++g, codes += kBytes, target += kQuantGroup) {
    const auto scale = hn::Set(d, f16_to_f32(scales[g]));
    const auto zero = hn::Set(d, f16_to_f32(zeros[g]));
    for (int byte = 0; byte < kBytes; byte += lanes) {
      auto code = hn::PromoteTo(di, hn::LoadU(du8, codes + byte));
      for (int part = 0; part < 8 / kBits; ++part) {
        hn::StoreU(hn::MulAdd(hn::ConvertTo(d, hn::And(code, mask)), scale, zero), d, target + part * kBytes + byte);
        code = hn::ShiftRight<kBits>(code);
      }
    }
  }
}

template <int kBits>
void expand_kivi(const KeyValueTile& tile, int64_t head_dim, float* keys, float* values) {
  const KiviLayout layout = kivi_layout(tile.format, head_dim);
  const auto bytes = [&](int64_t offset) { return reinterpret_cast<const uint8_t*>(tile.data + offset); };
  const auto halves = [&](int64_t offset) { return reinterpret_cast<const uint16_t*>(tile.data + offset); };
  const int64_t groups = kTileRows * head_dim / kQuantGroup;
  expand_groups<kBits>(bytes(layout.key_codes), halves(layout.key_scales), halves(layout.key_zeros), groups, keys);
  if (values == nullptr) return;
  expand_groups<kBits>(bytes(layout.value_codes), halves(layout.value_scales), halves(layout.value_zeros), groups,
                       values);
}

void expand(const KeyValueTile& tile, int64_t head_dim, float* keys, float* values) {
  switch (tile.format) {
    case TileFormat::f32:
      expand_plain<float>(tile.data, head_dim, keys, values);
      break;
    case TileFormat::bf16:
      expand_plain<hwy::bfloat16_t>(tile.data, head_dim, keys, values);
      break;
    case TileFormat::f16:
      expand_plain<hwy::float16_t>(tile.data, head_dim, keys, values);
      break;
    case TileFormat::kivi4:
      expand_kivi<4>(tile, head_dim, keys, values);
      break;
    case TileFormat::kivi2:
      expand_kivi<2>(tile, head_dim, keys, values);
      break;
  }
}

// scores[i][row..row + kVectors * lanes) = q_i . k for kLanes queries.
template <int kLanes, int kVectors, typename T>
HWY_INLINE void few_scores(const FewLanes& state, const T* keys, int first, int row, float* HWY_RESTRICT scores) {
  const D d;
  const int lanes = lanes_of(d);
  const float* query = state.queries + first * state.head_dim;
  V sum[kLanes][kVectors];
  for (auto& line : sum) {
    for (V& v : line) v = hn::Zero(d);
  }
  keys += row;
  for (int64_t c = 0; c < state.head_dim; ++c, keys += kTileRows) {
    V k[kVectors];
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) k[v] = load_stored(d, keys + v * lanes);
    HWY_UNROLL(4)
    for (int i = 0; i < kLanes; ++i) {
      const V q = hn::Set(d, query[i * state.head_dim + c]);
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(q, k[v], sum[i][v]);
    }
  }
  for (int i = 0; i < kLanes; ++i) {
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[i][v], d, scores + i * kTileRows + row + v * lanes);
  }
}

// Scores of one lane to weights; returns the factor for what was accumulated before.
HWY_INLINE float few_softmax(FewLanes& state, int lane, int visible, float* HWY_RESTRICT scores) {
  const D d;
  const int lanes = lanes_of(d);
  const float minus_infinity = -std::numeric_limits<float>::infinity();
  std::fill(scores + visible, scores + kTileRows, minus_infinity);
  V top = hn::Set(d, state.top[lane]);
  for (int r = 0; r < kTileRows; r += lanes) top = hn::Max(top, hn::Load(d, scores + r));
  const float new_top = hn::GetLane(hn::MaxOfLanes(d, top));
  const float base = new_top == minus_infinity ? 0.0F : new_top;
  const V factor = hn::Set(d, state.scale * kLog2E);
  V total = hn::Zero(d);
  for (int r = 0; r < kTileRows; r += lanes) {
    const V power = hn::Mul(hn::Sub(hn::Load(d, scores + r), hn::Set(d, base)), factor);
    const V weight = exp2_or_zero(d, power);
    hn::Store(weight, d, scores + r);
    total = hn::Add(total, weight);
  }
  const V old_power = hn::Mul(hn::Set(d, state.top[lane] - base), factor);
  const float alpha = hn::GetLane(exp2_or_zero(d, old_power));
  state.top[lane] = new_top;
  state.sum[lane] = state.sum[lane] * alpha + hn::GetLane(hn::SumOfLanes(d, total));
  return alpha;
}

// out[first + i][channel..] += sum_r weight[i][r] * value_r[channel..] for kLanes lanes.
template <int kLanes, int kVectors, typename T>
HWY_INLINE void few_values(FewLanes& state, const T* values, int first, int64_t channel, int rows,
                           const float* HWY_RESTRICT weights) {
  const D d;
  const int lanes = lanes_of(d);
  float* out = state.out + first * state.head_dim + channel;
  V sum[kLanes][kVectors];
  for (int i = 0; i < kLanes; ++i) {
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Load(d, out + i * state.head_dim + v * lanes);
  }
  values += channel;
  for (int r = 0; r < rows; ++r, values += state.head_dim) {
    V x[kVectors];
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) x[v] = load_stored(d, values + v * lanes);
    HWY_UNROLL(4)
    for (int i = 0; i < kLanes; ++i) {
      const V p = hn::Set(d, weights[i * kTileRows + r]);
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(p, x[v], sum[i][v]);
    }
  }
  for (int i = 0; i < kLanes; ++i) {
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[i][v], d, out + i * state.head_dim + v * lanes);
  }
}

// Register tiles of about eight vectors: enough chains to hide the latency of multiply-add.
constexpr int kMaxLanes = static_cast<int>(hn::MaxLanes(D()));
template <int kLanes>
constexpr int kScoreVectors = std::min(8 / kLanes, kTileRows / kMaxLanes);
template <int kLanes>
constexpr int kValueVectors = std::min(8 / kLanes, 32 / kMaxLanes);

// Asks for the next bytes of the memory ahead.
HWY_INLINE void prefetch_portion(std::span<const std::byte>& ahead, size_t portion) {
  const size_t size = std::min(portion, ahead.size());
  for (size_t at = 0; at < size; at += 64) hwy::Prefetch(ahead.data() + at);
  ahead = ahead.subspan(size);
}

template <int kLanes, typename T>
void few_pass(FewLanes& state, const T* keys, const int32_t* visible, int first, float* HWY_RESTRICT scratch) {
  constexpr int kRowVectors = kScoreVectors<kLanes>;
  constexpr int kChannelVectors = kValueVectors<kLanes>;
  const int row_step = kRowVectors * lanes_of(D());
  const int channel_step = kChannelVectors * lanes_of(D());
  const int rows = *std::max_element(visible + first, visible + first + kLanes);
  if (rows == 0) return;
  // Portions: enough per step that a pass over the tile asks for all of it.
  const auto steps = static_cast<size_t>((rows + row_step - 1) / row_step + state.head_dim / channel_step);
  const size_t portion = (state.ahead.size() / steps + 64) & ~size_t{63};
  for (int row = 0; row < rows; row += row_step) {
    prefetch_portion(state.ahead, portion);
    few_scores<kLanes, kRowVectors>(state, keys, first, row, scratch);
  }
  for (int i = 0; i < kLanes; ++i) {
    const float alpha = few_softmax(state, first + i, visible[first + i], scratch + i * kTileRows);
    if (alpha != 1.0F) {
      float* out = state.out + (first + i) * state.head_dim;
      for (int64_t c = 0; c < state.head_dim; ++c) out[c] *= alpha;
    }
  }
  const T* values = keys + kTileRows * state.head_dim;
  for (int64_t channel = 0; channel < state.head_dim; channel += channel_step) {
    prefetch_portion(state.ahead, portion);
    few_values<kLanes, kChannelVectors>(state, values, first, channel, rows, scratch);
  }
}

template <typename T>
void few_plain(FewLanes& state, const std::byte* data, const int32_t* visible, float* scratch) {
  const T* keys = reinterpret_cast<const T*>(data);
  int lane = 0;
  for (; lane + 4 <= state.lanes; lane += 4) few_pass<4>(state, keys, visible, lane, scratch);
  if (lane + 2 <= state.lanes) {
    few_pass<2>(state, keys, visible, lane, scratch);
    lane += 2;
  }
  if (lane < state.lanes) few_pass<1>(state, keys, visible, lane, scratch);
}

void few(FewLanes& state, const KeyValueTile& tile, const int32_t* visible, float* scratch) {
  switch (tile.format) {
    case TileFormat::f32:
      few_plain<float>(state, tile.data, visible, scratch);
      break;
    case TileFormat::bf16:
      few_plain<hwy::bfloat16_t>(state, tile.data, visible, scratch);
      break;
    case TileFormat::f16:
      few_plain<hwy::float16_t>(state, tile.data, visible, scratch);
      break;
    default:
      break;
  }
}

}  // namespace tessera::attention::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera::attention {

HWY_EXPORT(expand);
HWY_EXPORT(few);
HWY_EXPORT(pack);

void expand_tile(const KeyValueTile& tile, int64_t head_dim, float* keys, float* values) {
  HWY_DYNAMIC_DISPATCH(expand)(tile, head_dim, keys, values);
}

void pack_tile(const KeyValueTile& tile, int64_t head_dim, float* keys, float* values) {
  TESSERA_ASSERT(is_appendable(tile.format));
  HWY_DYNAMIC_DISPATCH(pack)(tile, head_dim, keys, values);
}

void update_few(FewLanes& state, const KeyValueTile& tile, const int32_t* visible, float* scratch) {
  TESSERA_ASSERT(state.lanes >= 1 && state.lanes <= kFewLanes && is_appendable(tile.format));
  HWY_DYNAMIC_DISPATCH(few)(state, tile, visible, scratch);
}

}  // namespace tessera::attention
#endif  // HWY_ONCE
