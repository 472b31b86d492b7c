// Kernels on lane blocks: scores, online softmax and the product with the values. See kernels.h.
#include "attention/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tessera/base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/block_kernels.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "attention/block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::attention::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kUnroll = 4;  // steps of the inner loops; divides every head size
constexpr int kKeys = kPackedKeys;

// Where keys and values lie: key i of a group of kKeys has channel c at key(first, i)[c * kStep]; value(k, channel)
// points to a panel of channels of key k.
struct TileAccess {
  static constexpr int64_t kStep = kKeys;
  const PackedTile& tile;
  int64_t head_dim;
  int panel = panel_lanes();
  const float* key(int first, int i) const { return tile.keys + first / kKeys * key_group_floats(head_dim) + i; }
  const float* value(int k, int64_t channel) const { return tile.values + channel * kTileRows + k * panel; }
  float offset(int, int) const { return 0; }
  std::span<const std::byte> ahead() const { return tile.ahead; }
};
struct RowAccess {
  static constexpr int64_t kStep = 1;
  const RowKeys& keys;
  int64_t head_dim;
  const float* key(int first, int i) const { return keys.keys + keys.rows[first + i] * head_dim; }
  const float* value(int k, int64_t channel) const { return keys.values + keys.rows[k] * head_dim + channel; }
  float offset(int first, int i) const { return keys.offsets != nullptr ? keys.offsets[keys.rows[first + i]] : 0; }
  std::span<const std::byte> ahead() const { return {}; }
};

// scores[i][0..panel) = offset_i + sum_c key_i[c] * panel[c][0..panel) for kCount keys.
template <int kCount, class Access>
HWY_INLINE void score_tile(const Access& access, int first, int64_t head_dim, const float* HWY_RESTRICT panel,
                           float* HWY_RESTRICT scores) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  const float* row[kCount];
  for (int i = 0; i < kCount; ++i) row[i] = access.key(first, i);
  V low[kCount], high[kCount];
  for (int i = 0; i < kCount; ++i) low[i] = high[i] = hn::Set(d, access.offset(first, i));
  for (int64_t c = 0; c < head_dim; c += kUnroll) {
    HWY_UNROLL(4)
    for (int u = 0; u < kUnroll; ++u) {
      const V q0 = hn::Load(d, panel);
      const V q1 = hn::Load(d, panel + lanes);
      panel += 2 * lanes;
      HWY_UNROLL(6)
      for (int i = 0; i < kCount; ++i) {
        const V k = hn::Set(d, row[i][(c + u) * Access::kStep]);
        low[i] = hn::MulAdd(k, q0, low[i]);
        high[i] = hn::MulAdd(k, q1, high[i]);
      }
    }
  }
  for (int i = 0; i < kCount; ++i) {
    hn::Store(low[i], d, scores + i * kScoreStride);
    hn::Store(high[i], d, scores + i * kScoreStride + lanes);
  }
}

template <class Access>
void score_all(const LaneBlock& block, const Access& access, int count, float* HWY_RESTRICT scores) {
  const int width = panel_lanes();
  // The memory ahead is asked for in equal portions, one per register tile, so that requests never pile up.
  const std::byte* ahead = access.ahead().data();
  const std::byte* const ahead_end = ahead + access.ahead().size();
  const auto register_tiles =
      std::max<size_t>(1, static_cast<size_t>((block.lanes + width - 1) / width * (count / kKeys)));
  const size_t portion = (access.ahead().size() / register_tiles + 64) & ~size_t{63};
  for (int lane = 0; lane < block.lanes; lane += width) {
    const float* panel = block.packed + lane * block.head_dim;
    int key = 0;
    for (; key + kKeys <= count; key += kKeys) {
      const std::byte* const portion_end = std::min(ahead + portion, ahead_end);
      for (; ahead < portion_end; ahead += 64) hwy::Prefetch(ahead);
      score_tile<kKeys>(access, key, block.head_dim, panel, scores + key * kScoreStride + lane);
    }
    float* rest = scores + key * kScoreStride + lane;
    switch (count - key) {
      case 1:
        score_tile<1>(access, key, block.head_dim, panel, rest);
        break;
      case 2:
        score_tile<2>(access, key, block.head_dim, panel, rest);
        break;
      case 3:
        score_tile<3>(access, key, block.head_dim, panel, rest);
        break;
      case 4:
        score_tile<4>(access, key, block.head_dim, panel, rest);
        break;
      case 5:
        score_tile<5>(access, key, block.head_dim, panel, rest);
        break;
      default:
        break;
    }
  }
}

// Turns one vector of lanes of raw scores into weights, in place, and updates top and sum.
template <bool kMasked>
HWY_INLINE void softmax_lanes(LaneBlock& block, int lane, int count, const int32_t* visible, float* HWY_RESTRICT scores,
                              float* HWY_RESTRICT rescale) {
  const D d;
  const hn::RebindToSigned<D> di;
  const V minus_infinity = hn::Set(d, -std::numeric_limits<float>::infinity());
  const V old_top = hn::Load(d, block.top + lane);
  V top = old_top;
  float* column = scores + lane;
  if constexpr (kMasked) {
    const auto limit = hn::Load(di, visible + lane);
    for (int key = 0; key < count; ++key) {
      const auto seen = hn::RebindMask(d, hn::Lt(hn::Set(di, key), limit));
      const V score = hn::IfThenElse(seen, hn::Load(d, column + key * kScoreStride), minus_infinity);
      hn::Store(score, d, column + key * kScoreStride);
      top = hn::Max(top, score);
    }
  } else {
    for (int key = 0; key < count; ++key) top = hn::Max(top, hn::Load(d, column + key * kScoreStride));
  }
  hn::Store(top, d, block.top + lane);
  const V base = hn::IfThenElse(hn::Eq(top, minus_infinity), hn::Zero(d), top);
  const V factor = hn::Set(d, block.scale * kLog2E);
  V total = hn::Zero(d);
  for (int key = 0; key < count; ++key) {
    const V power = hn::Mul(hn::Sub(hn::Load(d, column + key * kScoreStride), base), factor);
    const V weight = kMasked ? exp2_or_zero(d, power) : exp2_nonpositive(d, power);
    hn::Store(weight, d, column + key * kScoreStride);
    total = hn::Add(total, weight);
  }
  const V alpha = exp2_or_zero(d, hn::Mul(hn::Sub(old_top, base), factor));
  hn::Store(alpha, d, rescale + lane);
  hn::Store(hn::MulAdd(hn::Load(d, block.sum + lane), alpha, total), d, block.sum + lane);
}

// out[lane + i][channel..] = out * rescale + sum_key weight[key][lane + i] * value_key[channel..] for kCount lanes.
template <int kCount, class Access>
HWY_INLINE void value_tile(LaneBlock& block, const Access& access, int count, int lane, int64_t channel,
                           const float* HWY_RESTRICT weights) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  const int64_t head_dim = block.head_dim;
  const float* rescale = weights + kTileRows * kScoreStride + lane;
  float* out = block.out + lane * head_dim + channel;
  V low[kCount], high[kCount];
  for (int i = 0; i < kCount; ++i) {
    const V alpha = hn::Set(d, rescale[i]);
    low[i] = hn::Mul(alpha, hn::Load(d, out + i * head_dim));
    high[i] = hn::Mul(alpha, hn::Load(d, out + i * head_dim + lanes));
  }
  const float* weight = weights + lane;
  const auto add_key = [&](int key) HWY_ATTR {
    const float* value = access.value(key, channel);
    const V v0 = hn::Load(d, value);
    const V v1 = hn::Load(d, value + lanes);
    HWY_UNROLL(6)
    for (int i = 0; i < kCount; ++i) {
      const V p = hn::Set(d, weight[i]);
      low[i] = hn::MulAdd(p, v0, low[i]);
      high[i] = hn::MulAdd(p, v1, high[i]);
    }
    weight += kScoreStride;
  };
  int key = 0;
  for (; key + kUnroll <= count; key += kUnroll) {
    HWY_UNROLL(4)
    for (int u = 0; u < kUnroll; ++u) add_key(key + u);
  }
  for (; key < count; ++key) add_key(key);
  for (int i = 0; i < kCount; ++i) {
    hn::Store(low[i], d, out + i * head_dim);
    hn::Store(high[i], d, out + i * head_dim + lanes);
  }
}

template <class Access>
void accumulate_values(LaneBlock& block, const Access& access, int count, const float* HWY_RESTRICT weights) {
  for (int64_t channel = 0; channel < block.head_dim; channel += panel_lanes()) {
    int lane = 0;
    for (; lane + kKeys <= block.lanes; lane += kKeys) value_tile<kKeys>(block, access, count, lane, channel, weights);
    switch (block.lanes - lane) {
      case 1:
        value_tile<1>(block, access, count, lane, channel, weights);
        break;
      case 2:
        value_tile<2>(block, access, count, lane, channel, weights);
        break;
      case 3:
        value_tile<3>(block, access, count, lane, channel, weights);
        break;
      case 4:
        value_tile<4>(block, access, count, lane, channel, weights);
        break;
      case 5:
        value_tile<5>(block, access, count, lane, channel, weights);
        break;
      default:
        break;
    }
  }
}

template <class Access>
void score_and_soften(LaneBlock& block, const Access& access, int count, const int32_t* visible, float* scratch) {
  score_all(block, access, count, scratch);
  float* rescale = scratch + kTileRows * kScoreStride;
  const int lanes = static_cast<int>(hn::Lanes(D()));
  for (int lane = 0; lane < block.lanes; lane += lanes) {
    if (visible != nullptr) {
      softmax_lanes<true>(block, lane, count, visible, scratch, rescale);
    } else {
      softmax_lanes<false>(block, lane, count, visible, scratch, rescale);
    }
  }
}

template <class Access>
void update(LaneBlock& block, const Access& access, int count, const int32_t* visible, float* scratch) {
  score_and_soften(block, access, count, visible, scratch);
  accumulate_values(block, access, count, scratch);
}

void update_with_tile(LaneBlock& block, const PackedTile& keys, int count, const int32_t* visible, float* scratch) {
  update(block, TileAccess{keys, block.head_dim}, count, visible, scratch);
}

void update_with_rows(LaneBlock& block, const RowKeys& keys, int count, const int32_t* visible, float* scratch) {
  update(block, RowAccess{keys, block.head_dim}, count, visible, scratch);
}

void observe_tile(LaneBlock& block, const PackedTile& keys, int count, const int32_t* visible, float* scratch) {
  score_and_soften(block, TileAccess{keys, block.head_dim}, count, visible, scratch);
}

void weigh_tile(const LaneBlock& block, const PackedTile& keys, int count, const int32_t* visible,
                float* HWY_RESTRICT weights) {
  const D d;
  const hn::RebindToSigned<D> di;
  score_all(block, TileAccess{keys, block.head_dim}, count, weights);
  const V factor = hn::Set(d, block.scale * kLog2E);
  for (int lane = 0; lane < kBlockLanes; lane += static_cast<int>(hn::Lanes(d))) {
    const V top = hn::Load(d, block.top + lane);
    const V sum = hn::Load(d, block.sum + lane);
    const auto index = hn::Iota(di, lane);
    const auto used = hn::And(hn::RebindMask(d, hn::Lt(index, hn::Set(di, block.lanes))), hn::Gt(sum, hn::Zero(d)));
    const V share = hn::IfThenElseZero(used, hn::Div(hn::Set(d, 1.0F), sum));
    const auto limit = visible != nullptr ? hn::Load(di, visible + lane) : hn::Set(di, count);
    for (int key = 0; key < count; ++key) {
      float* weight = weights + key * kScoreStride + lane;
      const auto seen = hn::And(used, hn::RebindMask(d, hn::Lt(hn::Set(di, key), limit)));
      const V power = hn::IfThenElseZero(seen, hn::Mul(hn::Sub(hn::Load(d, weight), top), factor));
      hn::Store(hn::IfThenElseZero(seen, hn::Mul(exp2_nonpositive(d, power), share)), d, weight);
    }
  }
}

// packed: panels of two vectors of lanes, each [head_dim][panel]. Queries of one head lie apart from each other, where
// the processor does not look ahead by itself.
void pack_queries(LaneBlock& block, const float* const* queries) {
  constexpr int kAhead = 8;  // queries
  const auto fetch = [&](int lane) {
    if (lane >= block.lanes) return;
    for (int64_t c = 0; c < block.head_dim; c += 16) hwy::Prefetch(queries[lane] + c);
  };
  for (int lane = 0; lane < kAhead; ++lane) fetch(lane);
  const int width = panel_lanes();
  for (int first = 0; first < block.lanes; first += width) {
    float* panel = block.packed + first * block.head_dim;
    for (int lane = 0; lane < width; ++lane) {
      fetch(first + lane + kAhead);
      const float* query = first + lane < block.lanes ? queries[first + lane] : nullptr;
      for (int64_t c = 0; c < block.head_dim; ++c) panel[c * width + lane] = query != nullptr ? query[c] : 0.0F;
    }
  }
}

}  // namespace tessera::attention::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera::attention {

HWY_EXPORT(update_with_tile);
HWY_EXPORT(update_with_rows);
HWY_EXPORT(observe_tile);
HWY_EXPORT(weigh_tile);
HWY_EXPORT(pack_queries);

void start_block(LaneBlock& block, const float* const* queries) {
  TESSERA_ASSERT(block.lanes >= 1 && block.lanes <= kBlockLanes && block.head_dim % 32 == 0);
  HWY_DYNAMIC_DISPATCH(pack_queries)(block, queries);
  std::fill_n(block.out, kBlockLanes * block.head_dim, 0.0F);
  std::fill_n(block.top, kBlockLanes, -std::numeric_limits<float>::infinity());
  std::fill_n(block.sum, kBlockLanes, 0.0F);
}

void update_block(LaneBlock& block, const PackedTile& keys, int count, const int32_t* visible, float* scratch) {
  HWY_DYNAMIC_DISPATCH(update_with_tile)(block, keys, count, visible, scratch);
}

void update_block(LaneBlock& block, const RowKeys& keys, int count, const int32_t* visible, float* scratch) {
  HWY_DYNAMIC_DISPATCH(update_with_rows)(block, keys, count, visible, scratch);
}

void observe_block(LaneBlock& block, const PackedTile& keys, int count, const int32_t* visible, float* scratch) {
  HWY_DYNAMIC_DISPATCH(observe_tile)(block, keys, count, visible, scratch);
}

void weigh_block(const LaneBlock& block, const PackedTile& keys, int count, const int32_t* visible, float* weights) {
  HWY_DYNAMIC_DISPATCH(weigh_tile)(block, keys, count, visible, weights);
}

void finish_block(const LaneBlock& block, float* const* out, float* const* lse) {
  for (int lane = 0; lane < block.lanes; ++lane) {
    const float sum = block.sum[lane];
    const float share = sum > 0 ? 1.0F / sum : 0.0F;
    const float* source = block.out + lane * block.head_dim;
    for (int64_t c = 0; c < block.head_dim; ++c) out[lane][c] = source[c] * share;
    *lse[lane] = sum > 0 ? block.top[lane] * block.scale + std::log(sum) : -std::numeric_limits<float>::infinity();
  }
}

}  // namespace tessera::attention
#endif  // HWY_ONCE
