#include "tessera/attention/work_list.h"

#include <algorithm>
#include <span>

#include "tessera/attention/tile.h"
#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

[[noreturn]] void fail(size_t head, const char* what) {
  throw Error(ErrorCode::internal, "work list of query head {}: {}", head, what);
}

// Ascending, distinct and in [0, limit).
bool is_sorted_set(std::span<const int32_t> items, int64_t limit) {
  if (items.empty()) return true;
  const bool ascending = std::adjacent_find(items.begin(), items.end(), std::greater_equal<>()) == items.end();
  return ascending && items.front() >= 0 && items.back() < limit;
}

void check_head(const WorkList& work, size_t index) {
  const HeadWork& head = work.heads[index];
  if (head.dense) {
    if (!head.tile_begin.empty() || !head.tiles.empty() || !head.columns.empty() || !head.column_end.empty()) {
      fail(index, "a dense head must have empty lists");
    }
    return;
  }
  const auto query_tiles = static_cast<size_t>(work.query_tiles());
  const auto tiles = static_cast<int64_t>(head.tiles.size());
  if (head.tile_begin.size() != query_tiles + 1 || head.tile_begin.front() != 0 || head.tile_begin.back() != tiles ||
      !std::is_sorted(head.tile_begin.begin(), head.tile_begin.end())) {
    fail(index, "tile_begin must be query_tiles + 1 ascending offsets from 0 to the number of tiles");
  }
  const int64_t key_tiles = (work.key_rows + kTileRows - 1) / kTileRows;
  for (size_t t = 0; t < query_tiles; ++t) {
    const auto first = static_cast<size_t>(head.tile_begin[t]);
    const auto count = static_cast<size_t>(head.tile_begin[t + 1]) - first;
    if (!is_sorted_set(std::span(head.tiles).subspan(first, count), key_tiles)) {
      fail(index, "the tiles of a query tile must be ascending, distinct and in range");
    }
  }
  if (!is_sorted_set(head.columns, work.key_rows)) fail(index, "columns must be ascending, distinct and in range");
  if (head.columns.empty() != head.column_end.empty()) fail(index, "column_end must be there exactly if columns are");
  if (head.columns.empty()) return;
  if (head.column_end.size() != query_tiles || head.column_end.front() < 0 ||
      head.column_end.back() > static_cast<int64_t>(head.columns.size()) ||
      !std::is_sorted(head.column_end.begin(), head.column_end.end())) {
    fail(index, "column_end must be query_tiles non-decreasing counts of columns");
  }
}

// Key rows that the kernel computes for one query tile.
int64_t computed_rows(const WorkList& work, size_t index, int64_t tile) {
  const HeadWork& head = work.heads[index];
  const int64_t visible = work.visible_rows(static_cast<int64_t>(index), tile);
  const int64_t visible_tiles = (visible + kTileRows - 1) / kTileRows;
  if (head.dense) return visible_tiles * kTileRows;
  const auto t = static_cast<size_t>(tile);
  const auto first = head.tiles.begin() + head.tile_begin[t];
  const auto last = std::lower_bound(first, head.tiles.begin() + head.tile_begin[t + 1], visible_tiles);
  int64_t rows = (last - first) * kTileRows;
  if (head.columns.empty()) return rows;
  auto listed = first;
  for (int32_t i = 0; i < head.column_end[t]; ++i) {
    const int32_t column = head.columns[static_cast<size_t>(i)];
    if (column >= visible) break;
    while (listed != last && *listed < column / kTileRows) ++listed;
    if (listed == last || *listed != column / kTileRows) ++rows;
  }
  return rows;
}

}  // namespace

int64_t WorkList::visible_rows(int64_t head, int64_t tile) const {
  const int64_t tiles = query_tiles();
  if (!visible.empty()) {
    const auto kv_heads = static_cast<int64_t>(visible.size()) / tiles;
    const int64_t group = static_cast<int64_t>(heads.size()) / kv_heads;
    return visible[static_cast<size_t>(head / group * tiles + tile)];
  }
  return std::min(key_rows, first_position + std::min((tile + 1) * kTileRows, query_rows));
}

void check(const WorkList& work) {
  if (work.query_rows < 0 || work.key_rows < 0 || work.first_position < 0) fail(0, "negative sizes");
  const auto tiles = static_cast<size_t>(work.query_tiles());
  if (!work.visible.empty()) {
    const size_t kv_heads = tiles == 0 ? 0 : work.visible.size() / tiles;
    if (kv_heads == 0 || kv_heads * tiles != work.visible.size() || work.heads.size() % kv_heads != 0) {
      fail(0, "visible must have one entry per KV head and query tile");
    }
  }
  for (size_t head = 0; head < work.heads.size(); ++head) check_head(work, head);
}

double executed_density(const WorkList& work) {
  double sum = 0;
  for (size_t head = 0; head < work.heads.size(); ++head) {
    int64_t computed = 0;
    int64_t dense = 0;
    for (int64_t tile = 0; tile < work.query_tiles(); ++tile) {
      computed += computed_rows(work, head, tile);
      dense += (work.visible_rows(static_cast<int64_t>(head), tile) + kTileRows - 1) / kTileRows * kTileRows;
    }
    sum += dense == 0 ? 1.0 : static_cast<double>(computed) / static_cast<double>(dense);
  }
  return work.heads.empty() ? 1.0 : sum / static_cast<double>(work.heads.size());
}

}  // namespace tessera::attention
