// Chosen rows of a head, copied into tiles of their own, so that the dense kernel reads them for a whole group at once.
#pragma once

#include <span>
#include <vector>

#include "tessera/attention/attention.h"

namespace tessera::kv {

class PackedRows {
 public:
  // rows: ascending, distinct, of `head`. Tiles keep their format when the chosen ones share an appendable one, else
  // they become f32. Cost: the bytes of the rows, copied in runs of neighbours; quantised tiles are decoded whole.
  PackedRows(const attention::HeadKeys& head, int64_t head_dim, std::span<const int32_t> rows);

  // The packed rows at their true positions; valid while this object lives.
  attention::HeadKeys keys() const { return {.tiles = tiles_, .positions = positions_, .rows = rows_}; }

 private:
  Tensor storage_;  // [tiles, tile_bytes]
  std::vector<attention::KeyValueTile> tiles_;
  std::vector<int32_t> positions_;  // [rows]
  int64_t rows_ = 0;
};

}  // namespace tessera::kv
