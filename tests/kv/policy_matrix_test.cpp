// What every cache policy and loader owes: one row per method here, the same checks for all.
#include <functional>

#include "kv/kv_support.h"

namespace tessera::kv {
namespace {

constexpr int64_t kRows = 230;
constexpr int64_t kHeadDim = 32;

struct MatrixRow {
  std::string name;
  // `budget` rows; kRows or more must lose nothing.
  std::function<std::unique_ptr<CachePolicy>(int64_t budget)> policy;
  std::function<std::unique_ptr<Loader>(int64_t budget)> loader;
  std::string description;  // of budget 100
};

const MatrixRow kMatrix[] = {
    {"streaming_llm", [](int64_t budget) { return make_streaming_llm({.sinks = 4, .window = budget - 4}); }, nullptr,
     "streaming-llm(sinks=4, window=96)"},
    {"snapkv_average", [](int64_t budget) { return make_snapkv({.capacity = budget, .window = 16}); }, nullptr,
     "snapkv(capacity=100, window=16, pool=5, pooling=average)"},
    {"snapkv_maximum",
     [](int64_t budget) {
       return make_snapkv({.capacity = budget, .window = 8, .pool = 7, .pooling = SnapKvOptions::Pooling::maximum});
     },
     nullptr, "snapkv(capacity=100, window=8, pool=7, pooling=maximum)"},
    {"kivi2", [](int64_t budget) { return make_kivi({.bits = 2, .residual = budget}); }, nullptr,
     "kivi(bits=2, group=32, residual=100)"},
    {"kivi4", [](int64_t budget) { return make_kivi({.bits = 4, .residual = budget}); }, nullptr,
     "kivi(bits=4, group=32, residual=100)"},
    {"quest", nullptr, [](int64_t budget) { return make_quest({.budget = budget, .page = 16, .dense_layers = 0}); },
     "quest(budget=100, page=16, dense_layers=0)"},
};

class PolicyMatrix : public testing::TestWithParam<std::tuple<MatrixRow, int64_t>> {
 protected:
  const MatrixRow& row() const { return std::get<0>(GetParam()); }
  int64_t group() const { return std::get<1>(GetParam()); }

  Prompt prompt() const {
    return random_prompt(11, {.rows = kRows, .query_heads = 2 * group(), .kv_heads = 2, .head_dim = kHeadDim});
  }

  // A cache after the prefill of `prompt`, `chunk` rows at a time, under the method with this budget.
  KeyValueCache prefilled(const Prompt& prompt, int64_t budget, int64_t chunk, ThreadPool* pool = nullptr) const {
    KeyValueCache cache = cache_for(prompt);
    append_prompt(cache, prompt, chunk);
    if (row().policy) {
      const auto policy = row().policy(budget);
      policy->after_prefill(cache, end_of(prompt, *policy, pool));
    }
    return cache;
  }

  // One decode step: a new row, and the output of its query, by the method's loader where it has one.
  Tensor decode(KeyValueCache& cache, int64_t budget, ThreadPool* pool = nullptr) const {
    const Prompt next = random_prompt(12, {.rows = 1, .query_heads = 2 * group(), .kv_heads = 2, .head_dim = kHeadDim});
    const int64_t position = cache.next_position();
    cache.append(0, next.keys, next.values, position);
    if (row().policy) row().policy(budget)->after_append(cache, 0);
    const LayerView view = cache.view(0);
    const attention::AttentionInput input{.queries = next.queries, .heads = view.heads, .first_position = position};
    if (row().loader) return row().loader(budget)->attend(0, input, view, {.pool = pool}).out;
    return attention::attend_dense(input, {.pool = pool}).out;
  }
};

void expect_same_bits(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.shape(), b.shape());
  EXPECT_TRUE(std::equal(a.data<float>(), a.data<float>() + a.elements(), b.data<float>()));
}

TEST_P(PolicyMatrix, FullBudgetEqualsDense) {
  const Prompt all = prompt();
  KeyValueCache plain = cache_for(all);
  append_prompt(plain, all, kRows);
  KeyValueCache cache = prefilled(all, kRows + 1 + 16, kRows);
  const int64_t bytes = cache.bytes();
  EXPECT_EQ(bytes, plain.bytes());
  const Tensor found = decode(cache, kRows + 1 + 16);
  const Prompt next = random_prompt(12, {.rows = 1, .query_heads = 2 * group(), .kv_heads = 2, .head_dim = kHeadDim});
  plain.append(0, next.keys, next.values, kRows);
  const LayerView view = plain.view(0);
  expect_same_bits(
      found, attention::attend_dense({.queries = next.queries, .heads = view.heads, .first_position = kRows}).out);
}

TEST_P(PolicyMatrix, OutputIsTheAttentionOverWhatIsHeldAndRead) {
  const Prompt all = prompt();
  KeyValueCache cache = prefilled(all, 100, kRows);
  const Tensor found = decode(cache, 100);
  const Prompt next = random_prompt(12, {.rows = 1, .query_heads = 2 * group(), .kv_heads = 2, .head_dim = kHeadDim});
  if (row().loader) {
    const LayerView view = cache.view(0);
    const attention::WorkList work =
        row().loader(100)->select(0, {.queries = next.queries, .heads = view.heads, .first_position = kRows}, view);
    for (int head = 0; head < 2; ++head) {
      cache.keep_rows(0, head, work.heads[static_cast<size_t>(head * group())].columns);
    }
  }
  const std::vector<double> expected = reference_attention(next.queries, cache.view(0), kRows);
  for (int64_t i = 0; i < found.elements(); ++i) {
    ASSERT_NEAR(found.data<float>()[i], expected[static_cast<size_t>(i)], 2e-5);
  }
}

TEST_P(PolicyMatrix, SmallBudgetHoldsOrReadsLess) {
  const Prompt all = prompt();
  KeyValueCache cache = prefilled(all, 100, kRows);
  EXPECT_EQ(cache.next_position(), kRows) << "new tokens go on at the true position";
  if (row().policy) {
    KeyValueCache plain = cache_for(all);
    append_prompt(plain, all, kRows);
    EXPECT_LT(cache.bytes(), plain.bytes());
    EXPECT_EQ(row().policy(100)->drops_rows(), cache.rows(0, 0) < kRows);
    const std::vector<int32_t> positions = positions_of(cache, 0, 1);
    EXPECT_TRUE(std::is_sorted(positions.begin(), positions.end()));
    EXPECT_EQ(positions.back(), kRows - 1) << "the most recent row is always held";
    EXPECT_TRUE(!row().policy(100)->drops_rows() || std::ssize(positions) == 100);
    return;
  }
  const LayerView view = cache.view(0);
  const attention::WorkList work = row().loader(100)->select(
      0, {.queries = all.queries.slice(kRows - 1, 1), .heads = view.heads, .first_position = kRows - 1}, view);
  for (const attention::HeadWork& head : work.heads) {
    EXPECT_FALSE(head.dense);
    EXPECT_LE(std::ssize(head.columns), 100);
  }
}

TEST_P(PolicyMatrix, ChunksAndThreadsChangeNothing) {
  const Prompt all = prompt();
  ThreadPool one(1);
  ThreadPool three(3);
  KeyValueCache whole = prefilled(all, 100, kRows, &one);
  const std::vector<int32_t> held = positions_of(whole, 0, 1);
  const Tensor expected = decode(whole, 100, &one);
  for (const int64_t chunk : {1, 63, 64, 100}) {
    KeyValueCache chunked = prefilled(all, 100, chunk, &three);
    EXPECT_EQ(positions_of(chunked, 0, 1), held);
    const Tensor found = decode(chunked, 100, &three);
    for (int64_t i = 0; i < found.elements(); ++i) {
      ASSERT_NEAR(found.data<float>()[i], expected.data<float>()[i], 1e-6) << chunk;
    }
  }
}

TEST_P(PolicyMatrix, PromptsOfEveryLengthAroundTheBudget) {
  for (const int64_t rows : {1, 2, 7, 8, 9, 16, 17, 20, 21, 63, 64, 65, 100}) {
    const Prompt some =
        random_prompt(13, {.rows = rows, .query_heads = 2 * group(), .kv_heads = 2, .head_dim = kHeadDim});
    KeyValueCache cache = prefilled(some, 20, rows);
    EXPECT_EQ(cache.next_position(), rows);
    const Tensor found = decode(cache, 20);
    for (int64_t i = 0; i < found.elements(); ++i) ASSERT_TRUE(std::isfinite(found.data<float>()[i])) << rows;
    if (row().policy && row().policy(20)->drops_rows()) {
      EXPECT_EQ(cache.rows(0, 0), std::min<int64_t>(rows, 20) + 1);
    }
  }
}

TEST_P(PolicyMatrix, WorksOnAForkWithoutTouchingTheOriginal) {
  const Prompt all = prompt();
  auto pool = std::make_shared<PagePool>();
  {
    KeyValueCache cache({.layers = 1, .kv_heads = 2, .head_dim = kHeadDim}, pool);
    append_prompt(cache, all, kRows);
    const std::vector<Row> before = rows_of(cache.view(0).heads[0], kHeadDim);
    KeyValueCache turn = cache.fork();
    if (row().policy) {
      const auto policy = row().policy(100);
      policy->after_prefill(turn, end_of(all, *policy));
    }
    (void)decode(turn, 100);
    EXPECT_EQ(rows_of(cache.view(0).heads[0], kHeadDim), before);
  }
  EXPECT_EQ(pool->bytes_in_use(), 0);
}

TEST_P(PolicyMatrix, DescribesItself) {
  EXPECT_EQ(row().policy ? row().policy(100)->describe() : row().loader(100)->describe(), row().description);
}

INSTANTIATE_TEST_SUITE_P(Methods, PolicyMatrix, testing::Combine(testing::ValuesIn(kMatrix), testing::Values(1, 2, 4)),
                         [](const auto& tested) {
                           return std::get<0>(tested.param).name + "_group" + std::to_string(std::get<1>(tested.param));
                         });

TEST(StreamingLlm, KeepsSinksAndWindow) {
  const Prompt prompt = random_prompt(1, {.rows = 50, .query_heads = 1, .kv_heads = 1});
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 50);
  make_streaming_llm({.sinks = 2, .window = 3})->after_prefill(cache, {});
  EXPECT_EQ(positions_of(cache, 0, 0), (std::vector<int32_t>{0, 1, 47, 48, 49}));
  make_streaming_llm({.sinks = 0, .window = 1})->after_prefill(cache, {});
  EXPECT_EQ(positions_of(cache, 0, 0), (std::vector<int32_t>{49}));
  EXPECT_THROW(make_streaming_llm({.sinks = -1, .window = 3}), Error);
  EXPECT_THROW(make_streaming_llm({.sinks = 4, .window = 0}), Error);
}

}  // namespace
}  // namespace tessera::kv
