// The pooled mean correction against its definition in fp64, and its laws.
#include <algorithm>
#include <cmath>
#include <random>

#include "attention/block_state.h"
#include "attention/reference.h"
#include "attention_fixture.h"
#include "tessera/attention/selectors.h"
#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

// Lists of random tiles and columns; every query tile keeps its own tiles.
WorkList random_list(const AttentionInput& input, double density, int columns, uint64_t seed) {
  Random random(seed);
  WorkList work = make_a_shape({.sinks = 1, .window = 1})->select(input, {});
  const int64_t rows = input.heads[0].rows;
  for (HeadWork& head : work.heads) {
    head = {};
    head.tile_begin.push_back(0);
    for (int i = 0; i < columns; ++i) head.columns.push_back(static_cast<int32_t>(random.below(rows)));
    std::sort(head.columns.begin(), head.columns.end());
    head.columns.erase(std::unique(head.columns.begin(), head.columns.end()), head.columns.end());
    for (int64_t tile = 0; tile < work.query_tiles(); ++tile) {
      const int64_t first = visible_rows(input.heads[0], input.first_position + tile * kTileRows);
      const int64_t last = work.visible_rows(0, tile);
      for (int64_t key = 0; key * kTileRows < last; ++key) {
        if ((key + 1) * kTileRows > first || random.uniform() < density)
          head.tiles.push_back(static_cast<int32_t>(key));
      }
      head.tile_begin.push_back(static_cast<int64_t>(head.tiles.size()));
      if (columns == 0) continue;
      const auto end = std::lower_bound(head.columns.begin(), head.columns.end(), last);
      head.column_end.push_back(static_cast<int32_t>(end - head.columns.begin()));
    }
  }
  return work;
}

// Largest error of `found` against the definition, all in fp64: listed pairs, and for runs of skipped tiles their
// means.
double error_of(const TestCache& cache, const WorkList& work, int levels, const AttentionPartial& found) {
  const AttentionInput input = cache.input();
  const int64_t heads = input.queries.shape()[1];
  const int64_t head_dim = input.queries.shape()[2];
  const int64_t group = heads / static_cast<int64_t>(input.heads.size());
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  const PairAllowed allowed = pairs_of(work);
  double worst = 0;
  for (int64_t h = 0; h < heads; ++h) {
    const HeadWork& list = work.heads[static_cast<size_t>(h)];
    const float* keys = cache.keys[static_cast<size_t>(h / group)].data();
    const float* values = cache.values[static_cast<size_t>(h / group)].data();
    for (int64_t row = 0; row < work.query_rows; ++row) {
      const float* query = input.queries.data<float>() + (row * heads + h) * head_dim;
      double total = 0;
      std::vector<double> out(static_cast<size_t>(head_dim));
      const auto add = [&](const std::vector<int64_t>& rows) {  // as if every row were their mean
        if (rows.empty()) return;
        double score = 0;
        std::vector<double> value(out.size());
        for (const int64_t key : rows) {
          for (int64_t c = 0; c < head_dim; ++c) {
            score += static_cast<double>(query[c]) * keys[key * head_dim + c];
            value[static_cast<size_t>(c)] += values[key * head_dim + c] / static_cast<double>(rows.size());
          }
        }
        const auto count = static_cast<double>(rows.size());
        const double weight = count * std::exp(scale * score / count);
        total += weight;
        for (size_t c = 0; c < out.size(); ++c) out[c] += weight * value[c];
      };
      for (int64_t key = 0; key <= input.first_position + row; ++key) {
        if (allowed(h, row, key)) add({key});
      }
      if (!list.dense && levels > 0) {
        const auto tile = static_cast<size_t>(row / kTileRows);
        const int64_t full = (input.first_position + row / kTileRows * kTileRows + 1) / kTileRows;
        const auto skipped = [&](int64_t key) {
          return !std::binary_search(list.tiles.begin() + list.tile_begin[tile],
                                     list.tiles.begin() + list.tile_begin[tile + 1], static_cast<int32_t>(key));
        };
        std::vector<int64_t> pooled;
        for (int64_t first = 0; first < full; first += 8) {
          bool whole = levels == 2 && first + 16 <= full;
          for (int64_t key = first; key < first + 8 && whole; ++key) whole = skipped(key);
          for (int64_t key = first; key < std::min(first + 8, full); ++key) {
            if (!skipped(key)) continue;
            for (int64_t r = key * 64; r < key * 64 + 64; ++r) {
              if (!std::binary_search(list.columns.begin(), list.columns.end(), static_cast<int32_t>(r)))
                pooled.push_back(r);
            }
            if (!whole || key == first + 7) {
              add(pooled);
              pooled.clear();
            }
          }
        }
      }
      worst = std::max(worst, std::abs(std::log(total) - found.lse.data<float>()[row * heads + h]));
      for (size_t c = 0; c < out.size(); ++c) {
        worst = std::max(
            worst,
            std::abs(out[c] / total - found.out.data<float>()[(row * heads + h) * head_dim + static_cast<int64_t>(c)]));
      }
    }
  }
  return worst;
}

TEST(MeanCorrection, EqualsDefinitionInDoublePrecision) {
  for (const int levels : {1, 2}) {
    for (const int columns : {0, 40}) {
      const TestCache cache({.query_rows = 700, .query_heads = 4, .kv_heads = 2, .key_rows = 1900, .seed = 3});
      const WorkList work = random_list(cache.input(), 0.05, columns, 5);
      const AttentionPartial found = attend(cache.input(), work, {.correction_levels = levels});
      EXPECT_LT(error_of(cache, work, levels, found), 2e-5) << levels << ' ' << columns;
      // The same bound without the correction must fail, or this test shows nothing.
      EXPECT_GT(error_of(cache, work, 0, found), 1e-2);
    }
  }
}

TEST(MeanCorrection, IsDenseAttentionWhereTheKeysOfATileAreEqual) {
  TestCache cache({.query_rows = 300, .query_heads = 2, .kv_heads = 1, .head_dim = 64, .key_rows = 1500, .seed = 4});
  const WorkList work = random_list(cache.input(), 0.1, 30, 6);
  // Values differ within a tile: their mean is all that counts. Level 2 needs equal keys in eight tiles.
  for (const int64_t span : {64, 512}) {
    for (int64_t row = 0; row < 1500; ++row) std::copy_n(cache.key(0, row / span * span), 64, cache.key(0, row));
    cache.encode();
    const AttentionPartial dense = attend_dense(cache.input());
    expect_near(attend(cache.input(), work, {.correction_levels = span == 64 ? 1 : 2}), dense, 2e-5);
    EXPECT_GT(largest_difference(attend(cache.input(), work).lse, dense.lse), 0.1);
  }
}

TEST(MeanCorrection, ChangesNothingWhereNothingIsLeftOut) {
  const TestCache cache({.query_rows = 300, .query_heads = 2, .kv_heads = 1, .key_rows = 900, .seed = 5});
  const WorkList full = random_list(cache.input(), 1, 0, 7);
  WorkList dense = full;
  for (HeadWork& head : dense.heads)
    head = {.dense = true, .tile_begin = {}, .tiles = {}, .columns = {}, .column_end = {}};
  for (const WorkList& work : {full, dense}) {
    for (const int levels : {1, 2}) {
      expect_identical(attend(cache.input(), work, {.correction_levels = levels}), attend(cache.input(), work));
    }
  }
}

TEST(MeanCorrection, NeverOutweighsDenseAttention) {
  for (const uint64_t seed : {1U, 2U, 3U}) {
    TestCache cache({.query_rows = 200, .query_heads = 2, .kv_heads = 2, .key_rows = 1100, .seed = seed});
    cache.add_gaps();
    const WorkList work = random_list(cache.input(), 0.1, 20, seed);
    const AttentionPartial dense = attend_dense(cache.input());
    const AttentionPartial plain = attend(cache.input(), work);
    const AttentionPartial corrected = attend(cache.input(), work, {.correction_levels = 1});
    for (int64_t i = 0; i < dense.lse.elements(); ++i) {
      EXPECT_LE(corrected.lse.data<float>()[i], dense.lse.data<float>()[i] + 1e-5F);
      EXPECT_GE(corrected.lse.data<float>()[i], plain.lse.data<float>()[i] - 1e-6F);
    }
  }
}

TEST(MeanCorrection, DoesNotDependOnThreadsAndRefusesOtherLevels) {
  const TestCache cache({.query_rows = 130, .query_heads = 4, .kv_heads = 2, .key_rows = 1000, .seed = 6});
  const WorkList work = random_list(cache.input(), 0.2, 10, 8);
  ThreadPool one(1);
  ThreadPool three(3);
  expect_identical(attend(cache.input(), work, {.pool = &one, .correction_levels = 1}),
                   attend(cache.input(), work, {.pool = &three, .correction_levels = 1}));
  EXPECT_THROW(attend(cache.input(), work, {.correction_levels = 3}), Error);
}

}  // namespace
}  // namespace tessera::attention
