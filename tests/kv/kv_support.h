// Rows, caches and fp64 references for the tests of the cache floor.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

#include "tessera/base/random.h"
#include "tessera/kv/cache.h"
#include "tessera/kv/policy.h"

namespace tessera::kv {

// [rows, heads, head_dim] f32, standard normal.
inline Tensor normal_rows(Random& random, int64_t rows, int64_t heads, int64_t head_dim) {
  Tensor tensor = Tensor::empty(DType::f32, {rows, heads, head_dim});
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.data<float>()[i] = static_cast<float>(random.normal());
  return tensor;
}

// [rows, heads, head_dim] f32, multiples of 1/8 in [-4, 4]: exact in every appendable format.
inline Tensor exact_rows(Random& random, int64_t rows, int64_t heads, int64_t head_dim) {
  Tensor tensor = Tensor::empty(DType::f32, {rows, heads, head_dim});
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    tensor.data<float>()[i] = static_cast<float>(random.below(65) - 32) / 8.0F;
  }
  return tensor;
}

struct Row {
  int64_t position = 0;
  std::vector<float> key;    // [head_dim]
  std::vector<float> value;  // [head_dim]
  bool operator==(const Row&) const = default;
};

inline Row row_of(const attention::HeadKeys& head, int64_t head_dim, int64_t row) {
  Row result{head.position(row), std::vector<float>(static_cast<size_t>(head_dim)),
             std::vector<float>(static_cast<size_t>(head_dim))};
  attention::read_row(head.tiles[static_cast<size_t>(row / 64)], head_dim, static_cast<int>(row % 64),
                      result.key.data(), result.value.data());
  return result;
}

inline std::vector<Row> rows_of(const attention::HeadKeys& head, int64_t head_dim) {
  std::vector<Row> rows;
  for (int64_t row = 0; row < head.rows; ++row) rows.push_back(row_of(head, head_dim, row));
  return rows;
}

inline std::vector<int32_t> positions_of(const KeyValueCache& cache, int layer, int head) {
  const LayerView view = cache.view(layer);
  std::vector<int32_t> positions;
  const attention::HeadKeys& keys = view.heads[static_cast<size_t>(head)];
  for (int64_t row = 0; row < keys.rows; ++row) positions.push_back(static_cast<int32_t>(keys.position(row)));
  return positions;
}

// A prompt of one layer: what a model hands to the cache.
struct Prompt {
  Tensor queries;  // [rows, query_heads, head_dim]
  Tensor keys;     // [rows, kv_heads, head_dim]
  Tensor values;   // [rows, kv_heads, head_dim]
  int64_t rows() const { return keys.shape()[0]; }
  int kv_heads() const { return static_cast<int>(keys.shape()[1]); }
  int64_t head_dim() const { return keys.shape()[2]; }
};

struct PromptShape {
  int64_t rows = 0;
  int64_t query_heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 32;
};

inline Prompt random_prompt(uint64_t seed, const PromptShape& shape) {
  Random random(seed);
  return {normal_rows(random, shape.rows, shape.query_heads, shape.head_dim),
          normal_rows(random, shape.rows, shape.kv_heads, shape.head_dim),
          normal_rows(random, shape.rows, shape.kv_heads, shape.head_dim)};
}

inline KeyValueCache cache_for(const Prompt& prompt, int layers = 1) {
  return KeyValueCache({.layers = layers, .kv_heads = prompt.kv_heads(), .head_dim = prompt.head_dim()},
                       std::make_shared<PagePool>());
}

// Appends rows [begin, end) of the prompt to a layer, `chunk` at a time.
inline void append_prompt(KeyValueCache& cache, const Prompt& prompt, int64_t chunk, int layer = 0) {
  for (int64_t at = 0; at < prompt.rows(); at += chunk) {
    const int64_t count = std::min(chunk, prompt.rows() - at);
    cache.append(layer, prompt.keys.slice(at, count), prompt.values.slice(at, count), at);
  }
}

inline PrefillEnd end_of(const Prompt& prompt, const CachePolicy& policy, ThreadPool* pool = nullptr) {
  PrefillEnd end{.pool = pool};
  const int64_t window = std::min(policy.observation_window(), prompt.rows());
  if (window > 0) end.last_queries = prompt.queries.slice(prompt.rows() - window, window);
  end.first_position = prompt.rows() - window;
  return end;
}

// Attention in fp64 of query row i (position first_position + i) over the rows of `view`: [rows, query_heads,
// head_dim].
inline std::vector<double> reference_attention(const Tensor& queries, const LayerView& view, int64_t first_position) {
  const Shape& shape = queries.shape();
  const int64_t head_dim = shape[2];
  const int64_t group = shape[1] / std::ssize(view.heads);
  std::vector<double> out(static_cast<size_t>(queries.elements()), 0.0);
  for (int64_t h = 0; h < shape[1]; ++h) {
    const std::vector<Row> rows = rows_of(view.heads[static_cast<size_t>(h / group)], head_dim);
    for (int64_t i = 0; i < shape[0]; ++i) {
      const float* query = queries.data<float>() + (i * shape[1] + h) * head_dim;
      double* result = out.data() + (i * shape[1] + h) * head_dim;
      double total = 0;
      for (const Row& row : rows) {
        if (row.position > first_position + i) continue;
        double score = 0;
        for (int64_t c = 0; c < head_dim; ++c) score += static_cast<double>(query[c]) * row.key[static_cast<size_t>(c)];
        const double weight = std::exp(score / std::sqrt(static_cast<double>(head_dim)));
        total += weight;
        for (int64_t c = 0; c < head_dim; ++c) result[c] += weight * row.value[static_cast<size_t>(c)];
      }
      for (int64_t c = 0; c < head_dim; ++c) result[c] /= total;
    }
  }
  return out;
}

}  // namespace tessera::kv
