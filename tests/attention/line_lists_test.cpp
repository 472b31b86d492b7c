// The device's list kernels, run on the host block by block, against the CPU selectors.
#include "attention/cuda/line_lists.h"

#include <algorithm>
#include <array>
#include <limits>
#include <memory>

#include "attention/cuda/line_lists_launch.h"
#include "attention/selector_support.h"
#include "attention/vertical_slash.h"
#include "attention_fixture.h"
#include "tessera/attention/selectors.h"

namespace tessera::attention {
namespace {

using Team = cuda::Block<cuda::kSearchThreads, 3>;

struct Search {
  bool descending = false;
  uint32_t window = 0;
};

template <typename Blocks = cuda::SearchBlock>
std::vector<int32_t> largest(const std::vector<float>& values, int32_t count, int32_t forced, const Search& search) {
  count = std::min(count, static_cast<int32_t>(values.size()));
  std::vector<int32_t> indices(static_cast<size_t>(count), -1);
  const auto parts = std::make_unique<std::array<cuda::LargestShared, Blocks::kBlocks>>();
  cuda::write_largest(Blocks{.descending = search.descending},
                      {.values = values.data(),
                       .size = static_cast<int32_t>(values.size()),
                       .forced = forced,
                       .count = count,
                       .indices = indices.data(),
                       .window = search.window},
                      parts->front());
  return indices;
}

TEST(LineLists, LargestEqualsCpuWithTies) {
  Random random(3);
  for (const int size : {1, 7, 255, 2048, 2049, 9001}) {
    for (const int levels : {1, 3, 50, 1 << 20}) {
      std::vector<float> values(static_cast<size_t>(size));
      for (float& x : values) {
        x = std::floor(static_cast<float>(random.normal()) * static_cast<float>(levels)) / static_cast<float>(levels);
      }
      for (const int count : {0, 1, 5, size / 2, size, size + 3}) {
        for (const int forced : {0, std::min(size, 30)}) {
          std::vector<float> with_forced = values;
          std::fill_n(with_forced.begin(), forced, std::numeric_limits<float>::infinity());
          const std::vector<int32_t> expected = largest_indices(with_forced, count);
          for (const bool descending : {false, true}) {
            const auto is_expected = [&](const std::vector<int32_t>& got) {
              EXPECT_EQ(got, expected) << size << ' ' << levels << ' ' << count << ' ' << forced;
            };
            is_expected(largest(values, count, forced, {descending}));
            is_expected(largest<Team>(values, count, forced, {descending}));
          }
        }
      }
    }
  }
}

// Windows below, among and above the values, and where keys end.
TEST(LineLists, LargestDoesNotDependOnTheWindow) {
  Random random(4);
  std::vector<float> values(5000);
  for (float& x : values) x = std::exp(static_cast<float>(random.normal()) * 6);
  for (const int count : {1, 17, 2500, 4999}) {
    const std::vector<int32_t> expected = largest_indices(values, count);
    for (const float window : {1e-30F, 1e-6F, 1e-3F, 1.0F, 50.0F, 1e6F, 1e30F}) {
      EXPECT_EQ(largest(values, count, 0, {false, cuda::order_key(window)}), expected) << count << ' ' << window;
    }
    for (const uint32_t window : {1U, 0x80000000U, 0xffffffffU}) {
      EXPECT_EQ(largest<Team>(values, count, 0, {false, window}), expected) << window;
    }
  }
}

// Values that share the first digit: few, which are compared with each other; more, which each block searches by
// further digits; and more than a block has room for, which all search together.
TEST(LineLists, LargestOfValuesWithOneFirstDigit) {
  for (const int size : {200, 1500, 5000, 9001}) {
    std::vector<float> values(static_cast<size_t>(size));
    for (size_t i = 0; i < values.size(); ++i) values[i] = 1 + static_cast<float>(i * 7919 % 9001 / 3) * 0x1p-20F;
    for (const int count : {1, size / 3, size - 1}) {
      const std::vector<int32_t> expected = largest_indices(values, count);
      for (const bool descending : {false, true}) {
        const Search search{descending, cuda::order_key(0.25F)};
        EXPECT_EQ(largest(values, count, 0, search), expected) << size << ' ' << count;
        EXPECT_EQ(largest<Team>(values, count, 0, search), expected) << size << ' ' << count;
        EXPECT_EQ((largest<cuda::Block<cuda::kSearchThreads, 8>>(values, count, 0, search)), expected);
      }
    }
  }
}

void expect_same_tiles(const cuda::TileRule& rule, const HeadWork& head, int64_t tiles) {
  for (int64_t t = 0; t < tiles; ++t) {
    for (const bool descending : {false, true}) {
      cuda::TileListShared shared;
      const cuda::LineBlock block{.descending = descending};
      const auto tile = static_cast<int32_t>(t);
      std::vector<uint32_t> got(cuda::write_tiles(block, rule, tile, nullptr, shared));
      ASSERT_EQ(cuda::write_tiles(block, rule, tile, got.data(), shared), got.size());
      for (uint32_t& entry : got) {
        const bool masked = (entry & cuda::kMaskedTile) != 0;
        entry &= ~cuda::kMaskedTile;
        EXPECT_EQ(masked, (entry + 1) * 64 > static_cast<uint32_t>(rule.own(tile * 64) + 1));
      }
      const auto first = head.tiles.begin() + head.tile_begin[static_cast<size_t>(t)];
      const auto last = head.tiles.begin() + head.tile_begin[static_cast<size_t>(t) + 1];
      EXPECT_EQ(got, std::vector<uint32_t>(first, last)) << "query tile " << t;
    }
    if (head.columns.empty()) continue;
    EXPECT_EQ(
        cuda::column_cut(rule, static_cast<int32_t>(t), head.columns.data(), static_cast<int32_t>(head.columns.size())),
        head.column_end[static_cast<size_t>(t)]);
  }
}

cuda::TileRule rule_of(const CacheShape& shape) {
  return {.query_rows = static_cast<int32_t>(shape.query_rows),
          .key_rows = static_cast<int32_t>(shape.key_rows),
          .first_position = static_cast<int32_t>(shape.key_rows - shape.query_rows),
          .query_tile = 64,
          .key_tile = 64};
}

TEST(LineLists, VerticalSlashEqualsCpuSelector) {
  for (const auto& [query_rows, key_rows, slash] :
       std::vector<std::array<int, 3>>{{700, 700, 22}, {129, 1003, 90}, {64, 64, 21}, {800, 2000, 25}}) {
    const CacheShape shape{.query_rows = query_rows, .query_heads = 2, .key_rows = key_rows, .seed = 5};
    const TestCache cache(shape);
    const AttentionInput input = cache.input();
    const VerticalSlashOptions options{.budget = {40, slash}, .sinks = 30, .local = 20};
    const WorkList work = make_vertical_slash(options)->select(input, {});
    const std::vector<LineMass> masses = line_masses(input, options.probe_rows, ThreadPool::shared());
    for (size_t h = 0; h < work.heads.size(); ++h) {
      EXPECT_EQ(largest(masses[h].columns, 40, 30, {false}), work.heads[h].columns);
      const std::vector<int32_t> distances = largest(masses[h].diagonals, slash, 20, {false});
      std::vector<uint32_t> bits(static_cast<size_t>(key_rows + 31) / 32, 0xffffffffU);
      cuda::write_bits({}, {.distances = distances.data(),
                            .count = static_cast<int32_t>(distances.size()),
                            .words = static_cast<int32_t>(bits.size()),
                            .bits = bits.data()});
      cuda::TileRule rule = rule_of(shape);
      rule.distances = bits.data();
      expect_same_tiles(rule, work.heads[h], work.query_tiles());
    }
  }
}

// Every tile that holds a visible pair at a wanted distance, pair by pair, for the tile sizes of the GPU kernels.
TEST(LineLists, DiagonalTilesEqualDefinition) {
  Random random(9);
  for (int trial = 0; trial < 200; ++trial) {
    const int key_tile = trial % 2 == 0 ? 64 : 128;
    const int32_t key_rows = 1501;
    std::vector<uint32_t> bits((key_rows + 31) / 32);
    for (int i = 0; i < 5; ++i)
      bits[static_cast<size_t>(random.below(static_cast<int64_t>(bits.size())))] |= 1U << random.below(32);
    cuda::TileRule rule{.query_rows = 517, .key_rows = key_rows, .first_position = 984, .key_tile = key_tile};
    rule.distances = bits.data();
    for (int32_t tile = 0; tile < 5; ++tile) {
      std::vector<uint32_t> expected;
      for (int32_t key = 0; key * key_tile < key_rows; ++key) {
        bool wanted = false;
        for (int32_t q = tile * 128; q < std::min(517, tile * 128 + 128); ++q) {
          for (int32_t k = key * key_tile; k < std::min(key_rows, (key + 1) * key_tile); ++k) {
            const int32_t d = 984 + q - k;
            if (d < 0 || d >= key_rows) continue;
            wanted = wanted || (bits[static_cast<size_t>(d) / 32] >> (d % 32) & 1U) != 0;
          }
        }
        const bool masked = (key + 1) * key_tile - 1 > 984 + tile * 128;
        if (wanted) expected.push_back(static_cast<uint32_t>(key) | (masked ? cuda::kMaskedTile : 0));
      }
      cuda::TileListShared shared;
      std::vector<uint32_t> got(cuda::write_tiles({}, rule, tile, nullptr, shared));
      cuda::write_tiles({}, rule, tile, got.data(), shared);
      // A tile is listed when its range of distances holds a wanted one; a range is exact but for the cut corners.
      EXPECT_TRUE(std::includes(got.begin(), got.end(), expected.begin(), expected.end())) << key_tile << ' ' << tile;
      EXPECT_LE(got.size(), expected.size() + 1) << key_tile << ' ' << tile;
    }
  }
}

// Lists by the flags of the offsets equal those of every pair looked at by itself.
TEST(LineLists, OffsetFlagsEqualPairs) {
  Random random(21);
  for (int trial = 0; trial < 120; ++trial) {
    const auto query_rows = static_cast<int32_t>(1 + random.below(9000));
    const auto first = static_cast<int32_t>(trial % 3 == 0 ? 0 : random.below(5000));
    cuda::TileRule rule{.query_rows = query_rows, .key_rows = first + query_rows + 7, .first_position = first};
    rule.key_tile = trial % 2 == 0 ? 128 : 64;
    if (trial % 5 == 0) rule.sink_rows = 300;
    if (trial % 5 == 1) rule.dense_from = query_rows - 200;
    if (trial % 4 == 1) rule.window = 500;
    std::vector<uint32_t> bits(static_cast<size_t>(rule.key_rows + 31) / 32);
    std::vector<uint32_t> bands(static_cast<size_t>(rule.key_rows) / 4096 + 2);
    for (int i = 0; i < 6; ++i) {
      const auto distance = static_cast<size_t>(random.below(rule.key_rows));
      bits[distance / 32] |= 1U << (distance % 32);
      bands[distance / 4096] |= 1U << (distance / 128 % 32);
    }
    std::vector<uint32_t> summary(bits.size() / 32 + 1);
    for (size_t word = 0; word < bits.size(); ++word) summary[word / 32] |= bits[word] != 0 ? 1U << (word % 32) : 0;
    rule.distances = trial % 4 == 2 ? nullptr : bits.data();
    if (trial % 4 >= 2) rule.bands = bands.data();
    cuda::TileRule quick = rule;
    quick.summary = summary.data();
    std::vector<uint32_t> flags;
    for (int32_t word = 0; word < quick.flag_words(); ++word) flags.push_back(quick.flag_word(word));
    ASSERT_TRUE(rule.offsets());
    for (int32_t tile = 0; tile * 128 < query_rows; ++tile) {
      cuda::TileListShared shared;
      std::vector<uint32_t> expected(cuda::write_tiles({}, rule, tile, nullptr, shared));
      cuda::write_tiles({}, rule, tile, expected.data(), shared);
      std::vector<uint32_t> got(cuda::write_tiles({}, quick, tile, nullptr, shared, flags.data()));
      cuda::write_tiles({}, quick, tile, got.data(), shared, flags.data());
      ASSERT_EQ(got, expected) << "trial " << trial << " tile " << tile;
      if (tile >= quick.full_tiles()) continue;
      ASSERT_EQ(cuda::count_tiles(quick, tile, flags.data()), static_cast<int32_t>(expected.size()));
    }
  }
}

// 1,048,576 rows, 32 heads, the lines of MInference at the measured density of 3.1 % fit 256 MB.
TEST(LineLists, MillionTokenListsFit) {
  cuda::LineListArguments arguments;
  arguments.heads = 32;
  arguments.rule = {.query_rows = 1 << 20, .key_rows = 1 << 20};
  const int64_t causal = int64_t{8192} * 8193 / 2;
  EXPECT_LE(cuda::line_list_bytes(arguments, 1024, 32 * causal * 31 / 1000), int64_t{256} * 1000 * 1000);
}

TEST(LineLists, ShapesEqualCpuSelectors) {
  const CacheShape shape{.query_rows = 500, .key_rows = 1203};
  const TestCache cache(shape);
  for (const int sinks : {0, 64, 150}) {
    for (const int window : {1, 65, 400}) {
      cuda::TileRule rule = rule_of(shape);
      rule.sink_rows = sinks;
      rule.window = window;
      const WorkList a = make_a_shape({.sinks = sinks, .window = window})->select(cache.input(), {});
      expect_same_tiles(rule, a.heads[0], a.query_tiles());
      rule.dense_from = 500 - 70;
      const WorkList tri = make_tri_shape({.sinks = sinks, .window = window, .last = 70})->select(cache.input(), {});
      expect_same_tiles(rule, tri.heads[0], tri.query_tiles());
    }
  }
}

}  // namespace
}  // namespace tessera::attention
