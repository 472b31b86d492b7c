// Kernel regression against dense formulas and refits.
#include <gtest/gtest.h>

#include <Eigen/Dense>

#include "explain/kernel_mixture.h"
#include "explain/normal.h"
#include "explain/simulation.h"
#include "tessera/base/random.h"
#include "tessera/explain/explain.h"

namespace tessera::explain {
namespace {

struct Data {
  Points points;
  Eigen::VectorXd output;
  explicit Data(int64_t rows, uint64_t seed = 1) {
    Random random(seed);
    points.continuous = 2;
    points.categorical = 1;
    points.values.resize(3, rows);
    output.resize(rows);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < 2; ++j) points.values(j, i) = random.normal();
      points.values(2, i) = static_cast<double>(random.below(2));
      output[i] = std::sin(points.values(0, i)) + points.values(1, i) * points.values(2, i);
    }
  }
  Data without(const std::vector<int64_t>& gone) const {
    Data result(1);
    std::vector<int64_t> kept;
    for (int64_t i = 0; i < output.size(); ++i) {
      if (std::find(gone.begin(), gone.end(), i) == gone.end()) kept.push_back(i);
    }
    result.points.values = points.values(Eigen::all, kept);
    result.output = output(kept);
    return result;
  }
};

const Kernel kKernel{Smoothness::matern52, {1.2, 0.8}, {0.5}, 1e-3};

TEST(KernelFit, LeaveOneOutEqualsARefit) {
  // Few rows: the trend is a constant, whose terms do not depend on the rows' centre.
  const Data data(17);
  const KernelFit fit(kKernel, data.points, data.output);
  ASSERT_TRUE(fit.valid());
  for (const int64_t i : {0, 5, 16}) {
    const Data rest = data.without({i});
    const KernelFit without(kKernel, rest.points, rest.output);
    const Eigen::VectorXd at = data.points.values.col(i);
    EXPECT_NEAR(fit.left_out(i).value, data.output[i] - without.estimate(without.value_at(at)).value, 1e-9);
  }
}

TEST(KernelFit, SlopeIsTheDerivativeOfTheFit) {
  const Data data(40);
  for (const Smoothness smoothness : {Smoothness::gaussian, Smoothness::matern52, Smoothness::matern32}) {
    Kernel kernel = kKernel;
    kernel.smoothness = smoothness;
    const KernelFit fit(kernel, data.points, data.output);
    Eigen::VectorXd at = data.points.values.col(3);
    at[0] += 0.1;
    for (int64_t j = 0; j < 2; ++j) {
      Eigen::VectorXd up = at, down = at;
      up[j] += 1e-5;
      down[j] -= 1e-5;
      const Estimate slope = fit.estimate(fit.slope_at(at, j));
      const Estimate difference = fit.estimate(fit.difference(up, down));
      EXPECT_NEAR(slope.value, difference.value / 2e-5, 1e-5) << to_string(smoothness);
      EXPECT_GT(slope.error, 0);
    }
  }
}

TEST(KernelFit, ALinearFunctionIsExact) {
  Data data(60);
  for (int64_t i = 0; i < 60; ++i) data.output[i] = 2 + 3 * data.points.values(0, i) - data.points.values(1, i);
  const KernelFit fit(kKernel, data.points, data.output);
  const Eigen::VectorXd at = data.points.values.col(0);
  EXPECT_NEAR(fit.estimate(fit.slope_at(at, 0)).value, 3, 1e-8);
  EXPECT_NEAR(fit.estimate(fit.slope_at(at, 1)).value, -1, 1e-8);
}

TEST(KernelFit, AHeldSignalVarianceScalesErrorsAndRaisesTheDeviance) {
  const Data data(50);
  const KernelFit free(kKernel, data.points, data.output);
  const KernelFit held(kKernel, data.points, data.output, 4 * free.signal_variance());
  const Eigen::VectorXd at = data.points.values.col(3).array() + 0.1;
  const Estimate a = free.estimate(free.slope_at(at, 0)), b = held.estimate(held.slope_at(at, 0));
  EXPECT_NEAR(a.value, b.value, 1e-9);
  EXPECT_NEAR(b.error, 2 * a.error, 1e-9);
  EXPECT_GT(held.deviance(), free.deviance());  // the free one is the most likely
}

TEST(KernelFit, ExactOutputsAreHeldToTheErrorOfTheFunction) {
  const Data data(50);
  Kernel exact = kKernel;
  exact.exact_outputs = true;
  const KernelFit noisy(kKernel, data.points, data.output), plain(exact, data.points, data.output);
  for (const int64_t i : {0, 7, 30}) {
    const Estimate a = noisy.left_out(i), b = plain.left_out(i);
    EXPECT_EQ(a.value, b.value);
    EXPECT_NEAR(a.error * a.error - b.error * b.error, noisy.signal_variance() * kKernel.nugget,
                1e-9 * noisy.signal_variance());
  }
}

// Blocks of rows of one category, noise of 0.2 on `output`.
template <typename Output>
std::vector<KernelBlock> noisy_blocks(const Output& output) {
  std::vector<KernelBlock> blocks;
  Random random(5);
  for (int b = 0; b < 6; ++b) {
    KernelBlock block;
    block.points.continuous = 2;
    block.points.values.resize(2, 120);
    block.output.resize(120);
    for (int64_t i = 0; i < 120; ++i) {
      for (int64_t j = 0; j < 2; ++j) block.points.values(j, i) = random.normal();
      block.output[i] = output(block.points.values(0, i), block.points.values(1, i)) + 0.2 * random.normal();
    }
    blocks.push_back(std::move(block));
  }
  return blocks;
}

TEST(NoisePrior, FindsTheNoiseAndWhetherThereIsMoreThanATrend) {
  const auto waves = noisy_blocks([](double x, double y) { return std::sin(2 * x) + std::cos(y); });
  const NoisePrior curved(waves, {1, 1}, Smoothness::gaussian, 1.2);
  EXPECT_NEAR(std::sqrt(curved.noise_variance()), 0.2, 0.03);
  EXPECT_FALSE(curved.linear());
  EXPECT_NEAR(curved.weight().sum(), 1, 1e-12);
  const auto planes = noisy_blocks([](double x, double y) { return 2 * x - y; });
  const NoisePrior flat(planes, {1, 1}, Smoothness::gaussian, 5);
  EXPECT_NEAR(std::sqrt(flat.noise_variance()), 0.2, 0.03);
  EXPECT_TRUE(flat.linear());
}

TEST(KernelMixture, OneCandidateIsItsFitAndEqualCandidatesAddNothing) {
  const Data data(80);
  const KernelFit fit(kKernel, data.points, data.output);
  const KernelMixture one({{kKernel, 0, 0}}, {data.points, data.output});
  const KernelMixture two({{kKernel, 0, 0}, {kKernel, 0, -0.3}}, {data.points, data.output});
  const auto slope = [&](const KernelFit& each) { return each.estimate(each.slope_at(data.points.values.col(2), 1)); };
  for (const KernelMixture* mixture : {&one, &two}) {
    EXPECT_NEAR(mixture->estimate(slope).value, slope(fit).value, 1e-12);
    EXPECT_NEAR(mixture->estimate(slope).error, slope(fit).error, 1e-12);
  }
}

TEST(KernelMixture, DisagreementIsPartOfTheErrorAndALinearFunctionIsExact) {
  Data data(80);
  Kernel rough = kKernel;
  for (double& length : rough.length) length /= 4;
  const std::vector<Candidate> candidates = {{kKernel, 0.5, 0}, {rough, 0.5, 0}};
  const auto slope = [&](const KernelFit& each) { return each.estimate(each.slope_at(data.points.values.col(2), 0)); };
  const KernelMixture mixture(candidates, {data.points, data.output});
  const KernelFit a(kKernel, data.points, data.output, 0.5), b(rough, data.points, data.output, 0.5);
  const Estimate mixed = mixture.estimate(slope);
  EXPECT_GE(mixed.value, std::min(slope(a).value, slope(b).value));
  EXPECT_LE(mixed.value, std::max(slope(a).value, slope(b).value));
  EXPECT_GE(mixed.error, std::min(slope(a).error, slope(b).error));
  for (int64_t i = 0; i < 80; ++i) data.output[i] = 2 + 3 * data.points.values(0, i) - data.points.values(1, i);
  EXPECT_NEAR(KernelMixture(candidates, {data.points, data.output}).estimate(slope).value, 3, 1e-8);
}

TEST(Normal, QuantilesInvertProbabilities) {
  for (const double p : {0.001, 0.025, 0.3, 0.5, 0.8, 0.975, 0.9999})
    EXPECT_NEAR(normal_probability(normal_quantile(p)), p, 1e-12);
  EXPECT_NEAR(normal_quantile(0.975), 1.959963984540054, 1e-9);
  EXPECT_NEAR(student_quantile(0.975, 1), 12.7062, 1e-3);
  EXPECT_NEAR(student_quantile(0.975, 10), 2.22814, 2e-3);
}

}  // namespace
TEST(KernelModel, AnswersFromWhatWasLearnedAreTheSameBitForBit) {
  const Simulation simulation(11, 600);
  const Explainer first(simulation.view(), simulation.outputs, simulation.features, Options{});
  const Explanation expected = first.explain(simulation.query);
  const std::string learned = first.learned();
  ASSERT_FALSE(learned.empty());
  const Explainer again(simulation.view(), simulation.outputs, simulation.features, Options{}, nullptr, learned);
  const Explanation answer = again.explain(simulation.query);
  EXPECT_EQ(again.choice(), first.choice());
  EXPECT_EQ(again.learned(), learned);
  for (size_t j = 0; j < answer.features.size(); ++j) {
    EXPECT_EQ(answer.features[j].importance, expected.features[j].importance);
    EXPECT_EQ(answer.features[j].lower, expected.features[j].lower);
    EXPECT_EQ(answer.features[j].upper, expected.features[j].upper);
  }
}

TEST(KernelModel, WhatAnotherTableTaughtIsNotUsed) {
  const Simulation simulation(11, 600), other(12, 600);
  const Explainer teacher(other.view(), other.outputs, other.features, Options{});
  (void)teacher.explain(simulation.query);
  const Explainer plain(simulation.view(), simulation.outputs, simulation.features, Options{});
  const double expected = plain.explain(simulation.query).features[0].upper;
  for (const std::string& text :
       {teacher.learned(), std::string("{"), std::string("[1, 2]"), std::string(R"({"key": 1})")}) {
    const Explainer explainer(simulation.view(), simulation.outputs, simulation.features, Options{}, nullptr, text);
    EXPECT_EQ(explainer.explain(simulation.query).features[0].upper, expected);
  }
}

}  // namespace tessera::explain
