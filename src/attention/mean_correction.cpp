#include "attention/mean_correction.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/block_state.h"

namespace tessera::attention {
namespace {

// Means of one query head: one row per key tile, then one per group of tiles.
struct PooledRows {
  int64_t tiles = 0;
  hwy::AlignedFreeUniquePtr<float[]> keys;    // [tiles + groups][head_dim]
  hwy::AlignedFreeUniquePtr<float[]> values;  // [tiles + groups][head_dim]
  std::vector<int32_t> counts;                // [tiles + groups] rows that are no columns
  std::vector<float> offsets;                 // [tiles + groups] log(count) / scale

  int64_t groups() const { return (tiles + kTilesPerGroup - 1) / kTilesPerGroup; }
  int64_t rows() const { return tiles + groups(); }
};

// Means over the rows of each tile that are not among the columns.
PooledRows pool_rows(const HeadKeys& head, const HeadWork& work, const InputShape& shape) {
  PooledRows pooled;
  pooled.tiles = static_cast<int64_t>(head.tiles.size());
  const auto head_dim = static_cast<size_t>(shape.head_dim);
  const auto rows = static_cast<size_t>(pooled.rows());
  pooled.keys = hwy::AllocateAligned<float>(rows * head_dim);
  pooled.values = hwy::AllocateAligned<float>(rows * head_dim);
  pooled.counts.resize(rows);
  std::vector<double> sums(rows * head_dim * 2);  // keys, then values
  Workspace& workspace = Workspace::of_this_thread();
  auto column = work.columns.begin();
  for (int64_t tile = 0; tile < pooled.tiles; ++tile) {
    const TileKeys stored = workspace.expand(head.tiles[static_cast<size_t>(tile)], shape.head_dim);
    const auto row = static_cast<size_t>(tile);
    const size_t group = static_cast<size_t>(pooled.tiles + tile / kTilesPerGroup);
    double* sum = sums.data() + row * head_dim * 2;
    for (int64_t r = 0; r < std::min<int64_t>(kTileRows, head.rows - tile * kTileRows); ++r) {
      if (column != work.columns.end() && *column == tile * kTileRows + r) {
        ++column;
        continue;
      }
      ++pooled.counts[row];
      for (size_t c = 0; c < head_dim; ++c) {
        sum[c] += stored.keys[c * kTileRows + static_cast<size_t>(r)];
        sum[head_dim + c] += stored.values[static_cast<size_t>(r) * head_dim + c];
      }
    }
    pooled.counts[group] += pooled.counts[row];
    for (size_t c = 0; c < 2 * head_dim; ++c) sums[group * head_dim * 2 + c] += sum[c];
  }
  for (size_t row = 0; row < rows; ++row) {
    const double count = std::max(1, pooled.counts[row]);
    pooled.offsets.push_back(static_cast<float>(std::log(count) / shape.scale));
    for (size_t c = 0; c < head_dim; ++c) {
      pooled.keys[row * head_dim + c] = static_cast<float>(sums[row * head_dim * 2 + c] / count);
      pooled.values[row * head_dim + c] = static_cast<float>(sums[row * head_dim * 2 + head_dim + c] / count);
    }
  }
  return pooled;
}

// Rows of the means that stand for what query tile `query_tile` leaves out of the first `full_tiles` key tiles.
void find_rows(const PooledRows& pooled, std::span<const int32_t> listed, int64_t full_tiles, int levels,
               std::vector<int32_t>& rows) {
  rows.clear();
  auto next = listed.begin();
  for (int64_t first = 0; first < full_tiles; first += kTilesPerGroup) {
    const size_t before = rows.size();
    const int64_t last = std::min(first + kTilesPerGroup, full_tiles);
    for (int64_t tile = first; tile < last; ++tile) {
      while (next != listed.end() && *next < tile) ++next;
      if (next != listed.end() && *next == tile) continue;
      rows.push_back(static_cast<int32_t>(tile));
    }
    const bool all = static_cast<int64_t>(rows.size() - before) == kTilesPerGroup;
    if (levels == 2 && all && first + 2 * kTilesPerGroup <= full_tiles) {
      rows.resize(before);
      rows.push_back(static_cast<int32_t>(pooled.tiles + first / kTilesPerGroup));
    }
  }
  std::erase_if(rows, [&](int32_t row) { return pooled.counts[static_cast<size_t>(row)] == 0; });
}

}  // namespace

AttentionPartial attend_means(const AttentionInput& input, const WorkList& work, int levels, ThreadPool& pool) {
  const InputShape shape(input);
  AttentionPartial result = empty_partial(shape.rows, shape.query_heads, shape.head_dim);
  pool.parallel_for(0, shape.query_heads, 1, [&](int64_t h, int64_t, int) {
    const HeadWork& list = work.heads[static_cast<size_t>(h)];
    if (list.dense) return;
    const HeadKeys& head = input.heads[static_cast<size_t>(h / shape.group)];
    const std::vector<int64_t> limits = visible_rows(input, head);
    const PooledRows pooled = pool_rows(head, list, shape);
    Workspace& workspace = Workspace::of_this_thread();
    std::vector<int32_t> rows;
    for (int64_t tile = 0; tile < work.query_tiles(); ++tile) {
      const auto first = static_cast<size_t>(tile * kTileRows);
      const auto begin = static_cast<size_t>(list.tile_begin[static_cast<size_t>(tile)]);
      const auto end = static_cast<size_t>(list.tile_begin[static_cast<size_t>(tile) + 1]);
      // Limits ascend, so what the first row sees is seen by all rows of the tile.
      find_rows(pooled, std::span(list.tiles).subspan(begin, end - begin), limits[first] / kTileRows, levels, rows);
      if (rows.empty()) continue;
      std::array<LaneName, kBlockLanes> lanes;
      const auto count = std::min<size_t>(kBlockLanes, limits.size() - first);
      for (size_t i = 0; i < count; ++i) lanes[i] = {static_cast<int64_t>(first + i), h};
      BlockState& state = workspace.blocks[0];
      state.start(input, shape, std::span(lanes).first(count));
      for (size_t at = 0; at < rows.size(); at += kTileRows) {
        const RowKeys keys{pooled.keys.get(), pooled.values.get(), rows.data() + at, pooled.offsets.data()};
        update_block(state.block(), keys, static_cast<int>(std::min<size_t>(kTileRows, rows.size() - at)), nullptr,
                     workspace.scratch());
      }
      state.finish(result);
    }
  });
  return result;
}

}  // namespace tessera::attention
