// The device's choice of key tiles by score, run on the host, against its definition.
#include "attention/cuda/block_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tessera/base/random.h"

namespace tessera::attention {
namespace {

std::vector<uint32_t> listed(const cuda::BlockChoice& choice, int32_t tile, const std::vector<float>& scores,
                             bool descending) {
  cuda::BlockListShared shared;
  const cuda::SearchBlock block{.descending = descending};
  std::vector<uint32_t> marks(scores.size() / 32 + 1, 0xffffffffU);
  std::vector<int32_t> chosen(static_cast<size_t>(choice.top_k));
  std::vector<uint32_t> tiles(
      cuda::write_block_list(block, choice, tile, scores.data(), marks.data(), chosen.data(), nullptr, shared));
  cuda::write_block_list(block, choice, tile, scores.data(), marks.data(), chosen.data(), tiles.data(), shared);
  return tiles;
}

std::vector<uint32_t> expected(const cuda::BlockChoice& choice, int32_t tile, const std::vector<float>& scores) {
  std::vector<bool> wanted(scores.size());
  if (choice.top_k > 0) {
    std::vector<size_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    for (size_t i = 0; i < std::min(order.size(), static_cast<size_t>(choice.top_k)); ++i) wanted[order[i]] = true;
  } else {
    const float least = *std::max_element(scores.begin(), scores.end()) - choice.margin;
    for (size_t i = 0; i < scores.size(); ++i) wanted[i] = scores[i] >= least;
  }
  const int32_t first_own = choice.rule.first_position + tile * 128;
  std::vector<uint32_t> tiles;
  for (int32_t key = 0; key < static_cast<int32_t>(scores.size()); ++key) {
    const bool forced = key < choice.rule.sink_rows / 128 || key * 128 + 128 > first_own - choice.rule.window + 1;
    if (!forced && !wanted[static_cast<size_t>(key)]) continue;
    tiles.push_back(static_cast<uint32_t>(key) | ((key + 1) * 128 - 1 > first_own ? cuda::kMaskedTile : 0U));
  }
  return tiles;
}

TEST(BlockChoice, EqualsDefinitionWithTies) {
  Random random(8);
  for (int trial = 0; trial < 60; ++trial) {
    cuda::BlockChoice choice;
    const int32_t first = trial % 2 == 0 ? 0 : 1000;
    choice.rule = {.query_rows = 200000, .key_rows = 200000 + first, .first_position = first};
    choice.rule.sink_rows = trial % 3 == 0 ? 256 : 0;
    choice.rule.window = 1 + trial * 7;
    choice.margin = 0.7F;
    choice.top_k = trial % 4 == 0 ? 9 : 0;
    const auto tile = static_cast<int32_t>(random.below(1500));
    std::vector<float> scores(static_cast<size_t>(choice.rule.visible_tiles(tile)));
    for (float& x : scores) x = std::floor(static_cast<float>(random.normal()) * 4) / 4;
    const std::vector<uint32_t> wanted = expected(choice, tile, scores);
    EXPECT_EQ(listed(choice, tile, scores, false), wanted) << trial;
    EXPECT_EQ(listed(choice, tile, scores, true), wanted) << trial;
  }
}

}  // namespace
}  // namespace tessera::attention
