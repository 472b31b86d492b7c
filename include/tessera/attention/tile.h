// Key/value tiles: how up to 64 rows of one KV head are stored for the kernels.
//
// A tile is the unit that kernels read, work lists name and the cache allocates (one page = one tile). Keys lie
// channel-major, so that a score tile is a product without transposition; values lie row-major:
//
//   f32, bf16, f16   keys   [head_dim][64]   element (channel c, row r) at c * 64 + r
//                    values [64][head_dim]
//   kivi4, kivi2     asymmetric 4 or 2 bit codes (KIVI, arXiv 2402.02750): x = zero + scale * code. Keys are grouped along
//                    rows (one channel, `kQuantGroup` rows), values along channels (one row, `kQuantGroup` channels).
//                    Byte layout: see tile_layout() in tile.cpp.
//
// Rows at and beyond `rows` hold finite but meaningless numbers; kernels mask them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tessera::attention {

constexpr int kTileRows = 64;    // rows of a key tile and of a query tile
constexpr int kQuantGroup = 32;  // elements that share one scale and zero in kivi tiles

enum class TileFormat : uint8_t { f32, bf16, f16, kivi4, kivi2 };

std::string_view to_string(TileFormat format);

// Bytes of one tile, keys and values together; head_dim must be a multiple of 32.
int64_t tile_bytes(TileFormat format, int64_t head_dim);

// A full-precision tile accepts rows one by one; a kivi tile is written whole.
constexpr bool is_appendable(TileFormat format) { return format <= TileFormat::f16; }

struct KeyValueTile {
  const std::byte* data = nullptr;  // tile_bytes(format, head_dim) bytes, aligned to 64
  int32_t rows = 0;                 // valid rows, 1..64
  TileFormat format = TileFormat::f32;
};

// Writes rows [at, at + count) of an appendable tile. keys, values: row r at keys + r * row_stride, head_dim floats each.
struct RowSource {
  const float* keys = nullptr;
  const float* values = nullptr;
  int64_t row_stride = 0;  // floats between two rows
};
void write_rows(std::byte* tile, TileFormat format, int64_t head_dim, int at, int count, const RowSource& source);

// Encodes a whole tile from f32 rows (64 of them; rows beyond the valid ones must be finite, repeat the last row).
void encode_tile(std::byte* tile, TileFormat format, int64_t head_dim, const RowSource& source);

// Expands a tile to f32: keys [head_dim][64], values [64][head_dim].
void decode_tile(const KeyValueTile& tile, int64_t head_dim, float* keys, float* values);

// Copies one row out of a tile as f32: key[head_dim], value[head_dim].
void read_row(const KeyValueTile& tile, int64_t head_dim, int row, float* key, float* value);

}  // namespace tessera::attention
