#include "tessera/experts/mixed_covering.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

TEST(MixedCovering, CoversWithinSizesAndNumbersAndAboveItsBound) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const MixedProblem problem{.classes = 15,
                               .kinds = {{.size = 8, .cost = 2.5, .most = 2}, {.size = 4}, {.size = 2, .cost = 0.3}}};
    const MixedCovering covering = find_mixed_covering(problem, {.seconds = 0.2, .seed = seed});
    EXPECT_GE(count_pairs(covering.design).lambda_min, 1);
    ASSERT_EQ(covering.kind.size(), covering.design.sets.size());
    double cost = 0;
    for (size_t j = 0; j < covering.kind.size(); ++j) {
      const ExpertKind& kind = problem.kinds[static_cast<size_t>(covering.kind[j])];
      EXPECT_LE(covering.design.sets[j].size(), static_cast<size_t>(kind.size));
      cost += kind.cost;
    }
    EXPECT_NEAR(covering.cost, cost, 1e-9);
    EXPECT_GE(covering.cost, covering.lower_bound - 1e-9);
    EXPECT_LE(std::count(covering.kind.begin(), covering.kind.end(), 0), 2);
  }
}

TEST(MixedCovering, OneKindIsTheUniformProblem) {
  const MixedCovering covering = find_mixed_covering({.classes = 13, .kinds = {{.size = 4}}}, {.seconds = 5});
  EXPECT_EQ(covering.design.sets.size(), 13U);  // the projective plane of order three
  EXPECT_EQ(covering.lower_bound, 13);
}

TEST(MixedCovering, TakesTheKindThatPays) {
  // One expert of all classes at cost 10, or six pairs at cost 1 each; and the other way round.
  EXPECT_EQ(find_mixed_covering({.classes = 4, .kinds = {{.size = 4, .cost = 10}, {.size = 2}}}, {.seconds = 0.2}).cost,
            6);
  EXPECT_EQ(find_mixed_covering({.classes = 4, .kinds = {{.size = 4, .cost = 5}, {.size = 2}}}, {.seconds = 0.2}).cost,
            5);
}

// The cheapest design by trying, set after set in the order of their masks, every multiset below `limit`.
double cheapest(const MixedProblem& problem, double limit) {
  struct Choice {
    std::vector<int> set;
    double cost;
  };
  std::vector<Choice> choices;
  for (uint32_t mask = 1; mask < uint32_t{1} << problem.classes; ++mask) {
    Choice choice{{}, std::numeric_limits<double>::infinity()};
    double own = 0;
    for (int i = 0; i < problem.classes; ++i) {
      if ((mask >> i & 1) == 0) continue;
      choice.set.push_back(i);
      own += problem.class_costs.empty() ? 0 : problem.class_costs[static_cast<size_t>(i)];
    }
    for (const ExpertKind& kind : problem.kinds) {
      if (choice.set.size() <= static_cast<size_t>(kind.size)) choice.cost = std::min(choice.cost, kind.cost + own);
    }
    if (choice.set.size() > 1 && std::isfinite(choice.cost)) choices.push_back(choice);
  }
  double best = limit;
  Design design{.classes = problem.classes, .sets = {}};
  const std::function<void(size_t, double)> extend = [&](size_t first, double cost) {
    if (cost >= best) return;
    if (!design.sets.empty() && count_pairs(design, 0).lambda_min >= problem.lambda) {
      best = cost;
      return;
    }
    for (size_t j = first; j < choices.size(); ++j) {
      design.sets.push_back(choices[j].set);
      extend(j, cost + choices[j].cost);
      design.sets.pop_back();
    }
  };
  extend(0, 0);
  return best;
}

TEST(MixedCovering, IsTheCheapestOfAllTinyDesigns) {
  const std::vector<MixedProblem> problems = {
      {.classes = 4, .kinds = {{.size = 3, .cost = 2}, {.size = 2}}},
      {.classes = 4, .kinds = {{.size = 3}}, .lambda = 2},
      {.classes = 4, .kinds = {{.size = 3, .cost = 1}}, .class_costs = {0, 0, 5, 1}},
      {.classes = 4, .kinds = {{.size = 3, .cost = 0}, {.size = 2, .cost = 0}}, .class_costs = {1, 2, 3, 4}},
      {.classes = 5, .kinds = {{.size = 4, .cost = 2.5}, {.size = 3, .cost = 1}}, .class_costs = {0, 1, 0, 0.5, 2}},
      {.classes = 4, .kinds = {{.size = 3, .cost = 1.5}, {.size = 2}}, .lambda = 2, .class_costs = {1, 0, 0, 0}},
  };
  for (const MixedProblem& problem : problems) {
    const MixedCovering covering = find_mixed_covering(problem, {.seconds = 0.5});
    const double best = cheapest(problem, covering.cost + 1e-6);
    EXPECT_NEAR(covering.cost, best, 1e-5) << problem.classes << " lambda " << problem.lambda;
    EXPECT_LE(covering.lower_bound, best + 1e-9);
    EXPECT_GT(covering.lower_bound, 0);
  }
}

TEST(MixedCovering, CoversLambdaTimesAndCountsTheCostOfClasses) {
  MixedProblem problem{.classes = 12, .kinds = {{.size = 6, .cost = 3, .most = 5}, {.size = 4}}, .lambda = 3};
  for (int i = 0; i < 12; ++i) problem.class_costs.push_back(i % 4 * 0.5);
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const MixedCovering covering = find_mixed_covering(problem, {.seconds = 0.3, .seed = seed});
    EXPECT_GE(count_pairs(covering.design).lambda_min, 3);
    double cost = 0;
    for (size_t j = 0; j < covering.kind.size(); ++j) {
      const ExpertKind& kind = problem.kinds[static_cast<size_t>(covering.kind[j])];
      EXPECT_LE(covering.design.sets[j].size(), static_cast<size_t>(kind.size));
      cost += kind.cost;
      for (const int i : covering.design.sets[j]) cost += problem.class_costs[static_cast<size_t>(i)];
    }
    EXPECT_NEAR(covering.cost, cost, 1e-9);
    EXPECT_GE(covering.cost, covering.lower_bound - 1e-9);
    EXPECT_LE(std::count(covering.kind.begin(), covering.kind.end(), 0), 5);
  }
}

TEST(MixedCovering, RefusesWhatCannotBe) {
  EXPECT_THROW(find_mixed_covering({.classes = 5, .kinds = {{.size = 3}}, .lambda = 0}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 5, .kinds = {{.size = 3}}, .class_costs = {1, 2}}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 2, .kinds = {{.size = 2}}, .class_costs = {1, -1}}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 2, .kinds = {{.size = 2}}, .class_costs = {1, std::nan("")}}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 2, .kinds = {{.size = 2, .cost = 0}}, .class_costs = {1, 0}}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 1, .kinds = {{.size = 2}}}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 5, .kinds = {}}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 5, .kinds = {{.size = 1}}}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 5, .kinds = {{.size = 3, .cost = 0}}}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 5, .kinds = {{.size = 3, .cost = std::nan("")}}}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 5, .kinds = {{.size = 3, .most = -1}}}), Error);
  EXPECT_THROW(find_mixed_covering({.classes = 5, .kinds = {{.size = 2, .most = 3}}}, {.seconds = 0.1}), Error);
}

}  // namespace
}  // namespace tessera::experts
