#include "tessera/base/statistics.h"

#include <gtest/gtest.h>

#include "tessera/base/error.h"
#include "tessera/base/random.h"

namespace tessera {
namespace {

TEST(Statistics, QuantilesInterpolate) {
  const std::vector<double> values = {4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(quantile(values, 0), 1);
  EXPECT_DOUBLE_EQ(quantile(values, 1), 4);
  EXPECT_DOUBLE_EQ(median(values), 2.5);
}

TEST(Statistics, IntervalsOfTheMeanCoverIt) {
  // 300 samples of 40 uniform draws: a 95 % interval should cover 0.5 in about 285 of them.
  Random random(5);
  int covered = 0;
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<double> sample(40);
    for (double& value : sample) value = random.uniform();
    const Interval interval = bootstrap_mean(sample, {.replicates = 500, .seed = static_cast<uint64_t>(trial)});
    covered += interval.lower <= 0.5 && 0.5 <= interval.upper ? 1 : 0;
  }
  EXPECT_GT(covered, 265);
  EXPECT_LT(covered, 299);
}

TEST(Statistics, ClustersWidenTheInterval) {
  std::vector<double> values;
  std::vector<int64_t> clusters;
  for (int cluster = 0; cluster < 20; ++cluster) {
    for (int i = 0; i < 5; ++i) {
      values.push_back(cluster % 2);
      clusters.push_back(cluster);
    }
  }
  const Interval independent = bootstrap_mean(values, {});
  const Interval clustered = bootstrap_mean(values, {}, clusters);
  EXPECT_DOUBLE_EQ(independent.estimate, clustered.estimate);
  EXPECT_GT(clustered.upper - clustered.lower, 1.5 * (independent.upper - independent.lower));
}

TEST(Statistics, PairedDifferenceOfEqualScoresIsZero) {
  const std::vector<double> scores = {0, 1, 1, 0.5};
  const Interval none = bootstrap_paired_difference(scores, scores, {});
  EXPECT_EQ(none.lower, 0);
  EXPECT_EQ(none.upper, 0);
  EXPECT_THROW(bootstrap_paired_difference(scores, std::vector<double>{1}, {}), Error);
  EXPECT_THROW(bootstrap_mean({}, {}), Error);
}

}  // namespace
}  // namespace tessera
