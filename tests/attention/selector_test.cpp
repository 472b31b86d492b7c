// What each selector chooses, and MInference's index semantics and files.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "attention/minference_index.h"
#include "attention/recall_budget.h"
#include "attention/reference.h"
#include "attention/vertical_slash.h"
#include "attention_fixture.h"
#include "tessera/attention/minference_config.h"
#include "tessera/attention/selectors.h"

namespace tessera::attention {
namespace {

using testing::Message;

std::vector<int32_t> descending_range(int32_t last) {
  std::vector<int32_t> distances(static_cast<size_t>(last) + 1);
  std::iota(distances.rbegin(), distances.rend(), 0);
  return distances;
}

TEST(AShape, CoversSinksAndWindowAndLittleMore) {
  const TestCache cache({1000, 1, 1, 32, 1000});
  const WorkList work = make_a_shape({.sinks = 70, .window = 100})->select(cache.input(), {});
  const PairAllowed allowed = pairs_of(work);
  for (int64_t row = 0; row < 1000; ++row) {
    for (int64_t key = 0; key <= row; ++key) {
      const bool asked = key < 70 || row - key < 100;
      ASSERT_TRUE(!asked || allowed(0, row, key)) << row << " " << key;
      const bool near = key < 70 || row - key < 100 + 2 * 63;  // whole tiles
      ASSERT_TRUE(near || !allowed(0, row, key)) << row << " " << key;
    }
  }
}

TEST(TriShape, LastRowsAreDenseOthersAreAShape) {
  const TestCache cache({1000, 1, 1, 32, 1000});
  const WorkList tri = make_tri_shape({.sinks = 4, .window = 64, .last = 41})->select(cache.input(), {});
  const WorkList a = make_a_shape({.sinks = 4, .window = 64})->select(cache.input(), {});
  const PairAllowed in_tri = pairs_of(tri);
  const PairAllowed in_a = pairs_of(a);
  for (int64_t key = 0; key < 900; ++key) {
    EXPECT_TRUE(in_tri(0, 959, key));  // row 959 = 1000 - 41 is the first dense one; its tile is dense
    EXPECT_TRUE(in_tri(0, 999, key));
    EXPECT_EQ(in_tri(0, 895, key), in_a(0, 895, key));
  }
}

// E01: N = 256 with v >= N, or with s >= N, equals dense attention.
TEST(VerticalSlash, FullLinesEqualDense) {
  const TestCache cache({256, 2, 1, 64, 256});
  for (const VerticalSlashBudget& budget : {VerticalSlashBudget{256, 0}, VerticalSlashBudget{0, 256}}) {
    const WorkList work = make_vertical_slash({.budget = budget})->select(cache.input(), {});
    expect_near(attend(cache.input(), work), attend_dense(cache.input()), 1e-5);
    const PairAllowed allowed = pairs_of(work);
    for (int64_t row = 0; row < 256; ++row) {
      for (int64_t key = 0; key <= row; ++key) ASSERT_TRUE(allowed(1, row, key));
    }
  }
}

// E05: a planted diagonal puts its distance first, a planted column is first among the columns that are not forced.
TEST(VerticalSlash, EstimatorFindsPlantedLines) {
  for (const int64_t before : {0, 300}) {
    TestCache cache({700, 2, 1, 64, 700 + before});
    constexpr int64_t kDistance = 345;
    constexpr int64_t kColumn = 210;
    for (int64_t row = 0; row < 700; ++row) {
      const int64_t key = row + before - kDistance;
      if (key >= 0) std::copy_n(cache.query(row, 0), 64, cache.key(0, key));
      for (int64_t c = 0; c < 64; ++c) cache.query(row, 1)[c] += cache.key(0, kColumn)[c];
    }
    cache.encode();
    const std::vector<LineMass> masses = line_masses(cache.input(), 64, ThreadPool::shared());
    const auto largest = [](const std::vector<float>& values) {
      return std::max_element(values.begin(), values.end()) - values.begin();
    };
    EXPECT_EQ(largest(masses[0].diagonals), kDistance);
    EXPECT_EQ(largest(masses[1].columns), kColumn);
    const WorkList work = make_vertical_slash({.budget = {.vertical = 31, .slash = 101}})->select(cache.input(), {});
    EXPECT_EQ(work.heads[1].columns.back(), kColumn);
    const PairAllowed allowed = pairs_of(work);
    for (int64_t row = kDistance; row < 700; ++row) ASSERT_TRUE(allowed(0, row, row + before - kDistance));
  }
}

TEST(VerticalSlash, LineMassMatchesTheOracle) {
  for (const int64_t probe_rows : {3, 64, 100}) {
    TestCache cache({130, 4, 2, 32, 5000, TileFormat::f16});  // several probe ranges
    cache.add_gaps();
    const std::vector<LineMass> masses = line_masses(cache.input(), probe_rows, ThreadPool::shared());
    for (const int64_t head : {0, 3}) {
      std::vector<double> columns(5000);
      std::vector<double> diagonals(5000);
      std::vector<float> key(32);
      std::vector<float> value(32);
      for (int64_t row = 130 - probe_rows; row < 130; ++row) {
        const int64_t visible = 5000 - 130 + row + 1;
        std::vector<double> weights;
        double sum = 0;
        for (int64_t k = 0; k < visible; ++k) {
          read_row(cache.heads[static_cast<size_t>(head / 2)].tiles[static_cast<size_t>(k / 64)], 32,
                   static_cast<int>(k % 64), key.data(), value.data());
          double score = 0;
          for (int64_t c = 0; c < 32; ++c)
            score += static_cast<double>(cache.query(row, head)[c]) * key[static_cast<size_t>(c)];
          weights.push_back(std::exp(score / std::sqrt(32.0)));
          sum += weights.back();
        }
        for (int64_t k = 0; k < visible; ++k) {
          columns[static_cast<size_t>(k)] += weights[static_cast<size_t>(k)] / sum;
          diagonals[static_cast<size_t>(visible - 1 - k)] += weights[static_cast<size_t>(k)] / sum;
        }
      }
      for (size_t i = 0; i < 5000; ++i) {
        ASSERT_NEAR(masses[static_cast<size_t>(head)].columns[i], columns[i], 1e-5);
        ASSERT_NEAR(masses[static_cast<size_t>(head)].diagonals[i], diagonals[i], 1e-5);
      }
    }
  }
}

TEST(VerticalSlash, UsesBudgetsByLayerAndHead) {
  const TestCache cache({600, 2, 1, 32, 600});
  VerticalSlashOptions options{.budget = {.vertical = 40, .slash = 100}};
  options.per_head[{3, 1}] = {.vertical = 77, .slash = 100};
  const auto selector = make_vertical_slash(options);
  EXPECT_EQ(selector->select(cache.input(), {.layer = 3}).heads[0].columns.size(), 40U);
  EXPECT_EQ(selector->select(cache.input(), {.layer = 3}).heads[1].columns.size(), 77U);
  EXPECT_EQ(selector->select(cache.input(), {.layer = 2}).heads[1].columns.size(), 40U);
  // Clamps: at least the 30 sinks and the 100 local diagonals.
  const WorkList least = make_vertical_slash({.budget = {.vertical = 1, .slash = 1}})->select(cache.input(), {});
  EXPECT_EQ(least.heads[0].columns.size(), 30U);
  EXPECT_EQ(least.heads[0].columns.back(), 29);
  const PairAllowed allowed = pairs_of(least);
  for (int64_t t = 0; t < 100; ++t) EXPECT_TRUE(allowed(0, 500, 500 - t));
}

TEST(VerticalSlash, TiesGoToTheLowerIndex) {
  TestCache cache({300, 1, 1, 32, 300});
  std::fill(cache.keys[0].begin(), cache.keys[0].end(), 0.0F);  // all weights of a row are equal
  cache.encode();
  const WorkList work = make_vertical_slash({.budget = {.vertical = 50, .slash = 100}})->select(cache.input(), {});
  std::vector<int32_t> first(50);
  std::iota(first.begin(), first.end(), 0);
  EXPECT_EQ(work.heads[0].columns, first);  // columns 0..236 are seen by all probe rows alike
}

TEST(BlockSparse, FindsThePlantedTile) {
  TestCache cache({640, 2, 1, 32, 640});
  for (int64_t c = 0; c < 32; ++c) {
    for (int64_t row = 448; row < 512; ++row) cache.query(row, 1)[c] += 2;  // query tile 7
    for (int64_t row = 192; row < 256; ++row) cache.key(0, row)[c] += 2;    // key tile 3
  }
  cache.encode();
  const WorkList work = make_block_sparse({.top_k = 1})->select(cache.input(), {});
  const HeadWork& head = work.heads[1];
  EXPECT_EQ(std::vector<int32_t>(head.tiles.begin() + head.tile_begin[7], head.tiles.begin() + head.tile_begin[8]),
            (std::vector<int32_t>{0, 3, 7}));
}

// E02: distances 0..99 only.
TEST(MinferenceIndex, LocalDistances) {
  const auto index = minference_index(640, {}, descending_range(99));
  EXPECT_EQ(index[0].blocks, (std::vector<int64_t>{0}));
  EXPECT_EQ(index[1].blocks, (std::vector<int64_t>{0, 64}));
  EXPECT_EQ(index[2].blocks, (std::vector<int64_t>{29, 93, 157}));
  for (size_t r = 2; r < index.size(); ++r) {
    const int64_t m1 = 64 * (static_cast<int64_t>(r) + 1);
    EXPECT_EQ(index[r].blocks, (std::vector<int64_t>{m1 - 163, m1 - 99, m1 - 35}));
  }
}

// E03: an isolated distance of 1000 besides 0..99.
TEST(MinferenceIndex, IsolatedDistance) {
  std::vector<int32_t> distances = descending_range(99);
  distances.insert(distances.begin(), 1000);
  const auto index = minference_index(2048, {}, distances);
  EXPECT_EQ(index[14].blocks.size(), 3U);                                   // m1 = 960
  EXPECT_EQ(index[15].blocks, (std::vector<int64_t>{0, 861, 925, 989}));    // m1 = 1024
  EXPECT_EQ(index[16].blocks, (std::vector<int64_t>{24, 925, 989, 1053}));  // m1 = 1088
  EXPECT_EQ(index[20].blocks.front(), 64 * 21 - 1064);
}

// E04: columns that the blocks cover are removed, all of them where need be.
TEST(MinferenceIndex, CoveredColumnsAreRemoved) {
  const auto index = minference_index(640, std::vector<int32_t>{5, 70}, descending_range(99));
  EXPECT_TRUE(index[0].columns.empty());
  EXPECT_TRUE(index[1].columns.empty());
  EXPECT_EQ(index[9].columns, (std::vector<int64_t>{5, 70}));
}

// E04 and A3.05, and that our aligned lists cover everything that the index names.
TEST(MinferenceIndex, IsDisjointAndCoversAndIsCovered) {
  Random random(4);
  for (int round = 0; round < 120; ++round) {
    const int64_t rows = 1 + random.below(round % 3 == 0 ? 64 : 900);
    std::set<int32_t> columns;
    std::set<int32_t, std::greater<>> distances{0};
    for (int64_t i = random.below(40); i > 0; --i) columns.insert(static_cast<int32_t>(random.below(rows)));
    for (int64_t i = random.below(60); i > 0; --i) distances.insert(static_cast<int32_t>(random.below(rows)));
    const auto index = minference_index(rows, std::vector<int32_t>(columns.begin(), columns.end()),
                                        std::vector<int32_t>(distances.begin(), distances.end()));
    ASSERT_EQ(static_cast<int64_t>(index.size()), (rows + 63) / 64);
    for (size_t r = 0; r < index.size(); ++r) {
      const auto m0 = static_cast<int64_t>(64 * r);
      std::set<int64_t> covered;
      for (const int64_t block : index[r].blocks) {
        for (int64_t key = block; key < block + 64; ++key) ASSERT_TRUE(covered.insert(key).second);
      }
      for (const int64_t column : index[r].columns) {
        ASSERT_LT(column, m0);
        ASSERT_TRUE(covered.insert(column).second);
      }
      for (int64_t row = m0; row < std::min(m0 + 64, rows); ++row) {
        for (const int32_t column : columns) ASSERT_TRUE(column > row || covered.contains(column));
        for (const int32_t distance : distances) ASSERT_TRUE(distance > row || covered.contains(row - distance));
      }
    }
  }
}

TEST(MinferenceIndex, AlignedWorkListCoversTheLines) {
  // The selector's own lines: whatever columns and distances it picked, every pair on them is in the work list. The
  // lines are recovered with the same budgets from the same masses.
  TestCache cache({900, 1, 1, 32, 900, TileFormat::f32, 21});
  const int64_t vertical = 60;
  const int64_t slash = 140;
  LineMass mass = line_masses(cache.input(), 64, ThreadPool::shared())[0];
  const auto strongest = [](std::vector<float> values, int64_t forced, int64_t count) {
    std::fill_n(values.begin(), forced, std::numeric_limits<float>::infinity());
    std::vector<int32_t> order(values.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
    });
    order.resize(static_cast<size_t>(count));
    std::sort(order.begin(), order.end());
    return order;
  };
  const std::vector<int32_t> columns = strongest(mass.columns, 30, vertical);
  std::vector<int32_t> distances = strongest(mass.diagonals, 100, slash);
  std::reverse(distances.begin(), distances.end());
  const WorkList work = make_vertical_slash({.budget = {vertical, slash}})->select(cache.input(), {});
  const PairAllowed allowed = pairs_of(work);
  for (int64_t row = 0; row < 900; ++row) {
    for (const int32_t column : columns) ASSERT_TRUE(column > row || allowed(0, row, column));
    for (const int32_t distance : distances) ASSERT_TRUE(distance > row || allowed(0, row, row - distance));
  }
}

TEST(MinferenceIndex, RejectsUnsortedLines) {
  EXPECT_THROW(minference_index(100, {}, {}), Error);
  EXPECT_THROW(minference_index(100, {}, std::vector<int32_t>{5}), Error);
  EXPECT_THROW(minference_index(100, std::vector<int32_t>{3, 1}, std::vector<int32_t>{0}), Error);
}

TEST(MinferenceConfig, ReadsEveryType) {
  const auto document = nlohmann::json::parse(
      R"([{"0": ["vertical_and_slash", 1000, 6096, 0.93], "1": ["stream_llm", 100, 800, 1583301]},
          {"7": ["block_sparse", 1, 2, null], "3": ["vertical_and_slash", 30, 800]}])");
  const HeadBudgets budgets = parse_minference_config(document, "test");
  ASSERT_EQ(budgets.size(), 4U);
  EXPECT_EQ(budgets.at({0, 0}).vertical, 1000);
  EXPECT_EQ(budgets.at({0, 0}).slash, 6096);
  EXPECT_EQ(budgets.at({0, 1}).slash, 800);
  EXPECT_EQ(budgets.at({1, 7}).vertical, 1000);
  EXPECT_EQ(budgets.at({1, 3}).vertical, 30);
}

TEST(MinferenceConfig, RejectsWhatItDoesNotUnderstand) {
  for (const char* text :
       {R"({})", R"([[]])", R"([{"x": ["vertical_and_slash", 1, 1, 1]}])", R"([{"0": ["flex_prefill", 1, 1, 1]}])",
        R"([{"0": ["vertical_and_slash", -1, 1, 1]}])", R"([{"0": ["vertical_and_slash", 1.5, 1, 1]}])",
        R"([{"0": ["vertical_and_slash"]}])", R"([{"0": 3}])", R"([{"-1": ["vertical_and_slash", 1, 1, 1]}])"}) {
    EXPECT_THROW(parse_minference_config(nlohmann::json::parse(text), "test"), Error) << text;
  }
  EXPECT_THROW(read_minference_config("/nonexistent/config.json"), Error);
}

}  // namespace
}  // namespace tessera::attention
