// What the selectors share: geometry of an input in tiles, and writing work lists.
//
// Distances are counted in rows of the cache from a query's own row (the last row it sees), so they stay meaningful in
// caches with gaps; without gaps they are differences of positions.
#pragma once

#include <functional>
#include <vector>

#include "attention/block_state.h"
#include "tessera/attention/selector.h"

namespace tessera::attention {

// Rows of a KV head in terms of query rows and query tiles.
struct HeadGeometry {
  int64_t key_rows = 0;
  std::vector<int64_t> limits;  // [query rows], visible key rows; own row = limit - 1

  HeadGeometry(const AttentionInput& input, const HeadKeys& head);

  int64_t query_rows() const { return static_cast<int64_t>(limits.size()); }
  int64_t query_tiles() const { return (query_rows() + kTileRows - 1) / kTileRows; }
  int64_t key_tiles() const { return (key_rows + kTileRows - 1) / kTileRows; }
  // Own rows of the first and the last query row of a tile; -1 where a row sees nothing.
  int64_t first_own(int64_t tile) const { return limits[static_cast<size_t>(tile * kTileRows)] - 1; }
  int64_t last_own(int64_t tile) const {
    return limits[static_cast<size_t>(std::min((tile + 1) * kTileRows, query_rows()) - 1)] - 1;
  }
  // Key tiles that hold visible rows of a query tile: 0 .. visible_tiles - 1.
  int64_t visible_tiles(int64_t tile) const { return (last_own(tile) + kTileRows) / kTileRows; }
};

// Sizes and visible rows filled in; heads empty, one per query head.
WorkList start_work_list(const AttentionInput& input);

// Writes the tiles of one head query tile by query tile.
class TileWriter {
 public:
  explicit TileWriter(HeadWork& work) : work_(work) { work_.tile_begin.assign(1, 0); }
  // Key tiles of the current query tile, ascending calls; ranges [first, last] may overlap what was added already.
  void add(int64_t first, int64_t last);
  void end_query_tile();

 private:
  HeadWork& work_;
};

// Sets the columns (ascending, distinct) and how many of them each query tile may use: those that its last row sees.
void set_columns(HeadWork& work, std::vector<int32_t> columns, const HeadGeometry& geometry);

// Indices of the `count` largest values, ascending; ties go to the lower index.
std::vector<int32_t> largest_indices(const std::vector<float>& values, int64_t count);

// Tiles that diagonals touch: which of the distances 0 .. key_rows - 1 are wanted, answered per interval.
class DistanceSet {
 public:
  DistanceSet(const std::vector<int32_t>& distances, int64_t key_rows);
  // Whether a distance in [first, last] is wanted; bounds may lie outside the range.
  bool any(int64_t first, int64_t last) const;

 private:
  std::vector<int32_t> count_before_;  // [key_rows + 1]
};

// Adds every tile that a wanted diagonal crosses in query tile `tile`.
void add_diagonal_tiles(const DistanceSet& distances, const HeadGeometry& geometry, int64_t tile, TileWriter& writer);

inline ThreadPool& pool_of(const SelectContext& context) {
  return context.pool != nullptr ? *context.pool : ThreadPool::shared();
}

}  // namespace tessera::attention
