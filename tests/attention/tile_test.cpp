#include "tessera/attention/tile.h"

#include <gtest/gtest.h>
#include <hwy/aligned_allocator.h>
#include <hwy/targets.h>

#include <algorithm>
#include <vector>

#include "tessera/base/random.h"
#include "tessera/tensor/dtype.h"

namespace tessera::attention {
namespace {

constexpr TileFormat kFormats[] = {TileFormat::f32, TileFormat::bf16, TileFormat::f16, TileFormat::kivi4,
                                   TileFormat::kivi2};

struct Rows {
  std::vector<float> keys;    // [64][head_dim]
  std::vector<float> values;  // [64][head_dim]
  int64_t head_dim;

  Rows(int64_t dim, uint64_t seed, double offset = 0) : head_dim(dim) {
    Random random(seed);
    for (int64_t i = 0; i < kTileRows * dim; ++i) {
      keys.push_back(static_cast<float>(random.normal() + offset));
      values.push_back(static_cast<float>(2 * random.normal() - offset));
    }
  }
  RowSource source(int64_t first = 0) const {
    return {keys.data() + first * head_dim, values.data() + first * head_dim, head_dim};
  }
};

hwy::AlignedFreeUniquePtr<std::byte[]> allocate(TileFormat format, int64_t head_dim) {
  return hwy::AllocateAligned<std::byte>(static_cast<size_t>(tile_bytes(format, head_dim)));
}

// Largest error of a group of values under a format; `group` holds what shares a scale.
double error_bound(TileFormat format, double low, double high) {
  const double largest = std::max(std::abs(low), std::abs(high));
  switch (format) {
    case TileFormat::f32:
      return 0;
    case TileFormat::bf16:
      return largest / 256;
    case TileFormat::f16:
      return largest / 2048;
    // Half a level, plus the rounding of zero and scale to f16 (2^-11 of their size, the scale times the level count).
    case TileFormat::kivi4:
      return (high - low) / 30 + (largest + high - low) / 1024;
    case TileFormat::kivi2:
      return (high - low) / 6 + (largest + high - low) / 1024;
  }
  return 0;
}

TEST(Tile, SizesAreAsDocumented) {
  EXPECT_EQ(tile_bytes(TileFormat::f32, 64), 2 * 64 * 64 * 4);
  EXPECT_EQ(tile_bytes(TileFormat::bf16, 64), 2 * 64 * 64 * 2);
  EXPECT_EQ(tile_bytes(TileFormat::f16, 96), 2 * 64 * 96 * 2);
  // 64 * 96 codes for keys and values, and per group of 32 of them two halves.
  EXPECT_EQ(tile_bytes(TileFormat::kivi4, 96), 2 * (64 * 96 / 2 + 64 * 96 / 32 * 4));
  EXPECT_EQ(tile_bytes(TileFormat::kivi2, 96), 2 * (64 * 96 / 4 + 64 * 96 / 32 * 4));
}

TEST(Tile, ErrorStaysWithinTheBoundOfTheFormat) {
  for (const TileFormat format : kFormats) {
    for (const int64_t head_dim : {32, 64, 96, 256}) {
      for (const double offset : {0.0, 30.0}) {
        const Rows rows(head_dim, 3, offset);
        auto tile = allocate(format, head_dim);
        encode_tile(tile.get(), format, head_dim, rows.source());
        std::vector<float> keys(rows.keys.size());
        std::vector<float> values(rows.keys.size());
        decode_tile({tile.get(), kTileRows, format}, head_dim, keys.data(), values.data());
        for (int64_t c = 0; c < head_dim; ++c) {
          for (int64_t first = 0; first < kTileRows; first += kQuantGroup) {
            double low = 1e9;
            double high = -1e9;
            for (int64_t r = first; r < first + kQuantGroup; ++r) {
              const double x = rows.keys[static_cast<size_t>(r * head_dim + c)];
              low = std::min(low, x);
              high = std::max(high, x);
            }
            for (int64_t r = first; r < first + kQuantGroup; ++r) {
              ASSERT_NEAR(keys[static_cast<size_t>(c * kTileRows + r)],
                          rows.keys[static_cast<size_t>(r * head_dim + c)], error_bound(format, low, high));
            }
          }
        }
        for (size_t g = 0; g < values.size(); g += kQuantGroup) {
          const auto [low, high] = std::minmax_element(rows.values.begin() + static_cast<int64_t>(g),
                                                       rows.values.begin() + static_cast<int64_t>(g) + kQuantGroup);
          for (size_t i = g; i < g + kQuantGroup; ++i) {
            ASSERT_NEAR(values[i], rows.values[i], error_bound(format, *low, *high));
          }
        }
      }
    }
  }
}

TEST(Tile, ReadRowAgreesWithDecodeOnEveryTarget) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    for (const TileFormat format : kFormats) {
      for (const int64_t head_dim : {32, 160}) {
        const Rows rows(head_dim, 9);
        auto tile = allocate(format, head_dim);
        encode_tile(tile.get(), format, head_dim, rows.source());
        const KeyValueTile view{tile.get(), kTileRows, format};
        std::vector<float> keys(rows.keys.size());
        std::vector<float> values(rows.keys.size());
        decode_tile(view, head_dim, keys.data(), values.data());
        std::vector<float> key(static_cast<size_t>(head_dim));
        std::vector<float> value(static_cast<size_t>(head_dim));
        for (int row = 0; row < kTileRows; ++row) {
          read_row(view, head_dim, row, key.data(), value.data());
          for (int64_t c = 0; c < head_dim; ++c) {
            const auto channel = static_cast<size_t>(c);
            // A fused multiply-add rounds once, the scalar code twice.
            ASSERT_NEAR(key[channel], keys[static_cast<size_t>(c * kTileRows + row)], 1e-6) << to_string(format);
            ASSERT_NEAR(value[channel], values[static_cast<size_t>(row * head_dim + c)], 1e-6) << to_string(format);
          }
        }
      }
    }
  }
  hwy::SetSupportedTargetsForTest(0);
}

TEST(Tile, RowsWrittenOneByOneEqualTheWhole) {
  for (const TileFormat format : {TileFormat::f32, TileFormat::bf16, TileFormat::f16}) {
    const Rows rows(96, 4);
    auto whole = allocate(format, 96);
    auto pieces = allocate(format, 96);
    encode_tile(whole.get(), format, 96, rows.source());
    int at = 0;
    for (const int count : {1, 0, 7, 30, 26}) {
      write_rows(pieces.get(), format, 96, at, count, rows.source(at));
      at += count;
    }
    ASSERT_EQ(at, kTileRows);
    EXPECT_TRUE(std::equal(whole.get(), whole.get() + tile_bytes(format, 96), pieces.get()));
  }
}

TEST(Tile, LayoutIsAsDocumented) {
  const Rows rows(64, 4);
  auto plain = allocate(TileFormat::f32, 64);
  encode_tile(plain.get(), TileFormat::f32, 64, rows.source());
  const auto* floats = reinterpret_cast<const float*>(plain.get());
  EXPECT_EQ(floats[5 * 64 + 7], rows.keys[7 * 64 + 5]);
  EXPECT_EQ(floats[64 * 64 + 7 * 64 + 5], rows.values[7 * 64 + 5]);

  auto coded = allocate(TileFormat::kivi4, 64);
  encode_tile(coded.get(), TileFormat::kivi4, 64, rows.source());
  const auto halves = [&](int64_t byte, int64_t index) {
    return f16_to_f32(reinterpret_cast<const uint16_t*>(coded.get() + byte)[index]);
  };
  std::vector<float> key(64);
  std::vector<float> value(64);
  read_row({coded.get(), 64, TileFormat::kivi4}, 64, 50, key.data(), value.data());
  // Row 50 is element 18 of group 1: high half of byte 2. Channel 40 of the value is element 8 of group 1: low half.
  const int64_t key_group = 5 * 2 + 1;
  const int key_code = std::to_integer<int>(coded[static_cast<size_t>(16 * 64 + key_group * 16 + 2)]) >> 4;
  EXPECT_FLOAT_EQ(key[5], halves(4 * 64, key_group) + halves(0, key_group) * static_cast<float>(key_code));
  const int64_t value_group = 50 * 2 + 1;
  const int value_code = std::to_integer<int>(coded[static_cast<size_t>(48 * 64 + value_group * 16 + 8)]) & 15;
  EXPECT_FLOAT_EQ(value[40],
                  halves(12 * 64, value_group) + halves(8 * 64, value_group) * static_cast<float>(value_code));
}

TEST(Tile, ConstantGroupsAreExact) {
  Rows rows(32, 1);
  std::fill(rows.keys.begin(), rows.keys.end(), 0.5F);
  std::fill(rows.values.begin(), rows.values.end(), -2.0F);
  for (const TileFormat format : kFormats) {
    auto tile = allocate(format, 32);
    encode_tile(tile.get(), format, 32, rows.source());
    std::vector<float> keys(rows.keys.size());
    std::vector<float> values(rows.keys.size());
    decode_tile({tile.get(), kTileRows, format}, 32, keys.data(), values.data());
    EXPECT_EQ(keys, rows.keys);
    EXPECT_EQ(values, rows.values);
  }
}

}  // namespace
}  // namespace tessera::attention
