#include "kv/kernels.h"

#include "kv/kv_support.h"

namespace tessera::kv {
namespace {

std::vector<float> normal(Random& random, int64_t count, double scale = 1) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(scale * random.normal());
  return values;
}

TEST(Kernels, TileScoresAgreeWithFp64) {
  Random random(1);
  for (const int64_t head_dim : {32, 64, 96, 128, 256}) {
    for (const int64_t count : {1, 2, 3, 4, 5, 7, 32}) {
      const std::vector<float> queries = normal(random, count * head_dim);
      const std::vector<float> keys = normal(random, head_dim * 64);
      std::vector<float> scores(static_cast<size_t>(count * 64 + 1), -7.0F);
      tile_scores({queries.data(), count, head_dim}, keys.data(), scores.data());
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t row = 0; row < 64; ++row) {
          double expected = 0;
          for (int64_t c = 0; c < head_dim; ++c) {
            expected += static_cast<double>(queries[static_cast<size_t>(i * head_dim + c)]) *
                        keys[static_cast<size_t>(c * 64 + row)];
          }
          ASSERT_NEAR(scores[static_cast<size_t>(i * 64 + row)], expected, 1e-4) << head_dim << " " << i << " " << row;
        }
      }
      EXPECT_EQ(scores.back(), -7.0F) << "wrote beyond the last query";
    }
  }
}

TEST(Kernels, ExponentialsAgreeWithFp64ForEveryCount) {
  Random random(2);
  for (int count = 1; count <= 64; ++count) {
    std::vector<float> scores = normal(random, 64, 10);
    for (int row = count; row < 64; ++row) scores[static_cast<size_t>(row)] = 1e30F;  // must not be looked at
    const TileMass mass = softmax_mass(scores.data(), count);
    const float top = *std::max_element(scores.begin(), scores.begin() + count);
    EXPECT_EQ(mass.top, top);
    double expected = 0;
    for (int row = 0; row < count; ++row)
      expected += std::exp(static_cast<double>(scores[static_cast<size_t>(row)]) - top);
    EXPECT_NEAR(mass.sum, expected, 1e-5 * expected);

    std::vector<float> sums(64, 2.0F);
    add_exponentials(scores.data(), top, count, sums.data());
    for (int row = 0; row < 64; ++row) {
      const double added = row < count ? std::exp(static_cast<double>(scores[static_cast<size_t>(row)]) - top) : 0;
      EXPECT_NEAR(sums[static_cast<size_t>(row)], 2 + added, 1e-6) << count << " " << row;
    }
  }
}

TEST(Kernels, UpperBoundAgreesWithFp64) {
  Random random(3);
  for (const int64_t head_dim : {32, 64, 96, 256}) {
    for (const int64_t count : {1, 2, 3, 8}) {
      const std::vector<float> queries = normal(random, count * head_dim);
      std::vector<float> low = normal(random, head_dim);
      std::vector<float> high = normal(random, head_dim);
      for (size_t c = 0; c < low.size(); ++c) {
        if (low[c] > high[c]) std::swap(low[c], high[c]);
      }
      double best = -1e300;
      for (int64_t i = 0; i < count; ++i) {
        double bound = 0;
        for (size_t c = 0; c < low.size(); ++c) {
          const double q = queries[static_cast<size_t>(i * head_dim) + c];
          bound += std::max(q * low[c], q * high[c]);
        }
        best = std::max(best, bound);
      }
      EXPECT_NEAR(upper_bound({queries.data(), count, head_dim}, low.data(), high.data()), best, 1e-4);
    }
  }
}

}  // namespace
}  // namespace tessera::kv
