#include "attention/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace tessera::attention {
namespace {

struct DecodedHead {
  std::vector<float> keys;    // [rows][head_dim]
  std::vector<float> values;  // [rows][head_dim]
};

DecodedHead decode(const HeadKeys& head, int64_t head_dim) {
  DecodedHead decoded;
  decoded.keys.resize(static_cast<size_t>(head.rows * head_dim));
  decoded.values.resize(static_cast<size_t>(head.rows * head_dim));
  for (int64_t row = 0; row < head.rows; ++row) {
    read_row(head.tiles[static_cast<size_t>(row / kTileRows)], head_dim, static_cast<int>(row % kTileRows),
             decoded.keys.data() + row * head_dim, decoded.values.data() + row * head_dim);
  }
  return decoded;
}

double dot(const float* a, const float* b, int64_t size) {
  double sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

}  // namespace

AttentionPartial attend_reference(const AttentionInput& input, const PairAllowed& allowed) {
  check(input);
  const int64_t rows = input.queries.shape()[0];
  const int64_t heads = input.queries.shape()[1];
  const int64_t head_dim = input.queries.shape()[2];
  const int64_t group = heads / static_cast<int64_t>(input.heads.size());
  const double scale = input.scale != 0 ? input.scale : 1.0 / std::sqrt(static_cast<double>(head_dim));
  AttentionPartial result = empty_partial(rows, heads, head_dim);
  for (int64_t h = 0; h < heads; ++h) {
    const HeadKeys& head = input.heads[static_cast<size_t>(h / group)];
    const DecodedHead decoded = decode(head, head_dim);
    for (int64_t row = 0; row < rows; ++row) {
      const float* query = input.queries.data<float>() + (row * heads + h) * head_dim;
      std::vector<int64_t> keys;
      std::vector<double> scores;
      for (int64_t key = 0; key < head.rows; ++key) {
        if (head.position(key) > input.first_position + row || !allowed(h, row, key)) continue;
        keys.push_back(key);
        scores.push_back(scale * dot(query, decoded.keys.data() + key * head_dim, head_dim));
      }
      if (keys.empty()) continue;
      const double top = *std::max_element(scores.begin(), scores.end());
      double sum = 0;
      std::vector<double> out(static_cast<size_t>(head_dim));
      for (size_t i = 0; i < keys.size(); ++i) {
        const double weight = std::exp(scores[i] - top);
        sum += weight;
        for (size_t c = 0; c < out.size(); ++c) {
          out[c] += weight * decoded.values[static_cast<size_t>(keys[i] * head_dim) + c];
        }
      }
      float* target = result.out.data<float>() + (row * heads + h) * head_dim;
      for (size_t c = 0; c < out.size(); ++c) target[c] = static_cast<float>(out[c] / sum);
      result.lse.data<float>()[row * heads + h] = static_cast<float>(top + std::log(sum));
    }
  }
  return result;
}

PairAllowed pairs_of(const WorkList& work) {
  return [&work](int64_t head, int64_t row, int64_t key) {
    const HeadWork& list = work.heads[static_cast<size_t>(head)];
    if (list.dense) return true;
    const auto tile = static_cast<size_t>(row / kTileRows);
    const auto begin = list.tiles.begin();
    if (std::binary_search(begin + list.tile_begin[tile], begin + list.tile_begin[tile + 1],
                           static_cast<int32_t>(key / kTileRows))) {
      return true;
    }
    return !list.columns.empty() &&
           std::binary_search(list.columns.begin(), list.columns.begin() + list.column_end[tile],
                              static_cast<int32_t>(key));
  };
}

}  // namespace tessera::attention
