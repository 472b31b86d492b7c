// Where the parts of a tile lie, in bytes from its start. See tile.h for the meaning; D is the head dimension.
//
//   f32          0                 keys   float[D][64]
//                256 D             values float[64][D]
//   bf16, f16    0                 keys   uint16[D][64]
//                128 D             values uint16[64][D]
//   kivi B bits  0                 key scales    f16[D][2]       group g of channel c covers rows 32 g .. 32 g + 31
//                4 D               key zeros     f16[D][2]
//                8 D               value scales  f16[64][D / 32] group g of row r covers channels 32 g .. 32 g + 31
//                12 D              value zeros   f16[64][D / 32]
//                16 D              key codes     [D][2] groups of 4 B bytes
//                16 D + 8 B D      value codes   [64][D / 32] groups of 4 B bytes
//   A group of 32 codes: with 4 bits, byte b holds code b in its low and code b + 16 in its high half; with 2 bits,
//   byte b (0..7) holds codes b, b + 8, b + 16, b + 24 from its lowest bits up. x = zero + scale * code.
#pragma once

#include <cstdint>

#include "tessera/attention/tile.h"

namespace tessera::attention {

constexpr int64_t kGroupsPerChannel = kTileRows / kQuantGroup;

struct KiviLayout {
  int bits;
  int64_t key_scales, key_zeros, value_scales, value_zeros, key_codes, value_codes, total;  // bytes
  int64_t group_bytes;
};

constexpr bool is_kivi(TileFormat format) { return format == TileFormat::kivi4 || format == TileFormat::kivi2; }

constexpr KiviLayout kivi_layout(TileFormat format, int64_t head_dim) {
  const int bits = format == TileFormat::kivi4 ? 4 : 2;
  const int64_t codes = kTileRows * head_dim * bits / 8;
  return {.bits = bits,
          .key_scales = 0,
          .key_zeros = 4 * head_dim,
          .value_scales = 8 * head_dim,
          .value_zeros = 12 * head_dim,
          .key_codes = 16 * head_dim,
          .value_codes = 16 * head_dim + codes,
          .total = 16 * head_dim + 2 * codes,
          .group_bytes = kQuantGroup * bits / 8};
}

}  // namespace tessera::attention
