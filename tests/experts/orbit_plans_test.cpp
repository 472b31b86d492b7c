// Plans under prescribed automorphisms, against coverings found without what the plans know, and the race among them.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "experts/covering/incumbent.h"
#include "experts/covering/orbit_annealer.h"
#include "experts/covering/orbit_plans.h"
#include "experts/covering/symmetric_anneal.h"
#include "tessera/experts/covering.h"

namespace tessera::experts {
namespace {

TEST(OrbitPlans, CountsFitWhereverACoveringExists) {
  int64_t covered = 0, refused = 0;
  for (const CoveringProblem& problem :
       {CoveringProblem{9, 3, 1}, CoveringProblem{13, 4, 1}, CoveringProblem{12, 5, 1}, CoveringProblem{8, 3, 3}}) {
    const int64_t bound = lower_bound(problem.classes, problem.size, problem.lambda).sets;
    for (const PermutationGroup& group : groups_to_try(problem.classes, problem.size)) {
      std::vector<Plan> plans;
      add_plans(group, problem, {.low = bound, .high = bound + 2}, plans);
      for (const Plan& plan : plans) {
        const bool fits = counts_fit(plan, problem);
        refused += fits ? 0 : 1;
        for (uint64_t seed = 0; seed < 3; ++seed) {
          if (anneal_orbits(problem, plan, {.moves = 3000, .hot = 0.4, .seed = seed}).cost > 0) continue;
          ++covered;
          EXPECT_TRUE(fits) << problem.classes << " " << problem.size << " " << plan.name();
        }
      }
    }
  }
  EXPECT_GT(covered, 100);
  EXPECT_GT(refused, 100);
}

TEST(OrbitPlans, TooFewSetsFitNowhere) {
  const CoveringProblem problem{.classes = 13, .size = 4};
  for (const PermutationGroup& group : groups_to_try(problem.classes, problem.size)) {
    std::vector<Plan> plans;
    add_plans(group, problem, {.low = 1, .high = 12, .wide = true}, plans);
    EXPECT_TRUE(plans.empty()) << group.name();
  }
}

// Wide plans may have the set of all fixed classes, which no subgroup's orbits and fixed points fill.
TEST(OrbitPlans, WidePlansMayHoldTheSetOfFixedClasses) {
  const CoveringProblem problem{.classes = 28, .size = 5};
  for (const PermutationGroup& group : groups_to_try(problem.classes, problem.size)) {
    if (group.name() != "rotation of 6 cycles of 4, 4 fixed") continue;
    std::vector<Plan> plans;
    add_plans(group, problem, {.low = 40, .high = 40, .wide = true}, plans);
    const auto with_fixed = [](const Plan& plan) {
      const Kind& last = plan.kinds.back();
      return last.count == 1 && last.images == 1 && last.longer == 4 && last.long_units.size() == 4;
    };
    EXPECT_TRUE(std::any_of(plans.begin(), plans.end(), with_fixed));
    EXPECT_FALSE(std::all_of(plans.begin(), plans.end(), with_fixed));
    for (const Plan& plan : plans) {
      int64_t sets = 0;
      for (const Kind& kind : plan.kinds) sets += static_cast<int64_t>(kind.count) * kind.images;
      EXPECT_EQ(sets, 40);
      EXPECT_EQ(plan.sets, 40);
    }
    return;
  }
  FAIL() << "no such group";
}

// Cycles of several lengths and base sets from orbits of two lengths: 32 classes in cycles of 12, 12, 6, 1 and 1.
TEST(OrbitPlans, CyclesOfSeveralLengthsGive52SetsFor32Classes) {
  const CoveringProblem problem{.classes = 32, .size = 5};
  for (const PermutationGroup& group : groups_to_try(problem.classes, problem.size)) {
    if (group.name() != "rotation of 2 cycles of 12, 1 of 6, 2 fixed") continue;
    EXPECT_EQ(group.order(), 12);
    std::vector<Plan> plans;
    add_plans(group, problem, {.low = 52, .high = 52, .wide = true}, plans);
    for (uint64_t seed = 0; seed < 50; ++seed) {
      for (const Plan& plan : plans) {
        const OrbitResult result = anneal_orbits(problem, plan, {.moves = 6'000, .hot = 0.35, .seed = seed});
        if (result.cost > 0) continue;
        EXPECT_EQ(result.design.sets.size(), 52U);
        EXPECT_GE(count_pairs(result.design).lambda_min, 1);
        EXPECT_LE(count_pairs(result.design).size_max, 5);
        return;
      }
    }
    FAIL() << "no plan of " << plans.size() << " covers";
  }
  FAIL() << "no such group";
}

TEST(OrbitPlans, GroupsAreDistinctAndKeepTheirOrder) {
  std::set<std::string> names;
  for (const PermutationGroup& group : groups_to_try(29, 5)) {
    EXPECT_TRUE(names.insert(group.name()).second) << group.name();
    EXPECT_GE(group.order(), 2) << group.name();
    const auto regular = group.regular_points();
    EXPECT_EQ(std::count(regular.begin(), regular.end(), 1) % group.order(), 0) << group.name();
  }
  EXPECT_TRUE(names.contains("rotation of 6 cycles of 4, 1 of 2, 3 fixed"));
  EXPECT_TRUE(names.contains("rotation of 4 cycles of 6, 1 of 3, 1 of 2, 0 fixed"));
}

// From single pairs down, by this search alone, in many short calls.
TEST(SymmetricSearch, FindsWhatItFindsInCallsOfAnyLength) {
  for (const auto& [classes, size, sets] : {std::tuple{23, 5, 28}, std::tuple{26, 6, 24}, std::tuple{21, 5, 21}}) {
    const CoveringProblem problem{.classes = classes, .size = size};
    CoveringOptions options{.seconds = 60, .seed = 1};
    options.stop_at = sets;
    Incumbent incumbent(problem, options);
    Design all{.classes = classes, .sets = {}};
    for (int a = 0; a < classes; ++a) {
      for (int b = 0; b < a; ++b) all.sets.push_back({b, a});
    }
    incumbent.offer(all, "pairs");
    SymmetricSearch search(incumbent);
    while (!incumbent.stop()) search.run(0.01);
    EXPECT_LE(incumbent.sets(), sets) << classes << " " << size;
    EXPECT_GE(count_pairs(incumbent.best().design).lambda_min, 1);
    EXPECT_LE(count_pairs(incumbent.best().design).size_max, size);
  }
}

}  // namespace
}  // namespace tessera::experts
