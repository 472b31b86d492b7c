// The constructions one by one, against counting by definition.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "experts/covering/combinations.h"
#include "experts/covering/exact.h"
#include "experts/covering/hole_designs.h"
#include "experts/covering/orbit_annealer.h"
#include "experts/covering/parts.h"
#include "experts/covering/planes.h"
#include "experts/covering/rotation.h"
#include "experts/covering/transversal.h"
#include "experts/covering/triples.h"
#include "tessera/experts/bound.h"
#include "tessera/experts/covering.h"

namespace tessera::experts {
namespace {

TEST(Planes, EveryTwoPointsLieOnOneLine) {
  for (const int q : {2, 3, 4, 5, 7, 8, 9}) {
    const PairCoverage projective = count_pairs(projective_plane(q)), affine = count_pairs(affine_plane(q));
    EXPECT_EQ(projective.lambda_min, 1) << q;
    EXPECT_EQ(projective.lambda_max, 1) << q;
    EXPECT_EQ(projective.size_max, q + 1);
    EXPECT_EQ(affine.lambda_min, 1) << q;
    EXPECT_EQ(affine.lambda_max, 1) << q;
  }
}

TEST(Triples, MeetTheBoundForEveryNumberOfClasses) {
  for (int classes = 4; classes <= 60; ++classes) {
    const Design design = triple_covering(classes, 3);
    EXPECT_EQ(static_cast<int64_t>(design.sets.size()), lower_bound(classes, 3, 1).sets) << classes;
    EXPECT_GE(count_pairs(design).lambda_min, 1) << classes;
    EXPECT_LE(count_pairs(design).size_max, 3);
  }
}

// One of each kind: a cyclic family, one with a short orbit, a hole of three, groups filled with a hole of two, groups
// of two packed into sets of four, groups of six with a hole that rotates.
TEST(HoleDesigns, MeetTheBoundOfSetsOfFour) {
  for (const int classes : {37, 40, 27, 41, 74, 99}) {
    const CoveringProblem problem{.classes = classes, .size = 4};
    const CoveringOptions options{.seconds = 60, .seed = 1};
    Incumbent incumbent(problem, options);
    Parts parts(1, [&] { return incumbent.seconds_left(); });
    HoleSearch(incumbent, parts).run(60);
    EXPECT_TRUE(incumbent.reached()) << classes;
    EXPECT_GE(count_pairs(incumbent.best().design).lambda_min, 1) << classes;
    EXPECT_LE(count_pairs(incumbent.best().design).size_max, 4) << classes;
  }
}

TEST(OrbitAnnealer, LeavesExemptPairsOpenAndCountsTheOthers) {
  // Thirteen points that rotate: one base set is the projective plane of order three.
  const PermutationGroup group(13, {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0}}, "rotation");
  const CoveringProblem problem{.classes = 13, .size = 4};
  std::vector<Plan> plans;
  add_plans(group, problem, {.low = 13, .high = 13}, plans);
  ASSERT_FALSE(plans.empty());
  const OrbitResult exact = anneal_orbits(problem, plans[0], {.moves = 200'000, .seed = 1});
  EXPECT_EQ(exact.cost, 0);
  EXPECT_EQ(count_pairs(exact.design).lambda_min, 1);
  // With nothing to cover even the first base set does.
  const OrbitResult free =
      anneal_orbits(problem, plans[0], {.moves = 1, .seed = 1, .exempt = [](int, int) { return true; }});
  EXPECT_EQ(free.cost, 0);
}

// How often each pair of the design is held.
std::vector<std::vector<int>> held(const Design& design) {
  const auto n = static_cast<size_t>(design.classes);
  std::vector<std::vector<int>> times(n, std::vector<int>(n, 0));
  for (const std::vector<int>& set : design.sets) {
    for (const int a : set) {
      for (const int b : set) times[static_cast<size_t>(a)][static_cast<size_t>(b)] += a != b ? 1 : 0;
    }
  }
  return times;
}

TEST(Rotation, DecomposesAllButHoleAndGroups) {
  // 48 points in four groups of 12 and a hole of 18: six base sets, no pair twice.
  const Rotation rotation{.turn = 48, .hole = {12, 6}, .groups = 4};
  const PermutationGroup group = rotation.group();
  const std::vector<Plan> plans = rotation_plans(rotation, group, 4, 6 * 48);
  ASSERT_FALSE(plans.empty());
  const CoveringProblem problem{.classes = rotation.points(), .size = 4};
  const auto open = [&](int a, int b) { return rotation.left_open(a, b); };
  OrbitResult result{.design = {}, .cost = 1};
  for (uint64_t seed = 0; result.cost != 0 && seed < 200; ++seed) {
    result = anneal_orbits(problem, plans[0], {.moves = 100'000, .hot = 0.5, .seed = seed, .exempt = open});
  }
  ASSERT_EQ(result.cost, 0);
  EXPECT_EQ(result.design.sets.size(), 288U);
  const auto times = held(result.design);
  int64_t pairs = 0;
  for (int a = 0; a < 66; ++a) {
    for (int b = 0; b < a; ++b) {
      const bool left = (a >= 48 && b >= 48) || (a < 48 && b < 48 && a % 4 == b % 4);
      EXPECT_EQ(left, rotation.left_open(a, b));
      EXPECT_EQ(times[static_cast<size_t>(a)][static_cast<size_t>(b)], left ? 0 : 1) << a << " " << b;
      pairs += left ? 0 : 1;
    }
  }
  EXPECT_EQ(pairs, rotation.pairs());
}

TEST(Rotation, ASingleCycleWithAHoleInThreesLeavesDifferencesOver) {
  // 22 fixed residues modulo 3 cannot serve the differences 3, 6, 9, ...: no plan, so no time is spent on it.
  const Rotation rotation{.turn = 48, .hole = {3, 3, 3, 3, 3, 3, 3, 1}};
  EXPECT_TRUE(rotation_plans(rotation, rotation.group(), 4, 364).empty());
}

TEST(Parts, CoverEverythingButTheHole) {
  Parts parts(1, [] { return 100.0; });
  struct Case {
    int classes, hole, size;
  };
  for (const auto& [classes, hole, size] : {Case{22, 7, 4}, Case{16, 4, 4}, Case{21, 5, 5}}) {
    const Design* design = nullptr;
    for (int effort = 1; effort < 7 && (design == nullptr || design->sets.empty()); ++effort) {
      design = &parts.with_hole(classes, hole, size, effort);
    }
    ASSERT_FALSE(design->sets.empty()) << classes << " " << hole;
    EXPECT_EQ(static_cast<int64_t>(design->sets.size()), hole_bound(classes, hole, size));
    const auto times = held(*design);
    for (int a = 0; a < classes - hole; ++a) {
      for (int b = 0; b < classes; ++b) {
        if (a == b) continue;
        EXPECT_GE(times[static_cast<size_t>(a)][static_cast<size_t>(b)], 1) << a << " " << b;
      }
    }
  }
}

TEST(Transversal, TwoPointsOfDifferentGroupsShareOneSet) {
  for (const int m : {1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 15, 21, 28}) {
    const int groups = std::min(most_groups(m), 9);
    const Design design = transversal_design(groups, m);
    EXPECT_EQ(design.sets.size(), static_cast<size_t>(m * m));
    const auto times = held(design);
    for (int a = 0; a < groups * m; ++a) {
      for (int b = 0; b < a; ++b) {
        ASSERT_EQ(times[static_cast<size_t>(a)][static_cast<size_t>(b)], a / m == b / m ? 0 : 1) << m << " " << a;
      }
    }
  }
  EXPECT_EQ(most_groups(4), 5);
  EXPECT_EQ(most_groups(15), 4);
  EXPECT_EQ(most_groups(6), 3);
}

Design sorted(Design design) {
  for (std::vector<int>& set : design.sets) std::sort(set.begin(), set.end());
  return design;
}

// Every combination, whatever its parts, covers; with groups it has no fewer sets than it was taken to have at best.
TEST(Combinations, AllCover) {
  for (const CoveringProblem problem : {CoveringProblem{30, 3}, CoveringProblem{61, 4}, CoveringProblem{45, 5},
                                        CoveringProblem{40, 6}, CoveringProblem{37, 8}}) {
    Parts parts(1, [] { return 0.01; });  // hardly any search
    int64_t built = 0;
    for (const Combination& combination : combinations(problem, parts, 1'000'000)) {
      const Design design = sorted(combination.build(1));
      if (design.sets.empty()) continue;
      ++built;
      const PairCoverage pairs = count_pairs(design, 0);
      EXPECT_EQ(design.classes, problem.classes) << combination.name;
      EXPECT_GE(pairs.lambda_min, 1) << problem.classes << " " << combination.name;
      EXPECT_LE(pairs.size_max, problem.size) << combination.name;
      if (combination.name.find("transversal") == std::string::npos) continue;
      EXPECT_GE(static_cast<int64_t>(design.sets.size()), combination.sets) << combination.name;
    }
    EXPECT_GE(built, 5);
  }
}

TEST(Combinations, WeightsMakeSetsOfFourFor61) {
  // 5 * 4 points of weight three: fifteen sets for each of sixteen, and five groups of 13 with the class they share.
  Parts parts(1, [] { return 100.0; });
  const std::vector<Combination> found = combinations({61, 4}, parts, lower_bound(61, 4, 1).sets);
  const auto weighted = std::find_if(found.begin(), found.end(), [](const Combination& combination) {
    return combination.name.find("weighted") != std::string::npos;
  });
  ASSERT_NE(weighted, found.end());
  const Design design = sorted(weighted->build(1));
  EXPECT_EQ(design.sets.size(), 305U);
  EXPECT_EQ(count_pairs(design).lambda_max, 1);
}

// The fewest sets by trying every multiset of sets, in ascending order.
int64_t fewest_by_brute_force(const CoveringProblem& problem) {
  std::vector<std::vector<int>> sets;
  for (uint32_t mask = 0; mask < uint32_t{1} << problem.classes; ++mask) {
    std::vector<int> set;
    for (int i = 0; i < problem.classes; ++i) {
      if ((mask >> i & 1) != 0) set.push_back(i);
    }
    if (static_cast<int>(set.size()) == problem.size) sets.push_back(set);
  }
  Design design{.classes = problem.classes, .sets = {}};
  const std::function<bool(size_t, int64_t)> extend = [&](size_t first, int64_t left) {
    if (left == 0) return count_pairs(design, 0).lambda_min >= problem.lambda;
    for (size_t j = first; j < sets.size(); ++j) {
      design.sets.push_back(sets[j]);
      if (extend(j, left - 1)) return true;
      design.sets.pop_back();
    }
    return false;
  };
  for (int64_t count = 1;; ++count) {
    if (extend(0, count)) return count;
  }
}

TEST(ExactSearch, AgreesWithTryingEveryDesign) {
  const auto never = [] { return false; };
  for (const CoveringProblem problem : {CoveringProblem{3, 2, 2}, CoveringProblem{4, 3, 1}, CoveringProblem{4, 3, 2},
                                        CoveringProblem{5, 3, 1}, CoveringProblem{5, 4, 2}, CoveringProblem{5, 4, 3},
                                        CoveringProblem{6, 4, 1}, CoveringProblem{6, 5, 3}, CoveringProblem{6, 3, 1}}) {
    const auto fewest = static_cast<int>(fewest_by_brute_force(problem));
    EXPECT_EQ(search_exactly(problem, fewest - 1, never).outcome, ExactOutcome::none) << problem.classes;
    const ExactResult found = search_exactly(problem, fewest, never);
    ASSERT_EQ(found.outcome, ExactOutcome::found) << problem.classes << " " << problem.size;
    EXPECT_GE(count_pairs(found.design).lambda_min, problem.lambda);
    EXPECT_LE(count_pairs(found.design).size_max, problem.size);
  }
}

// Mills' exceptions, and a value of the few-sets thresholds.
TEST(ExactSearch, ProvesKnownNumbers) {
  const auto never = [] { return false; };
  EXPECT_EQ(search_exactly({7, 4, 1}, 4, never).outcome, ExactOutcome::none);
  EXPECT_EQ(search_exactly({9, 4, 1}, 7, never).outcome, ExactOutcome::none);
  EXPECT_EQ(search_exactly({9, 4, 1}, 8, never).outcome, ExactOutcome::found);
  EXPECT_EQ(search_exactly({10, 4, 1}, 8, never).outcome, ExactOutcome::none);
  EXPECT_EQ(search_exactly({13, 6, 1}, 6, never).outcome, ExactOutcome::none);
  EXPECT_EQ(search_exactly({13, 6, 1}, 7, never).outcome, ExactOutcome::found);
  EXPECT_EQ(search_exactly({16, 7, 1}, 7, [] { return true; }).outcome, ExactOutcome::stopped);
}

TEST(ExactSearch, RaisesTheBoundOfADesign) {
  const Covering covering = find_covering({.classes = 12, .size = 5}, {.seconds = 60});
  EXPECT_EQ(covering.design.sets.size(), 9U);
  EXPECT_EQ(covering.bound.sets, 9);
  EXPECT_EQ(covering.bound.source, "exact search");
}

}  // namespace
}  // namespace tessera::experts
