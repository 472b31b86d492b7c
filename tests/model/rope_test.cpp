#include "model/rope.h"

#include <cmath>
#include <numbers>

#include "model/support.h"
#include "tessera/base/random.h"

namespace tessera::model {
namespace {

Tensor random_heads(int64_t n, int64_t heads, int64_t head_dim) {
  Tensor x = Tensor::empty(DType::f32, {n, heads, head_dim});
  Random random(7);
  for (int64_t i = 0; i < x.elements(); ++i) x.data<float>()[i] = static_cast<float>(random.normal());
  return x;
}

Tensor rotated(const RopeConfig& config, const Tensor& x, int64_t first_position) {
  ThreadPool pool(2);
  Tensor y = x.clone();
  RopeFrequencies(config, x.shape()[2]).angles(first_position, x.shape()[0], pool).rotate(y, pool);
  return y;
}

TEST(Rope, RotatesThePairsOfBothLayouts) {
  const int64_t head_dim = 10;
  const Tensor x = random_heads(3, 2, head_dim);
  for (const RopeLayout layout : {RopeLayout::half_split, RopeLayout::interleaved}) {
    const Tensor y = rotated({.theta = 100, .layout = layout}, x, 1000000);
    for (int64_t at = 0; at < 3 * 2 * head_dim; at += head_dim) {
      for (int64_t i = 0; i < head_dim / 2; ++i) {
        const int64_t a = at + (layout == RopeLayout::half_split ? i : 2 * i);
        const int64_t b = layout == RopeLayout::half_split ? a + head_dim / 2 : a + 1;
        const auto position = static_cast<double>(1000000 + at / (2 * head_dim));
        const double angle = position * std::pow(100.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
        const float* in = x.data<float>();
        EXPECT_NEAR(y.data<float>()[a], in[a] * std::cos(angle) - in[b] * std::sin(angle), 1e-6);
        EXPECT_NEAR(y.data<float>()[b], in[a] * std::sin(angle) + in[b] * std::cos(angle), 1e-6);
      }
    }
  }
}

TEST(Rope, PositionZeroChangesNothing) {
  const Tensor x = random_heads(1, 3, 8);
  EXPECT_EQ(relative_error(values_of(rotated({}, x, 0)), values_of(x)), 0.0);
}

TEST(Rope, ScoresDependOnTheDistanceOnlyEvenFarOut) {
  const Tensor query = random_heads(1, 1, 64);
  Tensor key = random_heads(2, 1, 64).slice(1, 1);
  const auto score = [&](int64_t query_position, int64_t key_position) {
    const Tensor q = rotated({}, query, query_position);
    const Tensor k = rotated({}, key, key_position);
    double sum = 0;
    for (int64_t i = 0; i < 64; ++i) sum += static_cast<double>(q.data<float>()[i]) * k.data<float>()[i];
    return sum;
  };
  EXPECT_NEAR(score(1000123, 1000000), score(123, 0), 1e-5);
}

TEST(Rope, LinearScalingDividesThePosition) {
  const Tensor x = random_heads(1, 1, 16);
  const RopeConfig linear{.scaling = RopeScaling::linear, .factor = 4};
  EXPECT_LT(relative_error(values_of(rotated(linear, x, 400)), values_of(rotated({}, x, 100))), 1e-6);
}

TEST(Rope, Llama3KeepsShortWavesStretchesLongOnesAndBlendsBetween) {
  const RopeConfig config{.theta = 500000, .scaling = RopeScaling::llama3, .factor = 8, .original_context = 8192};
  const std::vector<double> plain = RopeFrequencies({.theta = 500000}, 128).radians_per_position();
  const std::vector<double> scaled = RopeFrequencies(config, 128).radians_per_position();
  int kept = 0;
  int stretched = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    const double wave = 2 * std::numbers::pi / plain[i];
    const double ratio = plain[i] / scaled[i];
    if (wave < 8192.0 / 4) {
      EXPECT_EQ(ratio, 1.0);
      ++kept;
    } else if (wave > 8192.0) {
      EXPECT_DOUBLE_EQ(ratio, 8.0);
      ++stretched;
    } else {
      EXPECT_GT(ratio, 1.0);
      EXPECT_LT(ratio, 8.0);
    }
  }
  EXPECT_EQ(kept, 29);  // counted in the reference implementation for Llama 3.1's own parameters
  EXPECT_EQ(stretched, 29);
}

TEST(Rope, DivisorsOfGgufAreApplied) {
  const std::vector<double> plain = RopeFrequencies({}, 4).radians_per_position();
  const std::vector<double> divided = RopeFrequencies({.frequency_divisors = {1, 8}}, 4).radians_per_position();
  EXPECT_DOUBLE_EQ(divided[0], plain[0]);
  EXPECT_DOUBLE_EQ(divided[1], plain[1] / 8);
}

}  // namespace
}  // namespace tessera::model
