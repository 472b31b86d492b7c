// Inputs for the attention tests: a small cache with owned storage, random or planted content.
#pragma once

#include <gtest/gtest.h>
#include <hwy/aligned_allocator.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tessera/attention/attention.h"
#include "tessera/base/random.h"

namespace tessera::attention {

struct CacheShape {
  int64_t query_rows = 1;
  int64_t query_heads = 1;
  int64_t kv_heads = 1;
  int64_t head_dim = 32;
  int64_t key_rows = 1;
  TileFormat format = TileFormat::f32;
  uint64_t seed = 1;
};

// A cache and queries; the default first position puts the queries' own keys at the end of the cache.
class TestCache {
 public:
  explicit TestCache(const CacheShape& shape) : shape_(shape) {
    Random random(shape.seed);
    queries = Tensor::empty(DType::f32, {shape.query_rows, shape.query_heads, shape.head_dim});
    for (int64_t i = 0; i < queries.elements(); ++i) queries.data<float>()[i] = static_cast<float>(random.normal());
    for (int64_t h = 0; h < shape.kv_heads; ++h) {
      keys.emplace_back(static_cast<size_t>(shape.key_rows * shape.head_dim));
      values.emplace_back(keys.back().size());
      for (float& x : keys.back()) x = static_cast<float>(random.normal());
      for (float& x : values.back()) x = static_cast<float>(random.normal());
    }
    first_position = std::max<int64_t>(0, shape.key_rows - shape.query_rows);
    encode();
  }

  // Rebuilds the tiles from `keys` and `values`.
  void encode() {
    const int64_t tiles = (shape_.key_rows + kTileRows - 1) / kTileRows;
    const auto bytes = static_cast<size_t>(tile_bytes(shape_.format, shape_.head_dim));
    const auto row_floats = static_cast<size_t>(shape_.head_dim);
    storage_.clear();
    tiles_.assign(static_cast<size_t>(shape_.kv_heads), {});
    heads.assign(static_cast<size_t>(shape_.kv_heads), {});
    for (size_t h = 0; h < heads.size(); ++h) {
      for (int64_t t = 0; t < tiles; ++t) {
        storage_.push_back(hwy::AllocateAligned<std::byte>(bytes));
        const auto rows = static_cast<int32_t>(std::min<int64_t>(kTileRows, shape_.key_rows - t * kTileRows));
        std::vector<float> tile_keys;
        std::vector<float> tile_values;
        for (int64_t r = 0; r < kTileRows; ++r) {
          const int64_t row = std::min(t * kTileRows + r, shape_.key_rows - 1) * shape_.head_dim;
          tile_keys.insert(tile_keys.end(), keys[h].begin() + row, keys[h].begin() + row + shape_.head_dim);
          tile_values.insert(tile_values.end(), values[h].begin() + row, values[h].begin() + row + shape_.head_dim);
        }
        encode_tile(storage_.back().get(), shape_.format, shape_.head_dim,
                    {tile_keys.data(), tile_values.data(), static_cast<int64_t>(row_floats)});
        tiles_[h].push_back({storage_.back().get(), rows, shape_.format});
      }
      heads[h] = {.tiles = tiles_[h], .positions = positions, .rows = shape_.key_rows};
    }
  }

  // Gives the rows true positions with gaps: every third position is missing before the queries' own rows.
  void add_gaps() {
    positions.clear();
    int32_t position = 0;
    for (int64_t row = 0; row < shape_.key_rows; ++row) {
      positions.push_back(position);
      const bool own = row + 1 >= shape_.key_rows - shape_.query_rows;
      position += !own && row % 3 == 2 ? 2 : 1;
    }
    first_position = positions[static_cast<size_t>(std::max<int64_t>(0, shape_.key_rows - shape_.query_rows))];
    for (HeadKeys& head : heads) head.positions = positions;
  }

  AttentionInput input() const { return {.queries = queries, .heads = heads, .first_position = first_position}; }
  float* query(int64_t row, int64_t head) {
    return queries.data<float>() + (row * shape_.query_heads + head) * shape_.head_dim;
  }
  float* key(int64_t head, int64_t row) { return keys[static_cast<size_t>(head)].data() + row * shape_.head_dim; }

  Tensor queries;                          // [query_rows, query_heads, head_dim]
  std::vector<std::vector<float>> keys;    // [kv_heads][key_rows * head_dim]
  std::vector<std::vector<float>> values;  // [kv_heads][key_rows * head_dim]
  std::vector<int32_t> positions;          // [key_rows] or empty
  std::vector<HeadKeys> heads;
  int64_t first_position = 0;

 private:
  CacheShape shape_;
  std::vector<hwy::AlignedFreeUniquePtr<std::byte[]>> storage_;
  std::vector<std::vector<KeyValueTile>> tiles_;
};

inline double largest_difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.shape(), b.shape());
  double largest = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const double x = a.data<float>()[i];
    const double y = b.data<float>()[i];
    if (x == y) continue;  // covers equal infinities
    const double difference = std::abs(x - y);
    largest = std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::max(largest, difference);
  }
  return largest;
}

inline void expect_near(const AttentionPartial& found, const AttentionPartial& expected, double bound) {
  EXPECT_LE(largest_difference(found.out, expected.out), bound);
  EXPECT_LE(largest_difference(found.lse, expected.lse), bound);
}

inline void expect_identical(const AttentionPartial& a, const AttentionPartial& b) {
  EXPECT_EQ(largest_difference(a.out, b.out), 0);
  EXPECT_EQ(largest_difference(a.lse, b.lse), 0);
}

inline bool everything(int64_t, int64_t, int64_t) { return true; }

}  // namespace tessera::attention
