#include "tessera/experts/design.h"

#include <gtest/gtest.h>

#include "tessera/base/error.h"
#include "tessera/experts/covering.h"

namespace tessera::experts {
namespace {

TEST(CheckDesign, NamesWhatIsWrong) {
  EXPECT_NO_THROW(check_design({.classes = 3, .sets = {{0, 1}, {0, 2}, {1, 2}}}));
  EXPECT_THROW(check_design({.classes = 0, .sets = {}}), Error);
  EXPECT_THROW(check_design({.classes = 3, .sets = {{}}}), Error);
  EXPECT_THROW(check_design({.classes = 3, .sets = {{1, 0}}}), Error);
  EXPECT_THROW(check_design({.classes = 3, .sets = {{1, 1}}}), Error);
  EXPECT_THROW(check_design({.classes = 3, .sets = {{2, 3}}}), Error);
}

TEST(FindCovering, CoversEveryPairWithinTheSizeAndNotBelowTheBound) {
  for (int classes = 2; classes <= 17; ++classes) {
    for (int size = 2; size <= classes + 1; ++size) {
      for (const int lambda : {1, 3}) {
        const Covering covering = find_covering({classes, size, lambda}, {.seconds = 0});
        const PairCoverage pairs = count_pairs(covering.design);
        EXPECT_GE(pairs.lambda_min, lambda) << classes << " " << size;
        EXPECT_LE(pairs.size_max, std::min(size, classes));
        EXPECT_GE(static_cast<int64_t>(covering.design.sets.size()), covering.bound.sets);
      }
    }
  }
}

TEST(FindCovering, PairsAreOneVersusOne) {
  const Covering covering = find_covering({.classes = 9, .size = 2}, {.seconds = 0});
  EXPECT_EQ(covering.design.sets.size(), 36U);
  EXPECT_TRUE(covering.optimal());
}

TEST(FindCovering, IsTheSameForTheSameSeed) {
  const CoveringProblem problem{.classes = 20, .size = 4};
  EXPECT_EQ(find_covering(problem, {.seconds = 0, .seed = 5}).design.sets,
            find_covering(problem, {.seconds = 0, .seed = 5}).design.sets);
}

TEST(FindCovering, RefusesWhatNoDesignCanBe) {
  EXPECT_THROW(find_covering({.classes = 0, .size = 3}), Error);
  EXPECT_THROW(find_covering({.classes = 5, .size = 1}), Error);
  EXPECT_THROW(find_covering({.classes = 5, .size = 3, .lambda = 0}), Error);
}

TEST(CountPairs, AgreesWithCountingByDefinition) {
  const Design design{.classes = 5, .sets = {{0, 1, 2}, {0, 3}, {1, 2, 4}, {0, 1}}};
  const PairCoverage pairs = count_pairs(design);
  EXPECT_EQ(pairs.lambda_min, 0);
  EXPECT_EQ(pairs.lambda_max, 2);
  EXPECT_EQ(pairs.uncovered_pairs, (std::vector<std::pair<int, int>>{{0, 4}, {1, 3}, {2, 3}, {3, 4}}));
  EXPECT_EQ(pairs.errors_survived(), -1);
}

}  // namespace
}  // namespace tessera::experts
