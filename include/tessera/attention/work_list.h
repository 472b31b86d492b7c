// Work list: what to compute, not how. Selectors only produce work lists; back ends only consume them.
//
// For each query head: per query tile (64 query rows) the sorted key tiles to compute, and one sorted list of single
// key rows ("columns"), of which query tile t uses the first column_end[t]. A column that lies in a listed tile of the
// same query tile is computed once. Causality is applied by the kernel, so lists may name more than is visible.
// Size: O(columns + tiles) per head.
#pragma once

#include <cstdint>
#include <vector>

namespace tessera::attention {

struct HeadWork {
  bool dense = false;                  // every causal tile; the lists are empty then
  std::vector<int64_t> tile_begin;     // [query_tiles + 1], offsets into `tiles`
  std::vector<int32_t> tiles;          // key tile indices, ascending and distinct within a query tile
  std::vector<int32_t> columns;        // key row indices, ascending and distinct
  std::vector<int32_t> column_end;     // [query_tiles], non-decreasing; empty when there are no columns
};

struct WorkList {
  int64_t query_rows = 0;
  int64_t key_rows = 0;           // the largest row count over the KV heads
  int64_t first_position = 0;     // true position of query row 0
  std::vector<HeadWork> heads;    // [query_heads]

  int64_t query_tiles() const { return (query_rows + 63) / 64; }
};

// Throws Error(internal) when a list breaks the rules above (sorted, distinct, in range). For tests and debug builds.
void check(const WorkList& work);

// Area that a kernel computes for `work` (tiles in full, columns in groups of 16) over the area dense attention computes
// with the same tiles; mean over heads. 1 for dense, more than 1 is possible for wasteful lists.
double executed_density(const WorkList& work);

}  // namespace tessera::attention
