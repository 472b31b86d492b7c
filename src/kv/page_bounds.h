// Per-channel minimum and maximum of the keys of small pages (parts of a tile), kept beside a cache.
#pragma once

#include <cstdint>
#include <vector>

#include "kv/kernels.h"
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

  // The upper bound of one page: not below any product of one of the queries with a key of the page.
  float bound(int64_t page_index, const SplitQueries& queries) const;

  int64_t bytes() const;

 private:
  int64_t pages_per_tile_ = 1;
  std::vector<Counted<TileBounds>> tiles_;
};

}  // namespace tessera::kv
