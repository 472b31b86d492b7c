// Page selection on the host: bounds against every product, the largest scores against a sort.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "decode_host.h"

namespace tessera::attention::cuda {
namespace {

using decode_host::Host;

TEST(DecodeSelect, ScoresBoundEveryProductAndForcedPagesAreChosen) {
  Host<Bf16Pages, 96> host({.query_heads = 6, .kv_heads = 2, .lengths = {1000}, .table_heads = 2, .budget = 6});
  host.run();
  const auto [out, lse] = host.errors();
  EXPECT_LT(out, 4e-3);
  EXPECT_LT(lse, 1e-3);
  for (int32_t head = 0; head < 2; ++head) {
    for (int32_t row = 64; row < 1000 - 3 * 64; ++row) {
      for (int32_t h = 3 * head; h < 3 * head + 3; ++h) {
        double product = 0;
        for (int c = 0; c < 96; ++c) product += host.query(0, h, c) * host.key(0, head, row, c);
        EXPECT_GE(host.scores()[static_cast<std::size_t>(head * 16 + row / 64)], product - 1e-3);
      }
    }
    const auto first = host.selection().begin() + head * 6;
    EXPECT_TRUE(std::is_sorted(first, first + 6));
    EXPECT_EQ(first[0], 0);
    EXPECT_EQ(first[4], 14);
    EXPECT_EQ(first[5], 15);
  }
}

TEST(DecodeSelect, ABudgetOfAllPagesIsDense) {
  Host<Int8Pages, 64> some({.lengths = {300}, .budget = 5});
  Host<Int8Pages, 64> all({.lengths = {300}});
  some.run();
  all.run();
  EXPECT_EQ(some.out(), all.out());
}

// Few values often; many values; nearly all in one bin beside one far away, some equal; nothing finite.
std::vector<std::vector<float>> kinds_of_scores(int32_t size) {
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal(30, 4);
  std::vector<std::vector<float>> kinds(4, std::vector<float>(static_cast<std::size_t>(size), INFINITY));
  for (std::size_t i = 0; i < kinds[0].size(); ++i) {
    kinds[0][i] = static_cast<float>(static_cast<int>(random() % 13)) - 6.0F;
    kinds[1][i] = normal(random);
    kinds[2][i] = 1.0F + static_cast<float>(random() % 900) * 0x1p-20F;
  }
  kinds[0].front() = kinds[1].back() = INFINITY;
  kinds[2].back() = -1e30F;
  return kinds;
}

TEST(DecodeSelect, LargestWithTiesByLowerIndexInAnyOrderOfThreads) {
  for (const int32_t size : {1, 2, 31, 1023, 1024, 1025, 5000}) {
    for (const std::vector<float>& scores : kinds_of_scores(size)) {
      for (const int32_t count : {1, size / 16, size / 3, size - 1, size, size + 1}) {
        if (count < 1) continue;
        std::vector<int32_t> wanted(static_cast<std::size_t>(size));
        std::iota(wanted.begin(), wanted.end(), 0);
        std::stable_sort(wanted.begin(), wanted.end(), [&](int32_t a, int32_t b) {
          return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
        });
        wanted.resize(static_cast<std::size_t>(std::min(count, size)));
        std::sort(wanted.begin(), wanted.end());
        for (const bool descending : {false, true}) {
          std::vector<int32_t> selected(wanted.size(), -1);
          SelectShared shared;
          select_largest({.descending = descending}, scores.data(), size, count, selected.data(), shared);
          EXPECT_EQ(selected, wanted) << size << " scores, " << count << " kept";
        }
      }
    }
  }
}

}  // namespace
}  // namespace tessera::attention::cuda
