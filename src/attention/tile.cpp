#include "tessera/attention/tile.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "attention/kernels.h"
#include "attention/tile_layout.h"
#include "tessera/base/error.h"
#include "tessera/tensor/dtype.h"

namespace tessera::attention {
namespace {

constexpr float kLargestHalf = 65504.0F;

uint16_t encode_half(float value) { return f32_to_f16(std::clamp(value, -kLargestHalf, kLargestHalf)); }

// Quantises 32 values into one group.
void encode_group(const float* values, int bits, uint16_t* scale_bits, uint16_t* zero_bits, uint8_t* codes) {
  const auto [low, high] = std::minmax_element(values, values + kQuantGroup);
  const int levels = (1 << bits) - 1;
  *zero_bits = encode_half(*low);
  const float zero = f16_to_f32(*zero_bits);
  *scale_bits = encode_half((*high - zero) / static_cast<float>(levels));
  const float scale = f16_to_f32(*scale_bits);
  const float inverse = scale > 0 ? 1.0F / scale : 0.0F;
  const int per_byte = 8 / bits;
  const int bytes = kQuantGroup / per_byte;
  std::fill_n(codes, bytes, uint8_t{0});
  for (int i = 0; i < kQuantGroup; ++i) {
    const float level = std::clamp(std::nearbyint((values[i] - zero) * inverse), 0.0F, static_cast<float>(levels));
    codes[i % bytes] = static_cast<uint8_t>(codes[i % bytes] | (static_cast<int>(level) << (i / bytes * bits)));
  }
}

float decode_element(const uint8_t* codes, int bits, int index, uint16_t scale, uint16_t zero) {
  const int bytes = kQuantGroup * bits / 8;
  const int code = (codes[index % bytes] >> (index / bytes * bits)) & ((1 << bits) - 1);
  return f16_to_f32(zero) + f16_to_f32(scale) * static_cast<float>(code);
}

template <typename T>
const T* at(const std::byte* base, int64_t offset) {
  return reinterpret_cast<const T*>(base + offset);
}
template <typename T>
T* at(std::byte* base, int64_t offset) {
  return reinterpret_cast<T*>(base + offset);
}

void encode_kivi(std::byte* tile, TileFormat format, int64_t head_dim, const RowSource& source) {
  const KiviLayout layout = kivi_layout(format, head_dim);
  std::array<float, kQuantGroup> group;
  for (int64_t c = 0; c < head_dim; ++c) {
    for (int64_t g = 0; g < kGroupsPerChannel; ++g) {
      for (int64_t i = 0; i < kQuantGroup; ++i) {
        group[static_cast<size_t>(i)] = source.keys[(g * kQuantGroup + i) * source.row_stride + c];
      }
      const int64_t index = c * kGroupsPerChannel + g;
      encode_group(group.data(), layout.bits, at<uint16_t>(tile, layout.key_scales) + index,
                   at<uint16_t>(tile, layout.key_zeros) + index,
                   at<uint8_t>(tile, layout.key_codes) + index * layout.group_bytes);
    }
  }
  const int64_t groups = head_dim / kQuantGroup;
  for (int64_t r = 0; r < kTileRows; ++r) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t index = r * groups + g;
      encode_group(source.values + r * source.row_stride + g * kQuantGroup, layout.bits,
                   at<uint16_t>(tile, layout.value_scales) + index, at<uint16_t>(tile, layout.value_zeros) + index,
                   at<uint8_t>(tile, layout.value_codes) + index * layout.group_bytes);
    }
  }
}

template <typename T, T (*convert)(float)>
void write_plain(std::byte* tile, int64_t head_dim, int first, int count, const RowSource& source) {
  T* keys = reinterpret_cast<T*>(tile);
  T* values = keys + kTileRows * head_dim;
  // Eight channels at a time: the strided stores of neighbouring rows then share cache lines that are still near.
  for (int64_t c0 = 0; c0 < head_dim; c0 += 8) {
    for (int64_t r = 0; r < count; ++r) {
      const float* key = source.keys + r * source.row_stride;
      for (int64_t c = c0; c < c0 + 8; ++c) keys[c * kTileRows + first + r] = convert(key[c]);
    }
  }
  for (int64_t r = 0; r < count; ++r) {
    const float* value = source.values + r * source.row_stride;
    T* target = values + (first + r) * head_dim;
    for (int64_t c = 0; c < head_dim; ++c) target[c] = convert(value[c]);
  }
}

float identity(float value) { return value; }

template <typename T, float (*convert)(T)>
void read_plain(const std::byte* tile, int64_t head_dim, int row, float* key, float* value) {
  const T* keys = reinterpret_cast<const T*>(tile);
  const T* values = keys + kTileRows * head_dim;
  for (int64_t c = 0; c < head_dim; ++c) key[c] = convert(keys[c * kTileRows + row]);
  for (int64_t c = 0; c < head_dim; ++c) value[c] = convert(values[row * head_dim + c]);
}

void read_kivi(const KeyValueTile& tile, int64_t head_dim, int row, float* key, float* value) {
  const KiviLayout layout = kivi_layout(tile.format, head_dim);
  for (int64_t c = 0; c < head_dim; ++c) {
    const int64_t index = c * kGroupsPerChannel + row / kQuantGroup;
    key[c] = decode_element(at<uint8_t>(tile.data, layout.key_codes) + index * layout.group_bytes, layout.bits,
                            row % kQuantGroup, at<uint16_t>(tile.data, layout.key_scales)[index],
                            at<uint16_t>(tile.data, layout.key_zeros)[index]);
  }
  for (int64_t c = 0; c < head_dim; ++c) {
    const int64_t index = row * (head_dim / kQuantGroup) + c / kQuantGroup;
    value[c] = decode_element(at<uint8_t>(tile.data, layout.value_codes) + index * layout.group_bytes, layout.bits,
                              static_cast<int>(c % kQuantGroup), at<uint16_t>(tile.data, layout.value_scales)[index],
                              at<uint16_t>(tile.data, layout.value_zeros)[index]);
  }
}

}  // namespace

std::string_view to_string(TileFormat format) {
  switch (format) {
    case TileFormat::f32:
      return "f32";
    case TileFormat::bf16:
      return "bf16";
    case TileFormat::f16:
      return "f16";
    case TileFormat::kivi4:
      return "kivi4";
    case TileFormat::kivi2:
      return "kivi2";
  }
  return "unknown";
}

int64_t tile_bytes(TileFormat format, int64_t head_dim) {
  TESSERA_ASSERT(head_dim > 0 && head_dim % kQuantGroup == 0);
  if (is_kivi(format)) return kivi_layout(format, head_dim).total;
  return 2 * kTileRows * head_dim * (format == TileFormat::f32 ? 4 : 2);
}

void write_rows(std::byte* tile, TileFormat format, int64_t head_dim, int at, int count, const RowSource& source) {
  TESSERA_ASSERT(is_appendable(format) && at >= 0 && count >= 0 && at + count <= kTileRows && head_dim % 32 == 0);
  switch (format) {
    case TileFormat::f32:
      write_plain<float, identity>(tile, head_dim, at, count, source);
      break;
    case TileFormat::bf16:
      write_plain<uint16_t, f32_to_bf16>(tile, head_dim, at, count, source);
      break;
    case TileFormat::f16:
      write_plain<uint16_t, encode_half>(tile, head_dim, at, count, source);
      break;
    default:
      break;
  }
}

void encode_tile(std::byte* tile, TileFormat format, int64_t head_dim, const RowSource& source) {
  if (is_kivi(format)) {
    encode_kivi(tile, format, head_dim, source);
  } else {
    write_rows(tile, format, head_dim, 0, kTileRows, source);
  }
}

void decode_tile(const KeyValueTile& tile, int64_t head_dim, float* keys, float* values) {
  expand_tile(tile, head_dim, keys, values);
}

void read_row(const KeyValueTile& tile, int64_t head_dim, int row, float* key, float* value) {
  TESSERA_ASSERT(row >= 0 && row < kTileRows);
  switch (tile.format) {
    case TileFormat::f32:
      read_plain<float, identity>(tile.data, head_dim, row, key, value);
      break;
    case TileFormat::bf16:
      read_plain<uint16_t, bf16_to_f32>(tile.data, head_dim, row, key, value);
      break;
    case TileFormat::f16:
      read_plain<uint16_t, f16_to_f32>(tile.data, head_dim, row, key, value);
      break;
    default:
      read_kivi(tile, head_dim, row, key, value);
      break;
  }
}

}  // namespace tessera::attention
