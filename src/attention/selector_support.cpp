#include "attention/selector_support.h"

#include <algorithm>
#include <numeric>

namespace tessera::attention {

HeadGeometry::HeadGeometry(const AttentionInput& input, const HeadKeys& head)
    : key_rows(head.rows), limits(visible_rows(input, head)) {}

WorkList start_work_list(const AttentionInput& input) {
  check(input);
  WorkList work;
  work.query_rows = input.queries.shape()[0];
  work.first_position = input.first_position;
  work.heads.resize(static_cast<size_t>(input.queries.shape()[1]));
  for (const HeadKeys& head : input.heads) {
    work.key_rows = std::max(work.key_rows, head.rows);
    for (int64_t tile = 0; tile < work.query_tiles(); ++tile) {
      const int64_t last_row = std::min((tile + 1) * kTileRows, work.query_rows) - 1;
      work.visible.push_back(static_cast<int32_t>(visible_rows(head, input.first_position + last_row)));
    }
  }
  return work;
}

void TileWriter::add(int64_t first, int64_t last) {
  const bool has_tiles = static_cast<int64_t>(work_.tiles.size()) > work_.tile_begin.back();
  first = std::max<int64_t>(first, has_tiles ? work_.tiles.back() + 1 : 0);
  for (int64_t tile = first; tile <= last; ++tile) work_.tiles.push_back(static_cast<int32_t>(tile));
}

void TileWriter::end_query_tile() { work_.tile_begin.push_back(static_cast<int64_t>(work_.tiles.size())); }

void set_columns(HeadWork& work, std::vector<int32_t> columns, const HeadGeometry& geometry) {
  work.columns = std::move(columns);
  work.column_end.clear();
  if (work.columns.empty()) return;
  for (int64_t tile = 0; tile < geometry.query_tiles(); ++tile) {
    const auto end = std::upper_bound(work.columns.begin(), work.columns.end(), geometry.last_own(tile));
    work.column_end.push_back(static_cast<int32_t>(end - work.columns.begin()));
  }
}

std::vector<int32_t> largest_indices(const std::vector<float>& values, int64_t count) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  const auto kept = std::clamp<int64_t>(count, 0, static_cast<int64_t>(order.size()));
  std::nth_element(order.begin(), order.begin() + kept, order.end(), [&](int32_t a, int32_t b) {
    const float value_a = values[static_cast<size_t>(a)];
    const float value_b = values[static_cast<size_t>(b)];
    return value_a != value_b ? value_a > value_b : a < b;
  });
  order.resize(static_cast<size_t>(kept));
  std::sort(order.begin(), order.end());
  return order;
}

DistanceSet::DistanceSet(const std::vector<int32_t>& distances, int64_t key_rows)
    : count_before_(static_cast<size_t>(key_rows) + 1) {
  for (const int32_t distance : distances) ++count_before_[static_cast<size_t>(distance) + 1];
  std::partial_sum(count_before_.begin(), count_before_.end(), count_before_.begin());
}

bool DistanceSet::any(int64_t first, int64_t last) const {
  const auto size = static_cast<int64_t>(count_before_.size()) - 1;
  const auto begin = static_cast<size_t>(std::clamp<int64_t>(first, 0, size));
  const auto end = static_cast<size_t>(std::clamp<int64_t>(last + 1, 0, size));
  return begin < end && count_before_[end] > count_before_[begin];
}

void add_diagonal_tiles(const DistanceSet& distances, const HeadGeometry& geometry, int64_t tile, TileWriter& writer) {
  const int64_t first_own = geometry.first_own(tile);
  const int64_t last_own = geometry.last_own(tile);
  for (int64_t key_tile = 0; key_tile < geometry.visible_tiles(tile); ++key_tile) {
    const int64_t first_key = key_tile * kTileRows;
    if (distances.any(first_own - (first_key + kTileRows - 1), last_own - first_key)) writer.add(key_tile, key_tile);
  }
}

}  // namespace tessera::attention
