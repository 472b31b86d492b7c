// Exact cover against trying every choice of options, and the coverings that are found with it.
#include "experts/covering/exact_cover.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "experts/covering/fourfold_pair.h"
#include "experts/covering/multiplier_holes.h"

namespace tessera::experts {
namespace {

const std::function<bool()> kNever = [] { return false; };

bool covers_once(int items, const std::vector<std::vector<int>>& options, const std::vector<size_t>& chosen) {
  std::vector<int> held(static_cast<size_t>(items), 0);
  for (const size_t o : chosen) {
    for (const int item : options[o]) ++held[static_cast<size_t>(item)];
  }
  return std::all_of(held.begin(), held.end(), [](int count) { return count == 1; });
}

bool some_choice_covers(int items, const std::vector<std::vector<int>>& options) {
  for (uint64_t mask = 0; mask < uint64_t{1} << options.size(); ++mask) {
    std::vector<size_t> chosen;
    for (size_t o = 0; o < options.size(); ++o) {
      if ((mask >> o & 1) != 0) chosen.push_back(o);
    }
    if (covers_once(items, options, chosen)) return true;
  }
  return false;
}

TEST(ExactCover, AgreesWithTryingEveryChoice) {
  Random random(5);
  int found = 0, none = 0;
  for (int trial = 0; trial < 300; ++trial) {
    const int items = static_cast<int>(4 + random.below(5));
    std::vector<std::vector<int>> options(static_cast<size_t>(3 + random.below(9)));
    for (std::vector<int>& option : options) {
      for (int item = 0; item < items; ++item) {
        if (random.below(3) == 0) option.push_back(item);
      }
      if (option.empty()) option.push_back(0);
    }
    ExactCover cover(items, options);
    // A second attempt finds everything as the first one left it.
    for (int attempt = 0; attempt < 2; ++attempt) {
      const CoverOutcome outcome = cover.attempt(1'000'000, random, kNever);
      EXPECT_EQ(outcome == CoverOutcome::found, some_choice_covers(items, options)) << trial;
      EXPECT_NE(outcome, CoverOutcome::stopped);
      if (outcome == CoverOutcome::found) {
        EXPECT_TRUE(covers_once(items, options, cover.chosen())) << trial;
      }
      (outcome == CoverOutcome::found ? found : none) += 1;
    }
  }
  EXPECT_GT(found, 50);
  EXPECT_GT(none, 50);
}

TEST(ExactCover, StopsAfterTheGivenNodesAndGoesOnAfterwards) {
  // Pairs of eight points: perfect matchings, eight choices deep at least.
  std::vector<std::vector<int>> options;
  for (int a = 0; a < 8; ++a) {
    for (int b = a + 1; b < 8; ++b) options.push_back({a, b});
  }
  ExactCover cover(8, options);
  Random random(1);
  EXPECT_EQ(cover.attempt(3, random, kNever), CoverOutcome::stopped);
  EXPECT_EQ(cover.attempt(1000, random, kNever), CoverOutcome::found);
  EXPECT_EQ(cover.chosen().size(), 4u);
  EXPECT_TRUE(covers_once(8, options, cover.chosen()));
}

// The orbits of a plan, all images counted pair by pair.
TEST(FourfoldPair, OrbitsOfAPlanHoldTheirPairsOnce) {
  for (const auto& [classes, turn] : {std::pair{22, 2}, std::pair{31, 6}, std::pair{34, 6}}) {
    for (const bool exchange : {false, true}) {
      const FourfoldPlan plan = fourfold_plan(classes, turn, exchange);
      ASSERT_EQ(plan.group.order(), turn);
      Design given{.classes = classes, .sets = plan.given};
      EXPECT_EQ(count_pairs(given).lambda_max, 4);
      ASSERT_FALSE(plan.orbits.options.empty());
      for (size_t o = 0; o < plan.orbits.options.size(); o += 7) {
        Design orbit = given;
        const auto images = plan.group.images(plan.orbits.options[o].base);
        orbit.sets.insert(orbit.sets.end(), images.begin(), images.end());
        const int64_t open = count_pairs(given, 0).uncovered, left = count_pairs(orbit, 0).uncovered;
        EXPECT_EQ(open - left, 6 * static_cast<int64_t>(images.size()));
      }
    }
  }
}

TEST(FourfoldPair, MeetsTheBoundWithOnePairInFourSets) {
  for (const int classes : {22, 31, 34}) {
    const CoveringProblem problem{.classes = classes, .size = 4};
    const CoveringOptions options{.seconds = 60, .seed = 2};
    Incumbent incumbent(problem, options);
    FourfoldSearch(incumbent).run(60);
    ASSERT_TRUE(incumbent.reached()) << classes;
    EXPECT_EQ(incumbent.sets(), lower_bound(classes, 4, 1).sets);
    const PairCoverage pairs = count_pairs(incumbent.best().design);
    EXPECT_EQ(pairs.lambda_min, 1) << classes;
    EXPECT_EQ(pairs.lambda_max, 4) << classes;
  }
}

TEST(FourfoldPair, LeavesOtherProblemsAlone) {
  for (const CoveringProblem& problem :
       {CoveringProblem{.classes = 19, .size = 4}, CoveringProblem{.classes = 23, .size = 4},
        CoveringProblem{.classes = 22, .size = 5}, CoveringProblem{.classes = 22, .size = 4, .lambda = 2}}) {
    const CoveringOptions options{.seconds = 60};
    Incumbent incumbent(problem, options);
    FourfoldSearch(incumbent).run(60);
    EXPECT_EQ(incumbent.sets(), 0) << problem.classes;
  }
}

TEST(OrbitOptions, AreAllOrbitsWithoutADonePair) {
  // Sets of three on seven points that rotate: the two orbits of {0, 1, 3}, {0, 1, 5} hold every pair once, the three
  // others hold some pair twice.
  const PermutationGroup group(7, {{1, 2, 3, 4, 5, 6, 0}}, "rotation");
  const OrbitCover cover = orbit_options(
      group, 3, [](int, int) { return false; }, 100);
  EXPECT_EQ(cover.open_classes, 3);
  ASSERT_EQ(cover.options.size(), 2u);
  for (const OrbitOption& option : cover.options) {
    Design design{.classes = 7, .sets = group.images(option.base)};
    const PairCoverage pairs = count_pairs(design);
    EXPECT_EQ(pairs.lambda_min, 1);
    EXPECT_EQ(pairs.lambda_max, 1);
  }
  const auto neighbours = [](int a, int b) { return b - a == 1 || b - a == 6; };
  EXPECT_TRUE(orbit_options(group, 3, neighbours, 100).options.empty());
  EXPECT_TRUE(orbit_options(
                  group, 3, [](int, int) { return false; }, 1)
                  .options.empty());
}

TEST(MultiplierHoles, LayoutsKeepTheHoleAndHaveWholeNumbers) {
  int64_t seen = 0;
  for (const int size : {3, 4, 5}) {
    for (int classes = 20; classes <= 90; ++classes) {
      for (const MultiplierLayout& layout : multiplier_layouts(classes, size)) {
        ++seen;
        EXPECT_EQ(layout.points(), classes);
        const int hole = layout.hole_points(), first = classes - hole;
        EXPECT_EQ((classes * (classes - 1) - hole * (hole - 1)) % (size * (size - 1)), 0);
        const PermutationGroup group = layout.group();
        EXPECT_EQ(group.order(), layout.turn * (size - 1)) << classes << ' ' << size;
        for (const Permutation& g : group.elements()) {
          for (int x = 0; x < classes; ++x) EXPECT_EQ(g[static_cast<size_t>(x)] >= first, x >= first);
        }
      }
    }
  }
  EXPECT_GT(seen, 20);
}

TEST(MultiplierHoles, MeetTheBoundOfSetsOfFour) {
  const CoveringProblem problem{.classes = 79, .size = 4};
  const CoveringOptions options{.seconds = 120, .seed = 1};
  Incumbent incumbent(problem, options);
  Parts parts(1, [&] { return incumbent.seconds_left(); });
  MultiplierSearch(incumbent, parts).run(120);
  ASSERT_TRUE(incumbent.reached());
  const PairCoverage pairs = count_pairs(incumbent.best().design);
  EXPECT_EQ(pairs.lambda_min, 1);
  EXPECT_EQ(pairs.lambda_max, 4);
}

}  // namespace
}  // namespace tessera::experts
