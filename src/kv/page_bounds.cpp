#include "kv/page_bounds.h"

#include <algorithm>
#include <limits>

namespace tessera::kv {
namespace {

using attention::KeyValueTile;
using attention::kTileRows;

// Takes in rows [bounds.rows, tile.rows) of a tile with keys [head_dim][64].
void take_in(TileBounds& bounds, const KeyValueTile& tile, const float* keys, int64_t page) {
  const int64_t head_dim = std::ssize(bounds.low) / (kTileRows / page);
  for (int64_t begin = bounds.rows; begin < tile.rows;) {
    const int64_t end = std::min<int64_t>(tile.rows, (begin / page + 1) * page);
    float* low = bounds.low.data() + begin / page * head_dim;
    float* high = bounds.high.data() + begin / page * head_dim;
    for (int64_t c = 0; c < head_dim; ++c) {
      for (int64_t row = begin; row < end; ++row) {
        low[c] = std::min(low[c], keys[c * kTileRows + row]);
        high[c] = std::max(high[c], keys[c * kTileRows + row]);
      }
    }
    begin = end;
  }
  bounds.rows = tile.rows;
}

}  // namespace

void HeadBounds::update(const HeadTable& table, int64_t head_dim, int64_t page) {
  pages_per_tile_ = kTileRows / page;
  tiles_.resize(table.tiles.size());
  TileKeys keys(head_dim);
  for (size_t t = 0; t < tiles_.size(); ++t) {
    const KeyValueTile& tile = table.tiles[t];
    const uint64_t stamp = table.pages[t].stamp();
    Counted<TileBounds>& known = tiles_[t];
    const bool valid = known && known->stamp == stamp && known->rows <= tile.rows;
    if (valid && known->rows == tile.rows) continue;
    if (!valid) {
      const auto size = static_cast<size_t>(pages_per_tile_ * head_dim);
      known = Counted<TileBounds>::make(stamp, 0, std::vector<float>(size, std::numeric_limits<float>::infinity()),
                                        std::vector<float>(size, -std::numeric_limits<float>::infinity()));
    } else if (!known.unique()) {
      known = Counted<TileBounds>::make(*known);
    }
    take_in(known.edit(), tile, keys.of(tile), page);
  }
}

float HeadBounds::bound(int64_t page_index, const SplitQueries& queries) const {
  const TileBounds& bounds = *tiles_[static_cast<size_t>(page_index / pages_per_tile_)];
  const int64_t offset = page_index % pages_per_tile_ * queries.head_dim;
  return upper_bound(queries, bounds.low.data() + offset, bounds.high.data() + offset);
}

int64_t HeadBounds::bytes() const {
  int64_t total = 0;
  for (const Counted<TileBounds>& tile : tiles_) {
    total += static_cast<int64_t>((tile->low.size() + tile->high.size()) * sizeof(float));
  }
  return total;
}

}  // namespace tessera::kv
