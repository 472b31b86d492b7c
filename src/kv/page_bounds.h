// Per-channel minimum and maximum of the keys of small pages (parts of a tile), kept beside a cache.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tessera/kv/cache.h"

namespace tessera::kv {

// Bounds of the pages of one tile.
struct TileBounds {
  uint64_t stamp = 0;       // of the tile's page when they were taken
  int32_t rows = 0;         // rows taken in
  std::vector<float> low;   // [64 / page][head_dim]; pages without rows hold nothing
  std::vector<float> high;  // [64 / page][head_dim]
};

// The bounds of one (layer, KV head). Copies share what they know, tile by tile.
class HeadBounds {
 public:
  // Brings the bounds up to date with `table`: new rows are taken in, tiles under another stamp are taken anew, tiles
  // that are gone are forgotten. O(pages), plus O(head_dim) per new row.
  void update(const HeadTable& table, int64_t head_dim, int64_t page);

  // The largest sum_c max(query[c] * low[c], query[c] * high[c]) over queries [any][head_dim], for one page: not below
  // any product of one of the queries with a key of the page. -infinity rather than NaN on broken input.
  float bound(int64_t page_index, std::span<const float> queries) const;

  int64_t bytes() const;

 private:
  int64_t head_dim_ = 0;
  int64_t pages_per_tile_ = 1;
  std::vector<Counted<TileBounds>> tiles_;
};

}  // namespace tessera::kv
