#include "tessera/experts/mixed_covering.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

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

TEST(MixedCovering, RefusesWhatCannotBe) {
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
