#include "kv/kernels.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// Must come after highway.h: it is compiled once per instruction set.
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace tessera::kv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using attention::kTileRows;
using D = hn::CappedTag<float, 16>;  // divides 64 rows, 32 channels

// Four queries at a time against two vectors of rows: eight accumulators, one load of the keys for four products.
void TileScores(const TileQueries& queries, const float* HWY_RESTRICT keys, float* HWY_RESTRICT scores) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < queries.count; i += 4) {
    const float* q[4];
    for (int64_t k = 0; k < 4; ++k) q[k] = queries.queries + HWY_MIN(i + k, queries.count - 1) * queries.head_dim;
    for (int64_t r = 0; r < kTileRows; r += 2 * lanes) {
      const int64_t second = r + lanes;
      auto a0 = hn::Zero(d), a1 = hn::Zero(d), a2 = hn::Zero(d), a3 = hn::Zero(d);
      auto b0 = hn::Zero(d), b1 = hn::Zero(d), b2 = hn::Zero(d), b3 = hn::Zero(d);
      for (int64_t c = 0; c < queries.head_dim; ++c) {
        const auto first_keys = hn::LoadU(d, keys + c * kTileRows + r);
        const auto second_keys = hn::LoadU(d, keys + c * kTileRows + second);
        const auto q0 = hn::Set(d, q[0][c]), q1 = hn::Set(d, q[1][c]);
        const auto q2 = hn::Set(d, q[2][c]), q3 = hn::Set(d, q[3][c]);
        a0 = hn::MulAdd(q0, first_keys, a0);
        b0 = hn::MulAdd(q0, second_keys, b0);
        a1 = hn::MulAdd(q1, first_keys, a1);
        b1 = hn::MulAdd(q1, second_keys, b1);
        a2 = hn::MulAdd(q2, first_keys, a2);
        b2 = hn::MulAdd(q2, second_keys, b2);
        a3 = hn::MulAdd(q3, first_keys, a3);
        b3 = hn::MulAdd(q3, second_keys, b3);
      }
      const auto store = [&](int64_t k, auto a, auto b) {
        if (i + k >= queries.count) return;
        hn::StoreU(a, d, scores + (i + k) * kTileRows + r);
        hn::StoreU(b, d, scores + (i + k) * kTileRows + second);
      };
      store(0, a0, b0);
      store(1, a1, b1);
      store(2, a2, b2);
      store(3, a3, b3);
    }
  }
}

TileMass SoftmaxMass(const float* HWY_RESTRICT scores, int count) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const auto lowest = hn::Set(d, -std::numeric_limits<float>::max());
  auto tops = lowest;
  for (int r = 0; r < count; r += lanes) {
    const auto wanted = hn::FirstN(d, static_cast<size_t>(count - r));
    tops = hn::Max(tops, hn::IfThenElse(wanted, hn::LoadU(d, scores + r), lowest));
  }
  const auto top = hn::MaxOfLanes(d, tops);
  auto sums = hn::Zero(d);
  for (int r = 0; r < count; r += lanes) {
    const auto wanted = hn::FirstN(d, static_cast<size_t>(count - r));
    sums = hn::Add(sums, hn::IfThenElseZero(wanted, hn::Exp(d, hn::Sub(hn::LoadU(d, scores + r), top))));
  }
  return {hn::GetLane(top), hn::GetLane(hn::SumOfLanes(d, sums))};
}

void AddExponentials(const float* HWY_RESTRICT scores, float shift, int count, float* HWY_RESTRICT sums) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int r = 0; r < count; r += lanes) {
    // Rows beyond count lie within the tile of 64; their exponentials are dropped by the mask.
    const auto wanted = hn::FirstN(d, static_cast<size_t>(count - r));
    const auto mass = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + r), hn::Set(d, shift)));
    hn::StoreU(hn::Add(hn::LoadU(d, sums + r), hn::IfThenElseZero(wanted, mass)), d, sums + r);
  }
}

float UpperBound(const SplitQueries& queries, const float* HWY_RESTRICT low, const float* HWY_RESTRICT high) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  float best = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < queries.count; i += 2) {
    const int64_t first = i * queries.head_dim;
    const int64_t second = HWY_MIN(i + 1, queries.count - 1) * queries.head_dim;
    const float* positive = queries.positive.data();
    const float* negative = queries.negative.data();
    auto a0 = hn::Zero(d), a1 = hn::Zero(d), b0 = hn::Zero(d), b1 = hn::Zero(d);
    for (int64_t c = 0; c < queries.head_dim; c += lanes) {
      const auto most = hn::LoadU(d, high + c);
      const auto least = hn::LoadU(d, low + c);
      a0 = hn::MulAdd(hn::LoadU(d, positive + first + c), most, a0);
      b0 = hn::MulAdd(hn::LoadU(d, positive + second + c), most, b0);
      a1 = hn::MulAdd(hn::LoadU(d, negative + first + c), least, a1);
      b1 = hn::MulAdd(hn::LoadU(d, negative + second + c), least, b1);
    }
    best = std::max(best, hn::GetLane(hn::SumOfLanes(d, hn::Add(a0, a1))));
    best = std::max(best, hn::GetLane(hn::SumOfLanes(d, hn::Add(b0, b1))));
  }
  return best;
}

}  // namespace tessera::kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera::kv {

HWY_EXPORT(TileScores);
HWY_EXPORT(SoftmaxMass);
HWY_EXPORT(AddExponentials);
HWY_EXPORT(UpperBound);

void tile_scores(const TileQueries& queries, const float* keys, float* scores) {
  HWY_DYNAMIC_DISPATCH(TileScores)(queries, keys, scores);
}

TileMass softmax_mass(const float* scores, int count) { return HWY_DYNAMIC_DISPATCH(SoftmaxMass)(scores, count); }

void add_exponentials(const float* scores, float shift, int count, float* sums) {
  HWY_DYNAMIC_DISPATCH(AddExponentials)(scores, shift, count, sums);
}

SplitQueries::SplitQueries(const float* queries, int64_t query_count, int64_t channels)
    : count(query_count), head_dim(channels) {
  const int64_t size = count * head_dim;
  positive.reserve(static_cast<size_t>(size));
  negative.reserve(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) {
    positive.push_back(std::max(queries[i], 0.0F));
    negative.push_back(std::min(queries[i], 0.0F));
  }
}

float upper_bound(const SplitQueries& queries, const float* low, const float* high) {
  return HWY_DYNAMIC_DISPATCH(UpperBound)(queries, low, high);
}

const float* TileKeys::of(const attention::KeyValueTile& tile) {
  if (tile.format == attention::TileFormat::f32) return reinterpret_cast<const float*>(tile.data);
  keys_.resize(static_cast<size_t>(head_dim_ * attention::kTileRows));
  values_.resize(keys_.size());
  attention::decode_tile(tile, head_dim_, keys_.data(), values_.data());
  return keys_.data();
}

}  // namespace tessera::kv
#endif
