// Body of the kernel that fills a page of one KV head from bf16 rows.
#pragma once

#include "attention/cuda/decode_format.h"

namespace tessera::attention::cuda {

constexpr int kPageThreads = 128;
using PageBlock = Block<kPageThreads>;

struct PageSource {
  const uint16_t* keys;  // first row of the page, bf16
  const uint16_t* values;
  int64_t key_stride, value_stride;  // elements per row
  int32_t rows;                      // 1..64
};

struct PageTarget {
  uint8_t* key;
  uint8_t* value;
  uint8_t* bounds;  // null: none
};

struct Range {
  float low, high;
  TESSERA_SIMT void add(float x) {
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
};

// Scale and zero as they are stored; a constant group has scale 1.
struct Group {
  float scale, zero;
};

template <typename Pages>
TESSERA_SIMT inline Group group_of(const Range& range) {
  constexpr bool kFloating = Pages::kFormat == PageFormat::fp8;
  const float span = kFloating ? (range.high > -range.low ? range.high : -range.low) : range.high - range.low;
  const float scale = Half::decode(Half::encode(span / (kFloating ? 448.0F : Pages::kBits == 8 ? 255.0F : 15.0F)));
  return {scale > 0 ? scale : 1, kFloating ? 0 : Half::decode(Half::encode(range.low))};
}

// To the nearest e4m3 number, ties to even, saturating at 448.
TESSERA_SIMT inline uint32_t encode_e4m3(float x) {
  const float size = fabsf(x) < 448.0F ? fabsf(x) : 448.0F;
  const uint32_t sign = x < 0 ? 0x80u : 0u;
  if (size < 0.015625F) return sign | static_cast<uint32_t>(rintf(size * 512.0F));  // subnormals: steps of 2^-9
  uint32_t bits;
  memcpy(&bits, &size, 4);
  bits += 0x7ffffu + (bits >> 20 & 1u);
  return sign | ((bits >> 20) - (120u << 3));
}

template <typename Pages>
TESSERA_SIMT inline uint32_t code_of(float x, const Group& group) {
  const float scaled = (x - group.zero) / group.scale;
  if constexpr (Pages::kFormat == PageFormat::fp8) {
    return encode_e4m3(scaled);
  } else {
    const float top = Pages::kBits == 8 ? 255.0F : 15.0F;
    const float rounded = rintf(scaled);
    return static_cast<uint32_t>(rounded < 0 ? 0 : rounded > top ? top : rounded);
  }
}

// Codes of the channels of word `word` of a row. `value(c)` and `group(c)` give a channel's number and group.
template <typename Pages, typename Value, typename GroupOf>
TESSERA_SIMT inline uint32_t word_of(int word, const Value& value, const GroupOf& group) {
  constexpr int kChannels = 32 / Pages::kBits;
  uint32_t bits = 0;
  for (int i = 0; i < kChannels; ++i) {
    const int channel = word * kChannels + i;
    if constexpr (Pages::kFormat == PageFormat::bf16) {
      bits |= static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16(value(channel)))) << (16 * i);
    } else if constexpr (Pages::kBits == 4) {
      bits |= code_of<Pages>(value(channel), group(channel)) << (4 * (i / 2) + 16 * (i % 2));
    } else {
      bits |= code_of<Pages>(value(channel), group(channel)) << (8 * i);
    }
  }
  return bits;
}

template <typename Pages, int kDim>
TESSERA_SIMT inline void write_page(const PageBlock& block, const PageSource& source, const PageTarget& target) {
  using Shape = PageShape<Pages, kDim>;
  constexpr int kWords = Shape::kRowBytes / 4;
  const auto key = [&](int row, int c) { return Bfloat::decode(source.keys[row * source.key_stride + c]); };
  const auto value = [&](int row, int c) { return Bfloat::decode(source.values[row * source.value_stride + c]); };
  auto* key_parameters = reinterpret_cast<uint16_t*>(target.key + Shape::kCodeBytes);
  auto* value_parameters = reinterpret_cast<uint16_t*>(target.value + Shape::kCodeBytes);
  auto* bounds = reinterpret_cast<uint16_t*>(target.bounds);
  block.each([&](int thread) {
    for (int c = thread; c < kDim; c += kPageThreads) {
      Range range = {INFINITY, -INFINITY};
      for (int row = 0; row < source.rows; ++row) range.add(key(row, c));
      if (bounds != nullptr) {
        bounds[c] = __bfloat16_as_ushort(__float2bfloat16(range.low));
        bounds[kDim + c] = __bfloat16_as_ushort(__float2bfloat16(range.high));
      }
      if constexpr (Pages::kScaled) {
        const Group group = group_of<Pages>(range);
        key_parameters[c] = Half::encode(group.scale);
        if constexpr (Pages::kZeroed) key_parameters[kDim + c] = Half::encode(group.zero);
      }
    }
    if constexpr (Pages::kScaled) {
      for (int row = thread; row < kPageRows; row += kPageThreads) {
        Range range = {INFINITY, -INFINITY};
        for (int c = 0; c < kDim && row < source.rows; ++c) range.add(value(row, c));
        const Group group = row < source.rows ? group_of<Pages>(range) : Group{1, 0};
        value_parameters[row] = Half::encode(group.scale);
        if constexpr (Pages::kZeroed) value_parameters[kPageRows + row] = Half::encode(group.zero);
      }
    }
  });
  block.each([&](int thread) {
    for (int i = thread; i < kPageRows * kWords; i += kPageThreads) {
      const int row = i / kWords;
      uint32_t key_word = 0;
      uint32_t value_word = 0;
      if (row < source.rows) {
        key_word = word_of<Pages>(
            i % kWords, [&](int c) { return key(row, c); },
            [&](int c) {
              return Group{Half::decode(key_parameters[c]),
                           Pages::kZeroed ? Half::decode(key_parameters[kDim + c]) : 0};
            });
        const Group group = {Pages::kScaled ? Half::decode(value_parameters[row]) : 1,
                             Pages::kZeroed ? Half::decode(value_parameters[kPageRows + row]) : 0};
        value_word = word_of<Pages>(
            i % kWords, [&](int c) { return value(row, c); }, [&](int) { return group; });
      }
      memcpy(target.key + 4 * i, &key_word, 4);
      memcpy(target.value + 4 * i, &value_word, 4);
    }
  });
}

}  // namespace tessera::attention::cuda
