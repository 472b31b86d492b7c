#include "tessera/engine/sampler.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "tessera/base/error.h"

namespace tessera::engine {
namespace {

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  const std::array<float, 4> logits = {1, 3, 3, 2};
  EXPECT_EQ(Sampler({}).sample(logits), 1);
}

TEST(Sampler, TemperatureFollowsTheSoftmax) {
  const std::array<float, 3> logits = {0, 1, -1};
  Sampler sampler({.temperature = 0.5F, .seed = 3});
  std::array<int, 3> counts = {};
  constexpr int kDraws = 40000;
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sampler.sample(logits))];
  const double total = std::exp(0.0) + std::exp(2.0) + std::exp(-2.0);
  EXPECT_NEAR(counts[0] / double{kDraws}, std::exp(0.0) / total, 0.01);
  EXPECT_NEAR(counts[1] / double{kDraws}, std::exp(2.0) / total, 0.01);
}

TEST(Sampler, TopPKeepsTheSmallestSufficientSet) {
  const std::array<float, 3> logits = {std::log(0.5F), std::log(0.3F), std::log(0.2F)};
  Sampler sampler({.temperature = 1, .top_p = 0.7F, .seed = 1});
  std::array<int, 3> counts = {};
  for (int i = 0; i < 20000; ++i) ++counts[static_cast<size_t>(sampler.sample(logits))];
  EXPECT_EQ(counts[2], 0);
  EXPECT_NEAR(counts[0] / 20000.0, 0.625, 0.015);
}

TEST(Sampler, IsSeeded) {
  const std::array<float, 4> logits = {0, 0, 0, 0};
  Sampler a({.temperature = 1, .seed = 9});
  Sampler b({.temperature = 1, .seed = 9});
  for (int i = 0; i < 50; ++i) EXPECT_EQ(a.sample(logits), b.sample(logits));
}

TEST(Sampler, RefusesBadOptions) {
  EXPECT_THROW(Sampler({.temperature = -1}), Error);
  EXPECT_THROW(Sampler({.temperature = std::nanf("")}), Error);
  EXPECT_THROW(Sampler({.top_p = 0}), Error);
  EXPECT_THROW(Sampler({.top_p = 1.5F}), Error);
}

}  // namespace
}  // namespace tessera::engine
