// SnapKV against its definition in fp64, and its edges.
#include <numeric>

#include "kv/kv_support.h"
#include "kv/observed_attention.h"

namespace tessera::kv {
namespace {

using Pooling = SnapKvOptions::Pooling;

// Votes of the definition: [kv_heads][rows].
std::vector<std::vector<double>> reference_votes(const Prompt& prompt, int64_t window) {
  const int64_t query_heads = prompt.queries.shape()[1];
  const int64_t kv_heads = prompt.kv_heads();
  const int64_t group = query_heads / kv_heads;
  const int64_t head_dim = prompt.head_dim();
  const int64_t rows = prompt.rows();
  std::vector<std::vector<double>> votes(static_cast<size_t>(kv_heads), std::vector<double>(static_cast<size_t>(rows)));
  for (int64_t i = rows - window; i < rows; ++i) {
    for (int64_t h = 0; h < query_heads; ++h) {
      std::vector<double> weights;
      for (int64_t j = 0; j <= i; ++j) {
        double score = 0;
        for (int64_t c = 0; c < head_dim; ++c) {
          score += static_cast<double>(prompt.queries.data<float>()[(i * query_heads + h) * head_dim + c]) *
                   prompt.keys.data<float>()[(j * kv_heads + h / group) * head_dim + c];
        }
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(head_dim))));
      }
      const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (size_t j = 0; j < weights.size(); ++j) {
        votes[static_cast<size_t>(h / group)][j] += weights[j] / total / static_cast<double>(group);
      }
    }
  }
  return votes;
}

// Pooled votes of the columns before the window; outside them votes are 0.
std::vector<double> reference_pooled(const std::vector<double>& votes, const SnapKvOptions& options) {
  const int64_t columns = std::ssize(votes) - options.window;
  std::vector<double> pooled;
  for (int64_t j = 0; j < columns; ++j) {
    double sum = 0;
    double most = 0;
    for (int64_t k = j - options.pool / 2; k <= j + options.pool / 2; ++k) {
      if (k < 0 || k >= columns) continue;
      sum += votes[static_cast<size_t>(k)];
      most = std::max(most, votes[static_cast<size_t>(k)]);
    }
    pooled.push_back(options.pooling == Pooling::average ? sum / static_cast<double>(options.pool) : most);
  }
  return pooled;
}

// The kept rows are the best by the definition; two rows whose pooled votes differ by less than f32 can tell may swap.
void expect_best(const std::vector<int32_t>& kept, const std::vector<double>& pooled, const SnapKvOptions& options) {
  ASSERT_EQ(std::ssize(kept), options.capacity);
  std::vector<bool> is_kept(pooled.size());
  const int64_t rows = std::ssize(pooled) + options.window;
  for (int64_t i = 0; i < options.capacity; ++i) {
    const int32_t row = kept[static_cast<size_t>(i)];
    if (i >= options.capacity - options.window) {
      ASSERT_EQ(row, rows - options.capacity + i) << "the window is kept";
    } else {
      ASSERT_LT(row, std::ssize(pooled));
      is_kept[static_cast<size_t>(row)] = true;
    }
  }
  double worst_kept = 1e300;
  double best_dropped = 0;
  for (size_t row = 0; row < pooled.size(); ++row) {
    if (is_kept[row]) worst_kept = std::min(worst_kept, pooled[row]);
    if (!is_kept[row]) best_dropped = std::max(best_dropped, pooled[row]);
  }
  EXPECT_GE(worst_kept, best_dropped * (1 - 1e-5));
}

TEST(ObservedAttention, AgreesWithFp64) {
  for (const int64_t group : {1, 2, 4}) {
    for (const int64_t rows : {1, 63, 64, 65, 300, 1100}) {
      const Prompt prompt =
          random_prompt(static_cast<uint64_t>(rows), {.rows = rows, .query_heads = 2 * group, .kv_heads = 2});
      const int64_t window = std::min<int64_t>(rows, 9);
      KeyValueCache cache = cache_for(prompt);
      append_prompt(cache, prompt, rows);
      const PrefillEnd end{.last_queries = prompt.queries.slice(rows - window, window),
                           .first_position = rows - window};
      const auto found = observed_attention(cache.view(0), 32, end);
      const auto expected = reference_votes(prompt, window);
      ASSERT_EQ(found.size(), expected.size());
      for (size_t h = 0; h < found.size(); ++h) {
        ASSERT_EQ(found[h].size(), expected[h].size());
        double total = 0;
        for (size_t j = 0; j < found[h].size(); ++j) {
          ASSERT_NEAR(found[h][j], expected[h][j], 2e-6 * static_cast<double>(window)) << rows << " " << j;
          total += found[h][j];
        }
        EXPECT_NEAR(total, static_cast<double>(window), 1e-4) << "each query gives one vote in all";
      }
    }
  }
}

TEST(ObservedAttention, RefusesQueriesThatDoNotFit) {
  const Prompt prompt = random_prompt(1, {.rows = 10, .query_heads = 2, .kv_heads = 2});
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 10);
  const auto refused = [&](const Tensor& queries) {
    EXPECT_THROW(observed_attention(cache.view(0), 32, {.last_queries = queries, .first_position = 0}), Error);
  };
  refused({});
  refused(Tensor::zeros(DType::f32, {1, 3, 32}));
  refused(Tensor::zeros(DType::f32, {1, 2, 64}));
  refused(Tensor::zeros(DType::f16, {1, 2, 32}));
  refused(Tensor::zeros(DType::f32, {2, 32}));
}

TEST(SnapKv, KeepsTheRowsOfItsDefinition) {
  for (const int64_t group : {1, 2, 4}) {
    for (const Pooling pooling : {Pooling::average, Pooling::maximum}) {
      for (const int64_t pool : {1, 5, 7}) {
        const SnapKvOptions options{.capacity = 70, .window = 13, .pool = pool, .pooling = pooling};
        const Prompt prompt =
            random_prompt(static_cast<uint64_t>(group), {.rows = 333, .query_heads = 2 * group, .kv_heads = 2});
        KeyValueCache cache = cache_for(prompt);
        append_prompt(cache, prompt, 333);
        const auto policy = make_snapkv(options);
        policy->after_prefill(cache, end_of(prompt, *policy));
        const auto votes = reference_votes(prompt, options.window);
        for (int head = 0; head < 2; ++head) {
          SCOPED_TRACE(policy->describe() + " group " + std::to_string(group));
          expect_best(positions_of(cache, 0, head), reference_pooled(votes[static_cast<size_t>(head)], options),
                      options);
        }
        EXPECT_NE(positions_of(cache, 0, 0), positions_of(cache, 0, 1)) << "each KV head keeps rows of its own";
        EXPECT_EQ(cache.next_position(), 333);
      }
    }
  }
}

// With equal keys all votes are equal: what is kept shows the edge rule and the order of ties alone.
TEST(SnapKv, TiesGoToTheLowerRowAndTheEdgesCountAsZero) {
  Prompt prompt = random_prompt(4, {.rows = 200, .query_heads = 1, .kv_heads = 1});
  std::fill_n(prompt.keys.data<float>(), prompt.keys.elements(), 0.5F);
  const auto kept_by = [&](const SnapKvOptions& options) {
    KeyValueCache cache = cache_for(prompt);
    append_prompt(cache, prompt, 200);
    const auto policy = make_snapkv(options);
    policy->after_prefill(cache, end_of(prompt, *policy));
    std::vector<int32_t> kept = positions_of(cache, 0, 0);
    kept.resize(static_cast<size_t>(options.capacity - options.window));
    return kept;
  };
  const auto rows_from = [](int32_t first) {
    std::vector<int32_t> rows(20);
    std::iota(rows.begin(), rows.end(), first);
    return rows;
  };
  EXPECT_EQ(kept_by({.capacity = 30, .window = 10, .pool = 1}), rows_from(0));
  EXPECT_EQ(kept_by({.capacity = 30, .window = 10, .pool = 5}), rows_from(2)) << "rows 0 and 1 average in zeros";
  EXPECT_EQ(kept_by({.capacity = 30, .window = 10, .pool = 5, .pooling = Pooling::maximum}), rows_from(0));
}

TEST(SnapKv, LeavesShortPromptsAlone) {
  for (const int64_t rows : {1, 5, 13, 14, 70}) {
    const Prompt prompt = random_prompt(5, {.rows = rows, .query_heads = 2, .kv_heads = 1});
    KeyValueCache cache = cache_for(prompt);
    append_prompt(cache, prompt, rows);
    const auto policy = make_snapkv({.capacity = 70, .window = 13});
    policy->after_prefill(cache, end_of(prompt, *policy));
    EXPECT_EQ(cache.rows(0, 0), rows);
    EXPECT_TRUE(cache.view(0).heads[0].positions.empty());
  }
}

// Not-a-number votes must not break the choice: still the right number of rows, ascending and distinct.
TEST(SnapKv, SurvivesBrokenKeys) {
  Prompt prompt = random_prompt(6, {.rows = 150, .query_heads = 1, .kv_heads = 1});
  prompt.keys.data<float>()[40 * 32] = std::nanf("");
  prompt.keys.data<float>()[41 * 32] = INFINITY;
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 150);
  const auto policy = make_snapkv({.capacity = 40, .window = 8});
  policy->after_prefill(cache, end_of(prompt, *policy));
  EXPECT_EQ(cache.rows(0, 0), 40);
}

TEST(SnapKv, RefusesOptionsOutOfRange) {
  EXPECT_THROW(make_snapkv({.capacity = 32, .window = 32}), Error);
  EXPECT_THROW(make_snapkv({.capacity = 32, .window = 0}), Error);
  EXPECT_THROW(make_snapkv({.capacity = 64, .window = 32, .pool = 4}), Error);
  EXPECT_THROW(make_snapkv({.capacity = 64, .window = 32, .pool = 0}), Error);
}

}  // namespace
}  // namespace tessera::kv
