// Every selector in every setting: laws that do not depend on what it chooses.
#include <gtest/gtest.h>

#include <functional>

#include "attention/reference.h"
#include "attention_fixture.h"
#include "tessera/attention/selectors.h"

namespace tessera::attention {
namespace {

struct Row {
  const char* name;
  std::function<std::unique_ptr<Selector>()> usual;  // a setting that leaves something out
  std::function<std::unique_ptr<Selector>()> full;   // a setting that covers everything
};

constexpr int64_t kAll = 1 << 20;

const Row kRows[] = {
    {"a-shape", [] { return make_a_shape({.sinks = 10, .window = 70}); },
     [] { return make_a_shape({.sinks = 0, .window = kAll}); }},
    {"a-shape sinks", [] { return make_a_shape({.sinks = 0, .window = 1}); },
     [] { return make_a_shape({.sinks = kAll, .window = 1}); }},
    {"tri-shape", [] { return make_tri_shape({.sinks = 70, .window = 64, .last = 70}); },
     [] { return make_tri_shape({.sinks = 0, .window = 1, .last = kAll}); }},
    {"vertical-slash", [] { return make_vertical_slash({.budget = {.vertical = 60, .slash = 120}}); },
     [] { return make_vertical_slash({.budget = {.vertical = kAll, .slash = 0}}); }},
    {"vertical-slash, more probes",
     [] { return make_vertical_slash({.budget = {.vertical = 40, .slash = 101}, .probe_rows = 150}); },
     [] { return make_vertical_slash({.budget = {.vertical = 0, .slash = kAll}}); }},
    {"vertical-slash, recall", [] { return make_vertical_slash({.recall = 0.5}); },
     [] { return make_vertical_slash({.recall = 1}); }},
    {"block-lse", [] { return make_block_lse({.threshold = 0.5F, .sinks = 1, .window = 1}); },
     [] { return make_block_lse({.threshold = 1e-30F}); }},
    {"block-sparse", [] { return make_block_sparse({.top_k = 2}); }, [] { return make_block_sparse({.top_k = kAll}); }},
    {"auto", [] { return make_auto({.recall = 0.5, .crossover = 1}); }, [] { return make_auto({.crossover = kAll}); }},
};

struct Setting {
  CacheShape shape;
  bool gaps;
};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const int64_t query_rows : {1, 40, 64, 200, 700}) {
    for (const int64_t before : {0, 37, 640}) {
      for (const bool gaps : {false, true}) {
        all.push_back({{query_rows, 4, 2, 32, query_rows + before, TileFormat::f32, 11}, gaps});
      }
    }
  }
  all.push_back({{300, 4, 1, 64, 800, TileFormat::kivi4, 12}, false});
  all.push_back({{300, 2, 2, 96, 300, TileFormat::bf16, 13}, false});
  return all;
}

void for_all(const std::function<void(const Row&, const TestCache&)>& body) {
  for (const Setting& setting : settings()) {
    TestCache cache(setting.shape);
    if (setting.gaps) cache.add_gaps();
    for (const Row& row : kRows) {
      SCOPED_TRACE(testing::Message() << row.name << ", query rows " << setting.shape.query_rows << ", key rows "
                                      << setting.shape.key_rows << (setting.gaps ? ", gaps" : ""));
      body(row, cache);
    }
  }
}

bool same_lists(const WorkList& a, const WorkList& b) {
  return std::equal(a.heads.begin(), a.heads.end(), b.heads.begin(), b.heads.end(),
                    [](const HeadWork& x, const HeadWork& y) {
                      return x.dense == y.dense && x.tile_begin == y.tile_begin && x.tiles == y.tiles &&
                             x.columns == y.columns && x.column_end == y.column_end;
                    });
}

TEST(SelectorMatrix, FullBudgetEqualsDense) {
  for_all([](const Row& row, const TestCache& cache) {
    const WorkList work = row.full()->select(cache.input(), {});
    check(work);
    expect_near(attend(cache.input(), work), attend_dense(cache.input()), 2e-5);
  });
}

TEST(SelectorMatrix, ListsAreValidAndEveryRowHasItsOwnKey) {
  for_all([](const Row& row, const TestCache& cache) {
    const AttentionInput input = cache.input();
    const WorkList work = row.usual()->select(input, {});
    check(work);
    ASSERT_EQ(work.heads.size(), static_cast<size_t>(input.queries.shape()[1]));
    const PairAllowed allowed = pairs_of(work);
    const size_t group = work.heads.size() / input.heads.size();
    for (size_t h = 0; h < work.heads.size(); ++h) {
      const HeadKeys& head = input.heads[h / group];
      for (int64_t query = 0; query < work.query_rows; ++query) {
        int64_t own = head.rows - 1;
        while (head.position(own) > input.first_position + query) --own;
        ASSERT_TRUE(allowed(static_cast<int64_t>(h), query, own));
      }
    }
    const double density = executed_density(work);
    EXPECT_GT(density, 0);
    EXPECT_LE(density, 1);
  });
}

TEST(SelectorMatrix, KernelComputesWhatTheListNames) {
  for_all([](const Row& row, const TestCache& cache) {
    if (cache.queries.shape()[0] > 300) return;  // the oracle is slow
    const WorkList work = row.usual()->select(cache.input(), {});
    expect_near(attend(cache.input(), work), attend_reference(cache.input(), pairs_of(work)), 2e-5);
  });
}

TEST(SelectorMatrix, ChoiceDoesNotDependOnThreads) {
  ThreadPool one(1);
  ThreadPool three(3);
  for_all([&](const Row& row, const TestCache& cache) {
    const WorkList a = row.usual()->select(cache.input(), {.pool = &one});
    EXPECT_TRUE(same_lists(a, row.usual()->select(cache.input(), {.pool = &three})));
  });
}

TEST(SelectorMatrix, DescriptionsAreCanonical) {
  EXPECT_EQ(make_a_shape({})->describe(), "a-shape(sinks=128, window=3968)");
  EXPECT_EQ(make_tri_shape({})->describe(), "tri-shape(sinks=128, window=3968, last=128)");
  EXPECT_EQ(make_vertical_slash({})->describe(), "vertical-slash(vertical=1000, slash=6096)");
  EXPECT_EQ(make_vertical_slash({.recall = 0.9})->describe(), "vertical-slash(recall=0.9)");
  EXPECT_EQ(make_block_lse({})->describe(), "block-lse(threshold=0.01, sinks=30, window=256, last=0)");
  EXPECT_EQ(make_block_sparse({})->describe(), "block-sparse(top_k=100)");
  EXPECT_EQ(make_auto({})->describe(), "auto(recall=0.95)");
}

TEST(SelectorMatrix, RejectsBadOptions) {
  EXPECT_THROW(make_a_shape({.sinks = -1}), Error);
  EXPECT_THROW(make_a_shape({.window = 0}), Error);
  EXPECT_THROW(make_tri_shape({.last = 0}), Error);
  EXPECT_THROW(make_vertical_slash({.budget = {.vertical = -1}}), Error);
  EXPECT_THROW(make_vertical_slash({.recall = 1.5}), Error);
  EXPECT_THROW(make_vertical_slash({.probe_rows = 0}), Error);
  EXPECT_THROW(make_block_lse({.threshold = 0}), Error);
  EXPECT_THROW(make_block_sparse({.top_k = 0}), Error);
  EXPECT_THROW(make_auto({.recall = 0}), Error);
  EXPECT_THROW(make_auto({.crossover = -1}), Error);
}

}  // namespace
}  // namespace tessera::attention
