// The constructions one by one, against counting by definition.
#include <gtest/gtest.h>

#include "experts/covering/hole_designs.h"
#include "experts/covering/orbit_annealer.h"
#include "experts/covering/planes.h"
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

// One of each kind: a cyclic family, one with a short orbit, a hole of three, groups filled with a hole of two.
TEST(HoleDesigns, MeetTheBoundOfSetsOfFour) {
  for (const int classes : {37, 40, 27, 41}) {
    const CoveringProblem problem{.classes = classes, .size = 4};
    const CoveringOptions options{.seconds = 60, .seed = 1};
    Incumbent incumbent(problem, options);
    search_holes(incumbent, 60, 0);
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
  add_plans(group, problem, 13, 13, plans);
  ASSERT_FALSE(plans.empty());
  const OrbitResult exact = anneal_orbits(problem, plans[0], {.moves = 200'000, .seed = 1});
  EXPECT_EQ(exact.cost, 0);
  EXPECT_EQ(count_pairs(exact.design).lambda_min, 1);
  // With nothing to cover even the first base set does.
  const OrbitResult free =
      anneal_orbits(problem, plans[0], {.moves = 1, .seed = 1, .exempt = [](int, int) { return true; }});
  EXPECT_EQ(free.cost, 0);
}

}  // namespace
}  // namespace tessera::experts
