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
  bool dense = false;               // every causal tile; the lists are empty then
  std::vector<int64_t> tile_begin;  // [query_tiles + 1], offsets into `tiles`
  std::vector<int32_t> tiles;       // key tile indices, ascending and distinct within a query tile
  std::vector<int32_t> columns;     // key row indices, ascending and distinct
  std::vector<int32_t> column_end;  // [query_tiles], non-decreasing; empty when there are no columns
};

struct WorkList {
  int64_t query_rows = 0;
  int64_t key_rows = 0;         // the largest row count over the KV heads
  int64_t first_position = 0;   // true position of query row 0
  std::vector<HeadWork> heads;  // [query_heads]

  // [kv_heads * query_tiles], key rows that the last query row of a tile sees, KV head by KV head. Empty: the rows have
  // no gaps, so the query row at position p sees min(key_rows, p + 1) of them.
  std::vector<int32_t> visible;

  int64_t query_tiles() const { return (query_rows + 63) / 64; }
  // Key rows that query tile `tile` of query head `head` sees.
  int64_t visible_rows(int64_t head, int64_t tile) const;
};

// Throws Error(internal) when a list breaks the rules above (sorted, distinct, in range). For tests and debug builds.
void check(const WorkList& work);

// Area that a kernel computes for `work` over the area that dense attention computes with the same tiles; mean over
// heads. Tiles count in full, columns one by one (the kernel computes no others), a column inside a listed tile not at
// all, and nothing that lies in the future of a whole query tile. In [0, 1]; 1 for dense.
double executed_density(const WorkList& work);

}  // namespace tessera::attention
