#include "kv/packed_rows.h"

#include <algorithm>
#include <cstring>

namespace tessera::kv {
namespace {

using attention::HeadKeys;
using attention::KeyValueTile;
using attention::kTileRows;
using attention::TileFormat;

TileFormat common_format(const HeadKeys& head, std::span<const int32_t> rows) {
  TileFormat common = TileFormat::f32;
  for (size_t i = 0; i < rows.size(); ++i) {
    const TileFormat format = head.tiles[static_cast<size_t>(rows[i] / kTileRows)].format;
    if (i == 0) common = format;
    if (format != common || !attention::is_appendable(format)) return TileFormat::f32;
  }
  return common;
}

// The bytes of a tile in `format`: as stored, or decoded into `buffer`, which remembers the tile it holds.
struct ExpandedTile {
  const KeyValueTile* held = nullptr;
  std::vector<float> buffer;  // keys [head_dim][64], values [64][head_dim]

  const std::byte* of(const KeyValueTile& tile, TileFormat format, int64_t head_dim) {
    if (tile.format == format) return tile.data;
    if (held != &tile) {
      buffer.resize(static_cast<size_t>(2 * kTileRows * head_dim));
      attention::decode_tile(tile, head_dim, buffer.data(), buffer.data() + kTileRows * head_dim);
      held = &tile;
    }
    return reinterpret_cast<const std::byte*>(buffer.data());
  }
};

// Copies `count` rows between tiles of one appendable format; element: bytes of one.
struct RunCopy {
  int64_t head_dim;
  int64_t element;

  void operator()(const std::byte* source, int from, std::byte* target, int to, int count) const {
    for (int64_t c = 0; c < head_dim; ++c) {
      std::memcpy(target + (c * kTileRows + to) * element, source + (c * kTileRows + from) * element,
                  static_cast<size_t>(count * element));
    }
    const int64_t values = kTileRows * head_dim;
    std::memcpy(target + (values + to * head_dim) * element, source + (values + from * head_dim) * element,
                static_cast<size_t>(count * head_dim * element));
  }
};

}  // namespace

PackedRows::PackedRows(const HeadKeys& head, int64_t head_dim, std::span<const int32_t> rows)
    : rows_(std::ssize(rows)) {
  const TileFormat format = common_format(head, rows);
  const int64_t tile_bytes = attention::tile_bytes(format, head_dim);
  const int64_t count = (rows_ + kTileRows - 1) / kTileRows;
  storage_ = Tensor::empty(DType::i32, {count, tile_bytes / 4});
  std::byte* base = storage_.mutable_raw();
  if (rows_ % kTileRows != 0) std::memset(base + (count - 1) * tile_bytes, 0, static_cast<size_t>(tile_bytes));

  const RunCopy copy{head_dim, format == TileFormat::f32 ? 4 : 2};
  ExpandedTile expanded;
  for (int64_t done = 0; done < rows_;) {
    const int32_t row = rows[static_cast<size_t>(done)];
    const int from = row % kTileRows;
    const int to = static_cast<int>(done % kTileRows);
    const int64_t room = std::min<int64_t>(kTileRows - std::max(from, to), rows_ - done);
    int run = 1;  // neighbours within both tiles
    while (run < room && rows[static_cast<size_t>(done + run)] == row + run) ++run;
    const KeyValueTile& source = head.tiles[static_cast<size_t>(row / kTileRows)];
    copy(expanded.of(source, format, head_dim), from, base + done / kTileRows * tile_bytes, to, run);
    done += run;
  }
  for (int64_t t = 0; t < count; ++t) {
    const auto valid = static_cast<int32_t>(std::min<int64_t>(kTileRows, rows_ - t * kTileRows));
    tiles_.push_back({.data = base + t * tile_bytes, .rows = valid, .format = format});
  }
  positions_.reserve(rows.size());
  for (const int32_t row : rows) positions_.push_back(static_cast<int32_t>(head.position(row)));
}

}  // namespace tessera::kv
