#include "tessera/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace tessera {
namespace {

TEST(Random, IsTheSameEverywhere) {
  Random random(42);
  const uint64_t first = random.bits();
  EXPECT_EQ(Random(42).bits(), first);
  EXPECT_NE(Random(43).bits(), first);
}

TEST(Random, SplitDoesNotDependOnWhatWasDrawn) {
  Random drawn(7);
  drawn.bits();
  EXPECT_EQ(drawn.split(3).bits(), Random(7).split(3).bits());
  EXPECT_NE(drawn.split(3).bits(), drawn.split(4).bits());
}

TEST(Random, BelowIsUniform) {
  Random random(1);
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; ++i) ++counts[static_cast<size_t>(random.below(7))];
  // Standard deviation of a count is 93; six of them.
  for (const int count : counts) EXPECT_NEAR(count, 10000, 560);
}

TEST(Random, NormalHasUnitVariance) {
  Random random(2);
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < 100000; ++i) {
    const double value = random.normal();
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / 1e5, 0, 0.02);
  EXPECT_NEAR(squares / 1e5, 1, 0.03);
}

TEST(Random, ShuffleKeepsTheItems) {
  std::vector<int> items(100);
  for (int i = 0; i < 100; ++i) items[static_cast<size_t>(i)] = i;
  std::vector<int> shuffled = items;
  Random(3).shuffle(shuffled);
  EXPECT_NE(shuffled, items);
  std::sort(shuffled.begin(), shuffled.end());
  EXPECT_EQ(shuffled, items);
}

}  // namespace
}  // namespace tessera
