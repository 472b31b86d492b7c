// The vector kernels of the cache floor, behind Highway's run-time dispatch.
#pragma once

#include <cstdint>
#include <vector>

#include "tessera/attention/tile.h"

namespace tessera::kv {

// scores[i][r] = sum_c queries[i][c] * keys[c][r] for the 64 rows of a tile.
//   queries [count][head_dim], keys [head_dim][64], scores [count][64]
struct TileQueries {
  const float* queries = nullptr;
  int64_t count = 0;
  int64_t head_dim = 0;
};
void tile_scores(const TileQueries& queries, const float* keys, float* scores);

// The softmax denominator of scores[0..count), count in 1..64: sum_r exp(scores[r] - top).
struct TileMass {
  float top = 0;  // the largest score
  float sum = 0;
};
TileMass softmax_mass(const float* scores, int count);

// sums[r] += exp(scores[r] - shift) for r < count, count in 1..64.
void add_exponentials(const float* scores, float shift, int count, float* sums);

// Queries split by sign, because max(q l, q h) = max(q, 0) h + min(q, 0) l wherever l <= h.
struct SplitQueries {
  SplitQueries(const float* queries, int64_t query_count, int64_t channels);

  int64_t count = 0;
  int64_t head_dim = 0;         // a multiple of 32
  std::vector<float> positive;  // [count][head_dim], max(q, 0)
  std::vector<float> negative;  // [count][head_dim], min(q, 0)
};
// The largest over the queries of sum_c max(q[c] * low[c], q[c] * high[c]). -infinity rather than NaN on broken input.
float upper_bound(const SplitQueries& queries, const float* low, const float* high);

// The keys [head_dim][64] of a tile in f32: in place when it is stored so, else decoded into a buffer.
class TileKeys {
 public:
  explicit TileKeys(int64_t head_dim) : head_dim_(head_dim) {}
  const float* of(const attention::KeyValueTile& tile);

 private:
  int64_t head_dim_;
  std::vector<float> keys_;    // [head_dim][64]
  std::vector<float> values_;  // [64][head_dim], decoded along
};

}  // namespace tessera::kv
