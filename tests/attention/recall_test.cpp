// The choice of tiles and columns by recall.
#include <gtest/gtest.h>

#include "attention/recall_budget.h"
#include "attention_fixture.h"
#include "tessera/attention/selectors.h"

namespace tessera::attention {
namespace {

// Mass of `groups` groups with 8 rows each, over `tiles` key tiles; group g sits at the end of its share of them.
GroupMass empty_mass(size_t groups, int64_t tiles) {
  GroupMass mass;
  mass.groups = groups;
  mass.columns.resize(static_cast<size_t>(tiles * kTileRows));
  mass.tops.resize(mass.columns.size());
  for (size_t g = 0; g < groups; ++g) {
    mass.rows[g] = 8;
    mass.own_tile[g] = static_cast<int64_t>(g + 1) * tiles / static_cast<int64_t>(groups) - 1;
  }
  return mass;
}

// As if all rows of a group liked a column alike, except where a test says otherwise.
void share_evenly(GroupMass& mass) {
  for (size_t row = 0; row < mass.columns.size(); ++row) {
    for (size_t g = 0; g < mass.groups; ++g)
      mass.tops[row][g] = mass.columns[row][g] / static_cast<float>(mass.rows[g]);
  }
}

ItemCosts square_costs(int64_t tiles) {
  ItemCosts costs;
  for (int64_t i = 0; i < tiles; ++i) {
    costs.band.push_back(static_cast<double>(tiles - i));
    costs.column.push_back(static_cast<double>(tiles - i) / kTileRows);
    costs.dense += static_cast<double>(i + 1);
  }
  return costs;
}

// Share of the mass that bands and columns hold, each pair once.
double covered_share(const GroupMass& mass, const std::vector<int32_t>& bands, const std::vector<int32_t>& columns) {
  double covered = 0;
  double total = 0;
  for (size_t g = 0; g < mass.groups; ++g) {
    total += static_cast<double>(mass.rows[g]);
    for (size_t row = 0; row < mass.columns.size(); ++row) {
      const auto band = static_cast<int32_t>(mass.own_tile[g] - static_cast<int64_t>(row) / kTileRows);
      if (std::binary_search(bands.begin(), bands.end(), band) ||
          std::binary_search(columns.begin(), columns.end(), static_cast<int32_t>(row))) {
        covered += mass.columns[row][g];
      }
    }
  }
  return covered / total;
}

TEST(RecallChoice, ReachesTheTargetAndReportsItExactly) {
  Random random(8);
  int sparse = 0;
  for (int round = 0; round < 200; ++round) {
    const int64_t tiles = 16 + random.below(40);
    GroupMass mass = empty_mass(8, tiles);
    for (size_t g = 0; g < 8; ++g) {
      const int64_t seen = (mass.own_tile[g] + 1) * kTileRows;
      std::vector<double> weight(static_cast<size_t>(seen));
      double sum = 0;
      for (int64_t row = 0; row < seen; ++row) {
        double w = 0.02 * random.uniform();
        if (row % 97 == 5) w += 3;                                                                   // columns
        if (row / kTileRows == mass.own_tile[g] || row / kTileRows == mass.own_tile[g] - 4) w += 1;  // bands
        sum += weight[static_cast<size_t>(row)] = w;
      }
      for (size_t row = 0; row < weight.size(); ++row) mass.columns[row][g] = static_cast<float>(8 * weight[row] / sum);
    }
    share_evenly(mass);
    const double recall = 0.5 + 0.49 * random.uniform();
    const RecallChoice choice = choose_by_recall(mass, square_costs(tiles), {.recall = recall});
    if (choice.dense) continue;
    ++sparse;
    const double covered = covered_share(mass, choice.bands, choice.columns);
    EXPECT_GE(covered, recall - 1e-6);
    EXPECT_NEAR(covered, choice.recall, 1e-5);
    EXPECT_TRUE(std::is_sorted(choice.columns.begin(), choice.columns.end()));
    EXPECT_EQ(choice.bands.front(), 0);
  }
  EXPECT_GT(sparse, 100);
}

// Small enough to try every subset: with equal evidence in both halves greedy must reach the target at a cost near the
// best.
TEST(RecallChoice, IsCloseToTheBestSubset) {
  Random random(3);
  for (int round = 0; round < 60; ++round) {
    constexpr int64_t kTiles = 6;
    GroupMass mass = empty_mass(2, kTiles);
    mass.own_tile = {kTiles - 1, kTiles - 1};  // the same mass in both, so that checking changes nothing
    const std::vector<int32_t> lines = {3, 70, 75, 140, 200, 260};
    std::vector<double> weight(kTiles * kTileRows);
    double sum = 0;
    for (int64_t tile = 0; tile < kTiles; ++tile) {
      const double level = random.below(3) == 0 ? 1 : 0;
      for (int64_t r = 0; r < kTileRows; ++r) sum += weight[static_cast<size_t>(tile * kTileRows + r)] = level;
    }
    for (const int32_t line : lines) {
      const double w = static_cast<double>(random.below(60));
      weight[static_cast<size_t>(line)] += w;
      sum += w;
    }
    for (size_t row = 0; row < weight.size(); ++row) {
      for (const size_t g : {0U, 1U}) mass.columns[row][g] = static_cast<float>(8 * weight[row] / sum);
    }
    share_evenly(mass);
    const ItemCosts costs = square_costs(kTiles);
    const RecallTarget target{.recall = 0.8, .dense_share = 10};
    double best = 1e9;
    for (uint32_t set = 0; set < 1U << (kTiles + lines.size()); ++set) {
      if ((set & 1) == 0) continue;  // band 0 is forced
      std::vector<int32_t> bands;
      std::vector<int32_t> columns;
      double cost = 0;
      for (int64_t e = 0; e < kTiles; ++e) {
        if ((set >> e & 1) != 0) {
          bands.push_back(static_cast<int32_t>(e));
          cost += costs.band[static_cast<size_t>(e)];
        }
      }
      for (size_t i = 0; i < lines.size(); ++i) {
        if ((set >> (kTiles + i) & 1) != 0) {
          columns.push_back(lines[i]);
          cost += costs.column[static_cast<size_t>(lines[i] / kTileRows)];
        }
      }
      if (cost < best && covered_share(mass, bands, columns) >= target.recall) best = cost;
    }
    const RecallChoice choice = choose_by_recall(mass, costs, target);
    ASSERT_FALSE(choice.dense);
    EXPECT_GE(covered_share(mass, choice.bands, choice.columns), target.recall - 1e-6);
    // Greedy by value per cost overshoots by its last item, a band of at most kTiles tiles, and leaving the best of 16
    // rows out of a column's value bends the order a little.
    EXPECT_LE(choice.cost, 17.0 / 16 * best + kTiles);
  }
}

// A sharp diagonal: every probe row puts all its mass on a column of its own, some tiles back.
TEST(RecallChoice, TellsDiagonalsFromColumns) {
  constexpr int64_t kTiles = 64;
  constexpr int64_t kBack = 5;
  GroupMass mass = empty_mass(8, kTiles);
  for (size_t g = 0; g < 8; ++g) {
    for (int64_t i = 0; i < 8; ++i) {
      const auto row = static_cast<size_t>((mass.own_tile[g] - kBack) * kTileRows + 8 * i + 3);
      mass.columns[row][g] = mass.tops[row][g] = 1;
    }
  }
  const RecallChoice diagonal = choose_by_recall(mass, square_costs(kTiles), {.recall = 0.95});
  EXPECT_FALSE(diagonal.dense);
  EXPECT_EQ(diagonal.bands, (std::vector<int32_t>{0, kBack}));
  EXPECT_TRUE(diagonal.columns.empty());

  // The same mass on columns that all rows like.
  mass = empty_mass(8, kTiles);
  for (size_t i = 0; i < 8; ++i) mass.columns[8 * i].fill(1);
  share_evenly(mass);
  const RecallChoice columns = choose_by_recall(mass, square_costs(kTiles), {.recall = 0.95});
  EXPECT_FALSE(columns.dense);
  EXPECT_EQ(columns.columns.size(), 8U);
  EXPECT_LE(columns.cost, kTiles + 8 + 1);  // the forced band, eight columns, at most one more tile
}

// Every row likes columns of its own at random places: nothing generalises, so the answer is dense.
TEST(RecallChoice, ScatteredAttentionIsDense) {
  constexpr int64_t kTiles = 64;
  Random random(5);
  GroupMass mass = empty_mass(8, kTiles);
  for (size_t g = 0; g < 8; ++g) {
    for (int64_t i = 0; i < 8; ++i) {
      const auto row = static_cast<size_t>(random.below((mass.own_tile[g] + 1) * kTileRows));
      mass.columns[row][g] += 1;
      mass.tops[row][g] = 1;
    }
  }
  EXPECT_TRUE(choose_by_recall(mass, square_costs(kTiles), {.recall = 0.95}).dense);
}

// Sinks, a window, some columns and a far diagonal, as attention heads of language models have.
void plant_structure(TestCache& cache, int64_t rows, int64_t heads, int64_t head_dim) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      float* query = cache.query(row, head);
      query[0] = 6;  // all queries like keys with a large first channel
      if (row >= 300 && head == 1) {
        for (int64_t c = 1; c < head_dim; ++c) query[c] = 3 * cache.key(0, row - 300)[c];
      }
    }
  }
  for (int64_t row = 0; row < rows; ++row) cache.key(0, row)[0] = row < 4 || row % 301 == 77 ? 12.0F : -2.0F;
  cache.encode();
}

TEST(RecallSelection, FindsPlantedStructureAndKeepsItsPromise) {
  constexpr int64_t kRows = 4096;
  TestCache cache({kRows, 2, 1, 64, kRows});
  plant_structure(cache, kRows, 2, 64);
  const WorkList work = make_vertical_slash({.recall = 0.95})->select(cache.input(), {});
  check(work);
  EXPECT_LT(executed_density(work), 0.25);
  EXPECT_LT(skipped_mass(cache.input(), attend(cache.input(), work), 64), 0.06);
}

TEST(RecallSelection, OnlyTheEndOfThePromptIsDense) {
  constexpr int64_t kRows = 4096;
  TestCache cache({kRows, 2, 1, 64, kRows});
  plant_structure(cache, kRows, 2, 64);
  const auto selector = make_vertical_slash({.recall = 0.95});
  const auto last_tiles = [](const WorkList& work) {
    return work.heads[0].tile_begin[64] - work.heads[0].tile_begin[63];
  };
  EXPECT_EQ(last_tiles(selector->select(cache.input(), {})), 64);
  EXPECT_LT(last_tiles(selector->select(cache.input(), {.rows_after = 100})), 32);
}

TEST(RecallSelection, UniformAttentionIsDense) {
  TestCache cache({2048, 1, 1, 32, 2048});
  std::fill_n(cache.queries.data<float>(), cache.queries.elements(), 0.0F);
  const WorkList work = make_vertical_slash({.recall = 0.95})->select(cache.input(), {});
  EXPECT_TRUE(work.heads[0].dense);
}

TEST(Auto, IsDenseBelowTheCrossoverAndForFewRows) {
  const TestCache cache({512, 2, 1, 32, 600});
  for (const HeadWork& head : make_auto({.crossover = 601})->select(cache.input(), {}).heads) EXPECT_TRUE(head.dense);
  const TestCache few({100, 2, 1, 32, 2000});
  for (const HeadWork& head : make_auto({.crossover = 1})->select(few.input(), {}).heads) EXPECT_TRUE(head.dense);
  EXPECT_NO_THROW(check(make_auto({})->select(cache.input(), {})));  // measures
}

}  // namespace
}  // namespace tessera::attention
