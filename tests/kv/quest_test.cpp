#include "kv/kv_support.h"
#include "kv/packed_rows.h"
#include "kv/page_bounds.h"

namespace tessera::kv {
namespace {

using attention::AttentionInput;
using attention::TileFormat;
using attention::WorkList;

constexpr int64_t kHeadDim = 32;

Prompt prompt_of(uint64_t seed, int64_t rows, int64_t query_heads = 2, int64_t kv_heads = 1) {
  return random_prompt(seed, {.rows = rows, .query_heads = query_heads, .kv_heads = kv_heads, .head_dim = kHeadDim});
}

// The last `count` queries of the prompt over the cache of layer 0.
AttentionInput last_queries(const Prompt& prompt, const LayerView& view, int64_t count = 1) {
  return {.queries = prompt.queries.slice(prompt.rows() - count, count),
          .heads = view.heads,
          .first_position = prompt.rows() - count};
}

std::vector<int64_t> pages_read(const attention::HeadWork& work, int64_t page) {
  std::vector<int64_t> pages;
  for (const int32_t row : work.columns) {
    if (pages.empty() || pages.back() != row / page) pages.push_back(row / page);
  }
  return pages;
}

// Largest product of a query with a key of the page, in fp64.
double best_product(const std::vector<Row>& rows, int64_t page_index, int64_t page, const float* query) {
  double best = -1e300;
  for (int64_t row = page_index * page; row < std::min(std::ssize(rows), (page_index + 1) * page); ++row) {
    double product = 0;
    for (size_t c = 0; c < kHeadDim; ++c)
      product += static_cast<double>(query[c]) * rows[static_cast<size_t>(row)].key[c];
    best = std::max(best, product);
  }
  return best;
}

TEST(PageBounds, AreNeverBelowAProduct) {
  Random random(1);
  for (const int64_t page : {1, 4, 16, 32, 64}) {
    for (const int64_t rows : {1, 15, 16, 17, 64, 100, 257}) {
      const Prompt prompt = prompt_of(static_cast<uint64_t>(rows), rows);
      KeyValueCache cache = cache_for(prompt);
      append_prompt(cache, prompt, rows);
      const LayerView view = cache.view(0);
      HeadBounds bounds;
      bounds.update(*view.tables[0], kHeadDim, page);
      const std::vector<Row> plain = rows_of(view.heads[0], kHeadDim);
      const Tensor queries = normal_rows(random, 3, 1, kHeadDim);
      for (int64_t index = 0; index < (rows + page - 1) / page; ++index) {
        double best = -1e300;
        for (int64_t i = 0; i < 3; ++i) {
          const float* query = queries.data<float>() + i * kHeadDim;
          const double product = best_product(plain, index, page, query);
          const float bound = bounds.bound(index, {query, 1, kHeadDim});
          ASSERT_GE(bound, product - 1e-5);
          if (page == 1) {
            ASSERT_NEAR(bound, product, 1e-5) << "a page of one row is bounded exactly";
          }
          best = std::max<double>(best, bound);
        }
        EXPECT_EQ(bounds.bound(index, {queries.data<float>(), 3, kHeadDim}), best);
      }
    }
  }
}

// After any history the bounds kept along equal those taken at once, bit for bit.
TEST(PageBounds, FollowEveryChangeOfTheCache) {
  Random random(2);
  const Prompt prompt = prompt_of(3, 2000);
  const Tensor query = normal_rows(random, 1, 1, kHeadDim);
  std::vector<KeyValueCache> caches;
  std::vector<HeadBounds> kept(1);
  caches.push_back(cache_for(prompt));
  for (int step = 0; step < 400; ++step) {
    const size_t at = static_cast<size_t>(random.below(std::ssize(caches)));
    KeyValueCache& cache = caches[at];
    const int64_t rows = cache.rows(0, 0);
    switch (random.below(7)) {
      case 0:
        cache.truncate(std::max<int64_t>(0, cache.next_position() - random.below(90)));
        break;
      case 1: {
        std::vector<int32_t> some;
        for (int32_t row = 0; row < rows; ++row) {
          if (row < rows / 2 || random.below(4) > 0) some.push_back(row);
        }
        cache.keep_rows(0, 0, some);
        break;
      }
      case 2: {
        const int64_t full = rows / 64;
        if (full > 0 && full > rows / 128) cache.encode_pages(0, 0, 0, full, TileFormat::kivi2);
        break;
      }
      case 3:
        if (caches.size() < 4) {
          caches.push_back(cache.fork());
          kept.push_back(kept[at]);
        }
        break;
      default: {
        const int64_t count = random.below(3) == 0 ? random.below(100) : 1;
        const int64_t from = random.below(1900);
        cache.append(0, prompt.keys.slice(from, count), prompt.values.slice(from, count), cache.next_position());
      }
    }
    for (size_t i = 0; i < caches.size(); ++i) {
      const LayerView view = caches[i].view(0);
      HeadBounds fresh;
      fresh.update(*view.tables[0], kHeadDim, 16);
      kept[i].update(*view.tables[0], kHeadDim, 16);
      ASSERT_EQ(kept[i].bytes(), fresh.bytes());
      for (int64_t page = 0; page < (view.heads[0].rows + 15) / 16; ++page) {
        const SplitQueries queries(query.data<float>(), 1, kHeadDim);
        ASSERT_EQ(kept[i].bound(page, queries), fresh.bound(page, queries)) << "step " << step << ", page " << page;
      }
    }
  }
}

TEST(Quest, ReadsTheBestPagesAndTheLast) {
  for (const int64_t group : {1, 2, 4}) {
    const Prompt prompt = prompt_of(4, 1000, 2 * group, 2);
    KeyValueCache cache = cache_for(prompt);
    append_prompt(cache, prompt, 1000);
    const LayerView view = cache.view(0);
    const auto quest = make_quest({.budget = 160, .page = 16, .dense_layers = 0});
    const WorkList work = quest->select(0, last_queries(prompt, view), view);
    attention::check(work);
    EXPECT_EQ(work.key_rows, 1000);
    EXPECT_EQ(work.first_position, 999);
    ASSERT_EQ(std::ssize(work.heads), 2 * group);
    for (int64_t head = 0; head < 2; ++head) {
      // The bound of a page by its definition, the largest over the group.
      const std::vector<Row> rows = rows_of(view.heads[static_cast<size_t>(head)], kHeadDim);
      std::vector<double> scores(63, -1e300);
      for (int64_t member = 0; member < group; ++member) {
        const float* query = prompt.queries.data<float>() + (999 * 2 * group + head * group + member) * kHeadDim;
        for (int64_t page = 0; page < 63; ++page) {
          double score = 0;
          for (size_t c = 0; c < kHeadDim; ++c) {
            double most = -1e300;
            for (int64_t row = page * 16; row < std::min<int64_t>(1000, page * 16 + 16); ++row) {
              most = std::max(most, static_cast<double>(query[c]) * rows[static_cast<size_t>(row)].key[c]);
            }
            score += most;
          }
          scores[static_cast<size_t>(page)] = std::max(scores[static_cast<size_t>(page)], score);
        }
      }
      const attention::HeadWork& first = work.heads[static_cast<size_t>(head * group)];
      const std::vector<int64_t> read = pages_read(first, 16);
      ASSERT_EQ(read.size(), 10U);
      EXPECT_EQ(read.back(), 62) << "the page being filled";
      double worst = 1e300;
      double best_left = -1e300;
      for (int64_t page = 0; page < 62; ++page) {
        const bool chosen = std::find(read.begin(), read.end(), page) != read.end();
        if (chosen) worst = std::min(worst, scores[static_cast<size_t>(page)]);
        if (!chosen) best_left = std::max(best_left, scores[static_cast<size_t>(page)]);
      }
      EXPECT_GE(worst, best_left - 1e-4);
      EXPECT_EQ(std::ssize(first.columns), 9 * 16 + 1000 % 16);
      for (int64_t member = 1; member < group; ++member) {
        EXPECT_EQ(work.heads[static_cast<size_t>(head * group + member)].columns, first.columns);
      }
    }
  }
}

// One query head of a group of four needs a page that the others do not: the maximum over the group finds it.
TEST(Quest, GroupTakesTheMaximum) {
  Prompt prompt = prompt_of(5, 640, 4, 1);
  for (int64_t c = 0; c < kHeadDim; ++c) {
    const float sign = c % 2 == 0 ? 1.0F : -1.0F;
    prompt.keys.data<float>()[200 * kHeadDim + c] = 8 * sign;
    for (int64_t head = 0; head < 4; ++head) {
      prompt.queries.data<float>()[(639 * 4 + head) * kHeadDim + c] = head == 2 ? 8 * sign : -8 * sign;
    }
  }
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 640);
  const LayerView view = cache.view(0);
  const WorkList work =
      make_quest({.budget = 48, .page = 16, .dense_layers = 0})->select(0, last_queries(prompt, view), view);
  const std::vector<int64_t> read = pages_read(work.heads[0], 16);
  EXPECT_EQ(read.size(), 3U);
  EXPECT_NE(std::find(read.begin(), read.end(), 200 / 16), read.end());
}

TEST(Quest, IsDenseWhereItHasNothingToSave) {
  const Prompt prompt = prompt_of(6, 300);
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 300);
  const LayerView view = cache.view(0);
  const auto quest = make_quest({.budget = 64, .page = 16, .dense_layers = 2});
  EXPECT_TRUE(quest->select(0, last_queries(prompt, view), view).heads[0].dense);
  EXPECT_TRUE(quest->select(1, last_queries(prompt, view), view).heads[0].dense);
  EXPECT_EQ(quest->bytes(), 0);
  EXPECT_FALSE(quest->select(2, last_queries(prompt, view), view).heads[0].dense);
  EXPECT_EQ(quest->bytes(), 5 * 64 * kHeadDim * 4 * 2 / 16) << "two rows of f32 for every page of 16";
  const auto large = make_quest({.budget = 304, .page = 16, .dense_layers = 0});
  EXPECT_TRUE(large->select(2, last_queries(prompt, view), view).heads[0].dense);
  const auto least = make_quest({.budget = 1, .page = 16, .dense_layers = 0});
  EXPECT_EQ(pages_read(least->select(0, last_queries(prompt, view), view).heads[0], 16).size(), 3U);
}

TEST(Quest, SeveralQueriesSeeTheirOwnRows) {
  const Prompt prompt = prompt_of(7, 500);
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 500);
  const LayerView view = cache.view(0);
  const auto quest = make_quest({.budget = 48, .page = 16, .dense_layers = 0});
  const AttentionInput input = last_queries(prompt, view, 100);
  const WorkList work = quest->select(0, input, view);
  attention::check(work);
  const std::vector<int32_t>& columns = work.heads[0].columns;
  for (int32_t row = 400; row < 500; ++row) EXPECT_TRUE(std::binary_search(columns.begin(), columns.end(), row)) << row;
}

// Quest over a cache whose heads lost different rows, and different numbers of them.
TEST(Quest, ReadsACacheWithGaps) {
  const Prompt prompt = prompt_of(11, 700, 4, 2);
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 600);
  for (int head = 0; head < 2; ++head) {
    std::vector<int32_t> kept;
    for (int32_t row = 0; row < 700; ++row) {
      if (row % (head + 2) != 0 || row > 640) kept.push_back(row);
    }
    cache.keep_rows(0, head, kept);
  }
  const LayerView view = cache.view(0);
  const AttentionInput input = last_queries(prompt, view, 3);
  const auto quest = make_quest({.budget = 100, .page = 16, .dense_layers = 0});
  const WorkList work = quest->select(0, input, view);
  attention::check(work);
  EXPECT_LT(attention::executed_density(work), 0.5);
  const attention::AttentionPartial found = quest->attend(0, input, view);
  for (int head = 0; head < 2; ++head) {
    const std::vector<int32_t>& columns = work.heads[static_cast<size_t>(2 * head)].columns;
    EXPECT_LE(std::ssize(columns), 96);
    cache.keep_rows(0, head, columns);
  }
  const std::vector<double> expected = reference_attention(input.queries, cache.view(0), 697);
  for (int64_t i = 0; i < found.out.elements(); ++i) {
    ASSERT_NEAR(found.out.data<float>()[i], expected[static_cast<size_t>(i)], 2e-5);
  }
}

// The loader's own way to read equals the work list it names.
TEST(Quest, AttendsToWhatItSelects) {
  for (const int64_t count : {1, 5, 70}) {
    for (const int dense_layers : {0, 1}) {
      const Prompt prompt = prompt_of(12, 500, 8, 2);
      KeyValueCache cache = cache_for(prompt);
      append_prompt(cache, prompt, 500);
      const LayerView view = cache.view(0);
      AttentionInput input = last_queries(prompt, view, count);
      input.scale = 0.3F;
      const auto quest = make_quest({.budget = 96, .page = 8, .dense_layers = dense_layers});
      const attention::AttentionPartial expected = attention::attend(input, quest->select(0, input, view));
      const attention::AttentionPartial found = quest->attend(0, input, view);
      for (int64_t i = 0; i < found.out.elements(); ++i) {
        ASSERT_NEAR(found.out.data<float>()[i], expected.out.data<float>()[i], 2e-5) << count;
      }
      for (int64_t i = 0; i < found.lse.elements(); ++i) {
        ASSERT_NEAR(found.lse.data<float>()[i], expected.lse.data<float>()[i], 2e-5) << count;
      }
    }
  }
}

TEST(PackedRows, AreTheChosenRowsInEveryFormat) {
  Random random(13);
  for (const TileFormat format : {TileFormat::f32, TileFormat::bf16, TileFormat::f16}) {
    for (const bool quantised : {false, true}) {
      KeyValueCache cache({.layers = 1, .kv_heads = 1, .head_dim = 64, .format = format}, std::make_shared<PagePool>());
      cache.append(0, exact_rows(random, 300, 1, 64), exact_rows(random, 300, 1, 64), 17);
      if (quantised) cache.encode_pages(0, 0, 0, 2, TileFormat::kivi4);
      const LayerView view = cache.view(0);
      const std::vector<Row> all = rows_of(view.heads[0], 64);
      for (int round = 0; round < 20; ++round) {
        std::vector<int32_t> rows;
        std::vector<Row> expected;
        const int64_t run = 1 + random.below(40);
        for (int32_t row = 0; row < 300; ++row) {
          if (row / run % 2 == round % 2 || random.below(20) == 0) rows.push_back(row);
        }
        for (const int32_t row : rows) expected.push_back(all[static_cast<size_t>(row)]);
        const PackedRows packed(view.heads[0], 64, rows);
        ASSERT_EQ(rows_of(packed.keys(), 64), expected);
        EXPECT_EQ(packed.keys().tiles[0].format, quantised ? TileFormat::f32 : format);
      }
    }
  }
}

TEST(Quest, ForkRemembersOnItsOwn) {
  const Prompt prompt = prompt_of(8, 400);
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 300);
  const auto quest = make_quest({.budget = 64, .page = 16, .dense_layers = 0});
  const LayerView before = cache.view(0);
  const WorkList expected = quest->select(0, last_queries(prompt, before), before);
  const auto fork = quest->fork();
  KeyValueCache turn = cache.fork();
  turn.truncate(200);
  turn.append(0, prompt.keys.slice(300, 100), prompt.values.slice(300, 100), 200);
  const LayerView changed = turn.view(0);
  const WorkList other = fork->select(0, last_queries(prompt, changed), changed);
  const WorkList anew =
      make_quest({.budget = 64, .page = 16, .dense_layers = 0})->select(0, last_queries(prompt, changed), changed);
  EXPECT_EQ(other.heads[0].columns, anew.heads[0].columns);
  EXPECT_EQ(quest->select(0, last_queries(prompt, before), before).heads[0].columns, expected.heads[0].columns);
}

TEST(Quest, SurvivesBrokenKeys) {
  Prompt prompt = prompt_of(9, 400);
  prompt.keys.data<float>()[10 * kHeadDim] = std::nanf("");
  prompt.keys.data<float>()[50 * kHeadDim] = INFINITY;
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 400);
  const LayerView view = cache.view(0);
  const WorkList work =
      make_quest({.budget = 64, .page = 16, .dense_layers = 0})->select(0, last_queries(prompt, view), view);
  attention::check(work);
  EXPECT_EQ(std::ssize(work.heads[0].columns), 64);
}

TEST(Quest, RefusesWhatDoesNotFit) {
  EXPECT_THROW(make_quest({.budget = 0}), Error);
  EXPECT_THROW(make_quest({.budget = 64, .page = 0}), Error);
  EXPECT_THROW(make_quest({.budget = 64, .page = 24}), Error);
  EXPECT_THROW(make_quest({.budget = 64, .page = 128}), Error);
  EXPECT_THROW(make_quest({.budget = 64, .page = 16, .dense_layers = -1}), Error);
  const Prompt prompt = prompt_of(10, 20);
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 20);
  const LayerView view = cache.view(0);
  EXPECT_THROW(make_quest({})->select(-1, last_queries(prompt, view), view), Error);
  EXPECT_THROW(make_quest({})->select(0, last_queries(prompt, view), LayerView{}), Error);
}

}  // namespace
}  // namespace tessera::kv
