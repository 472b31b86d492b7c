// Which items there are, in which order, and how long lists are split.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <queue>
#include <random>
#include <set>

#include "attention/cuda/list_phases.h"
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

// How far the walks of running items are from each other's phase, by the mean vector on the circle: 1 is together, 0
// anywhere. Blocks take the items in order, each when it ends one; a unit takes one step, give or take 2 % per item.
double togetherness(const std::vector<WorkItem>& items, int blocks) {
  struct Running {
    double begin, end;
    size_t item;
    bool operator<(const Running& other) const { return end > other.end; }
  };
  std::mt19937 random(3);
  std::uniform_real_distribution<double> pace(0.98, 1.02);
  std::priority_queue<Running> running;
  std::vector<Running> all;
  for (size_t i = 0; i < items.size(); ++i) {
    double begin = 0;
    if (running.size() == static_cast<size_t>(blocks)) {
      begin = running.top().end + kItemOverhead;
      running.pop();
    }
    all.push_back({begin, begin + items[i].count * pace(random), i});
    running.push(all.back());
  }
  double sum = 0;
  int samples = 0;
  const double last = all[all.size() - static_cast<size_t>(blocks)].begin;
  for (double time = last / 2; time < last; time += last / 200, ++samples) {
    double x = 0, y = 0;
    int walking = 0;
    for (const Running& each : all) {
      if (time < each.begin || time >= each.end) continue;
      const WorkItem& item = items[each.item];
      const double angle =
          2 * M_PI * ((time - each.begin) / (each.end - each.begin) + static_cast<double>(item.first) / item.count);
      x += std::cos(angle);
      y += std::sin(angle);
      ++walking;
    }
    sum += std::hypot(x, y) / walking;
  }
  return sum / samples;
}

TEST(CudaSchedule, WalksAreInPhase) {
  for (const int blocks : {37, 132}) {
    std::mt19937 random(8);
    std::normal_distribution<double> units(200, 12);
    std::vector<WorkItem> items(static_cast<size_t>(blocks) * 40);
    for (WorkItem& item : items) item.count = static_cast<int32_t>(units(random));
    const double before = togetherness(items, blocks);
    auto shared = std::make_unique<PhaseShared>();
    for (const bool descending : {false, true}) {
      std::vector<WorkItem> planned = items;
      plan_phases(PhaseBlock{descending}, planned.data(), static_cast<int32_t>(planned.size()), blocks, *shared);
      for (const WorkItem& item : planned) {
        EXPECT_GE(item.first, 0);
        EXPECT_LT(item.first, item.count);
      }
      EXPECT_GT(togetherness(planned, blocks), 0.95) << blocks << " blocks, " << before << " before";
    }
    EXPECT_LT(before, 0.6);
  }
}

TEST(CudaSchedule, PhasesOfEmptyAndFewItems) {
  std::vector<WorkItem> items(5);
  items[3].count = 7;
  auto shared = std::make_unique<PhaseShared>();
  plan_phases(PhaseBlock{}, items.data(), 5, 2, *shared);
  for (const WorkItem& item : items) EXPECT_LE(item.first, item.count > 0 ? item.count - 1 : 0);
  plan_phases(PhaseBlock{}, items.data(), 0, 2, *shared);
}

}  // namespace
}  // namespace tessera::attention::cuda
