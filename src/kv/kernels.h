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

// sum_c max(query[c] * low[c], query[c] * high[c]); head_dim is a multiple of 32.
float upper_bound(const float* query, const float* low, const float* high, int64_t head_dim);

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
