// Which items there are, in which order, and how long lists are split.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "attention/cuda/list_plan.h"
#include "attention/cuda/problem.h"

namespace tessera::attention::cuda {
namespace {

Problem make_problem(int query_heads, int kv_heads, const std::vector<Sequence>& sequences) {
  Problem problem = {};
  problem.query_heads = query_heads;
  problem.kv_heads = kv_heads;
  problem.sequences = static_cast<int32_t>(sequences.size());
  for (size_t s = 0; s < sequences.size(); ++s) {
    const Sequence& from = sequences[s];
    problem.sequence[s] = {from.query_begin, from.query_rows,     from.key_begin,
                           from.key_rows,    from.first_position, problem.query_tiles};
    problem.query_tiles += (from.query_rows + kQueryTile - 1) / kQueryTile;
  }
  return problem;
}

TEST(CudaSchedule, QueryTilesOfSeveralSequences) {
  Problem problem = make_problem(1, 1, {{0, 130, 0, 130, 0}, {130, 0, 130, 5, 0}, {130, 1, 135, 77, 76}});
  ASSERT_EQ(problem.query_tiles, 3);
  QueryTile second = query_tile(problem, 1);
  EXPECT_EQ(second.sequence, 0);
  EXPECT_EQ(second.first_row, 128);
  EXPECT_EQ(second.rows, 2);
  EXPECT_EQ(second.position, 128);
  QueryTile last = query_tile(problem, 2);
  EXPECT_EQ(last.sequence, 2);
  EXPECT_EQ(last.first_row, 130);
  EXPECT_EQ(last.position, 76);
}

TEST(CudaSchedule, TilesAndMasksAgreeWithCounting) {
  for (int key_tile : {64, 128}) {
    for (int key_rows : {0, 1, 64, 100, 300, 1000}) {
      for (int first : {0, 1, 62, 63, 126, 127, 128, 500}) {
        for (int rows : {1, 64, 128}) {
          QueryTile tile{0, 0, rows, first};
          int visible = visible_tiles(tile, key_rows, key_tile);
          for (int k = 0; k < 12; ++k) {
            bool any = false;
            bool hidden = false;
            for (int r = 0; r < rows; ++r) {
              for (int key = k * key_tile; key < (k + 1) * key_tile; ++key) {
                bool seen = key <= first + r && key < key_rows;
                any = any || seen;
                hidden = hidden || !seen;
              }
            }
            EXPECT_EQ(k < visible, any) << key_tile << " " << key_rows << " " << first << " " << rows << " " << k;
            EXPECT_EQ(needs_mask(tile, key_rows, key_tile, k), hidden);
          }
        }
      }
    }
  }
}

TEST(CudaSchedule, DenseItemsAreAPermutationWithLongTilesFirst) {
  Problem problem = make_problem(8, 2, {{0, 1000, 0, 1000, 0}});
  std::set<int32_t> seen;
  int previous_tile = -1;
  for (int item = 0; item < 8 * problem.query_tiles; ++item) {
    int32_t row = dense_row(problem, item);
    seen.insert(row);
    int head = row / problem.query_tiles;
    int tile = row % problem.query_tiles;
    EXPECT_EQ(head / 4, item / (4 * problem.query_tiles)) << "one KV head after the other";
    if (item % (4 * problem.query_tiles) != 0) {
      EXPECT_LE(tile, previous_tile);
    }
    previous_tile = tile;
  }
  EXPECT_EQ(static_cast<int>(seen.size()), 8 * problem.query_tiles);
  EXPECT_EQ(*seen.begin(), 0);
}

TEST(CudaSchedule, HeadsOfAGroupShareAList) {
  Problem problem = make_problem(8, 2, {{0, 300, 0, 300, 0}});
  EXPECT_EQ(list_of(problem, 8, 5 * problem.query_tiles + 2), 5 * problem.query_tiles + 2);
  EXPECT_EQ(list_of(problem, 2, 5 * problem.query_tiles + 2), 1 * problem.query_tiles + 2);
  EXPECT_EQ(list_of(problem, 2, 3 * problem.query_tiles), 0);
}

TEST(CudaSchedule, PartsCoverAListInOrder) {
  for (int units : {1, 16, 17, 100, 8192}) {
    for (int parts = 1; parts <= std::min(units, 40); ++parts) {
      EXPECT_EQ(part_begin(units, parts, 0), 0);
      EXPECT_EQ(part_begin(units, parts, parts), units);
      for (int part = 0; part < parts; ++part) {
        int size = part_begin(units, parts, part + 1) - part_begin(units, parts, part);
        EXPECT_GE(size, units / parts);
        EXPECT_LE(size, units / parts + 1);
      }
    }
  }
}

// However uneven the lists, the partial results fit the slots and no part exceeds the limit.
TEST(CudaSchedule, SplitsFitTheSlots) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 300; ++trial) {
    int rows = 1 + static_cast<int>(random() % 3000);
    std::vector<int> lists(static_cast<size_t>(rows));
    int64_t total = 0;
    for (int& units : lists) {
      units = random() % 20 == 0 ? static_cast<int>(random() % 20000) : static_cast<int>(random() % 50);
      total += units;
    }
    int limit = split_limit(total, rows, kMaxSlots);
    int64_t slots = 0;
    for (int units : lists) {
      int parts = std::max(1, (units + limit - 1) / limit);
      EXPECT_LE(part_begin(units, parts, 1), limit);
      if (parts > 1) slots += parts;
    }
    EXPECT_LE(slots, kMaxSlots);
  }
}

TEST(CudaSchedule, HeavierItemsComeInEarlierClasses) {
  EXPECT_EQ(cost_class(0), kCostClasses - 1);
  EXPECT_EQ(cost_class(1), kCostClasses - 1);
  EXPECT_EQ(cost_class(2), kCostClasses - 2);
  for (int units = 1; units < 5000; ++units) {
    EXPECT_GE(cost_class(units), cost_class(units + 1));
    EXPECT_GE(cost_class(units), 0);
  }
  EXPECT_GE(cost_class(0x7fffffff), 0);
}

}  // namespace
}  // namespace tessera::attention::cuda
