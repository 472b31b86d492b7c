#include "tessera/experts/select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "experts/select/set_cover.h"
#include "tessera/base/error.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

std::set<std::pair<int, int>> pairs_of(const Design& design, const std::vector<int>& chosen) {
  std::set<std::pair<int, int>> pairs;
  for (const int j : chosen) {
    const auto& set = design.sets[static_cast<size_t>(j)];
    for (size_t b = 0; b < set.size(); ++b) {
      for (size_t a = 0; a < b; ++a) pairs.emplace(set[a], set[b]);
    }
  }
  return pairs;
}

std::vector<int> everyone(const Design& design) {
  std::vector<int> all(design.sets.size());
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// The least cost over all 2^m choices that hold what all candidates together hold.
double cheapest(const SelectProblem& problem) {
  const size_t m = problem.candidates.sets.size();
  const auto wanted = pairs_of(problem.candidates, everyone(problem.candidates));
  double best = std::numeric_limits<double>::infinity();
  for (uint32_t mask = 0; mask < uint32_t{1} << m; ++mask) {
    std::vector<int> chosen;
    double cost = 0;
    for (size_t j = 0; j < m; ++j) {
      if ((mask >> j & 1) == 0) continue;
      chosen.push_back(static_cast<int>(j));
      cost += problem.costs.empty() ? 1 : problem.costs[j];
    }
    if (cost < best && pairs_of(problem.candidates, chosen) == wanted) best = cost;
  }
  return best;
}

SelectProblem random_problem(uint64_t seed, bool costs) {
  Random random(seed);
  SelectProblem problem{.candidates = {.classes = 6, .sets = {}}, .costs = {}};
  for (int j = 0; j < 11; ++j) {
    std::vector<int> all = {0, 1, 2, 3, 4, 5};
    random.shuffle(all);
    all.resize(static_cast<size_t>(2 + random.below(3)));
    std::sort(all.begin(), all.end());
    problem.candidates.sets.push_back(all);
    if (costs) problem.costs.push_back(0.5 + random.uniform() * 3);
  }
  return problem;
}

TEST(Select, IsTheCheapestOfAllChoices) {
  for (uint64_t seed = 0; seed < 25; ++seed) {
    for (const bool costs : {false, true}) {
      const SelectProblem problem = random_problem(seed, costs);
      const Selection chosen = select_experts(problem, {.seconds = 5, .seed = seed});
      const double best = cheapest(problem);
      EXPECT_NEAR(chosen.cost, best, 1e-6) << "seed " << seed;
      EXPECT_TRUE(chosen.optimal) << "seed " << seed;
      EXPECT_LE(chosen.lower_bound, best + 1e-6);
      EXPECT_LE(chosen.lp_bound, best + 1e-6);
      EXPECT_EQ(pairs_of(problem.candidates, chosen.experts),
                pairs_of(problem.candidates, everyone(problem.candidates)));
    }
  }
}

TEST(Select, TheHeuristicCoversAndItsBoundHolds) {
  for (uint64_t seed = 100; seed < 110; ++seed) {
    const SelectProblem problem = random_problem(seed, seed % 2 == 0);
    const Selection chosen = select_experts(problem, {.seconds = 0.5, .effort = Effort::heuristic, .seed = seed});
    EXPECT_EQ(pairs_of(problem.candidates, chosen.experts), pairs_of(problem.candidates, everyone(problem.candidates)));
    EXPECT_LE(chosen.lower_bound, cheapest(problem) + 1e-6);
    EXPECT_GE(chosen.cost, cheapest(problem) - 1e-6);
  }
}

TEST(Select, ListsEveryPairThatNoCandidateHolds) {
  const Selection chosen =
      select_experts({.candidates = {.classes = 4, .sets = {{0, 1, 2}, {2, 3}, {0, 1}}}, .costs = {}});
  EXPECT_EQ(chosen.uncovered, (std::vector<std::pair<int, int>>{{0, 3}, {1, 3}}));
  EXPECT_EQ(chosen.experts, (std::vector<int>{0, 1}));
  EXPECT_EQ(chosen.forced, 2);
}

TEST(Select, LeavesOutWhatAnotherHoldsAtNoMoreCost) {
  const Design nested{.classes = 4, .sets = {{0, 1}, {0, 1, 2, 3}, {1, 2, 3}}};
  EXPECT_EQ(select_experts({.candidates = nested, .costs = {}}).experts, std::vector<int>{1});
  EXPECT_EQ(select_experts({.candidates = nested, .costs = {1, 9, 1}}).experts, std::vector<int>{1});
}

TEST(Select, RefusesWrongCosts) {
  const Design design{.classes = 2, .sets = {{0, 1}}};
  EXPECT_THROW(select_experts({.candidates = design, .costs = {1, 2}}), Error);
  EXPECT_THROW(select_experts({.candidates = design, .costs = {0}}), Error);
  EXPECT_THROW(select_experts({.candidates = design, .costs = {std::nan("")}}), Error);
  EXPECT_THROW(select_experts({.candidates = {.classes = 2, .sets = {}}, .costs = {}}), Error);
  EXPECT_THROW(select_experts({.candidates = {.classes = 2, .sets = {{1, 0}}}, .costs = {}}), Error);
}

// The least cost of a cover of all rows, over all 2^columns choices.
double cheapest_cover(const SetCover& problem) {
  double best = std::numeric_limits<double>::infinity();
  for (uint32_t mask = 0; mask < uint32_t{1} << problem.columns.size(); ++mask) {
    std::vector<int> cover;
    std::set<int> rows;
    for (size_t c = 0; c < problem.columns.size(); ++c) {
      if ((mask >> c & 1) == 0) continue;
      cover.push_back(static_cast<int>(c));
      rows.insert(problem.columns[c].begin(), problem.columns[c].end());
    }
    if (static_cast<int64_t>(rows.size()) == problem.rows) best = std::min(best, cost_of(problem, cover));
  }
  return best;
}

TEST(CoverTree, FindsACoverWithinTheBudgetOrThereIsNone) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Random random(seed);
    SetCover problem{.rows = 70};  // more than one word of bits
    for (int c = 0; c < 12; ++c) {
      problem.columns.emplace_back();
      for (int r = 0; r < 70; ++r) {
        if (random.uniform() < 0.45 || r % 12 == c) problem.columns.back().push_back(r);
      }
      problem.costs.push_back(seed % 2 == 0 ? 1 : 1 + static_cast<double>(random.below(5)));
    }
    const double best = cheapest_cover(problem);
    const std::vector<double> prices = solve_relaxation(problem, 5).prices;
    for (const std::vector<double>& given : {std::vector<double>{}, prices, std::vector<double>(70, 1e6)}) {
      std::vector<int> cover;
      EXPECT_EQ(search_tree(problem, {.budget = best - 0.5, .seconds = 60, .prices = given}, cover), TreeOutcome::none);
      ASSERT_EQ(search_tree(problem, {.budget = best, .seconds = 60, .prices = given}, cover), TreeOutcome::found);
      std::set<int> rows;
      for (const int c : cover) {
        rows.insert(problem.columns[static_cast<size_t>(c)].begin(), problem.columns[static_cast<size_t>(c)].end());
      }
      EXPECT_EQ(rows.size(), 70U);
      EXPECT_NEAR(cost_of(problem, cover), best, 1e-9);
    }
  }
}

}  // namespace
}  // namespace tessera::experts
