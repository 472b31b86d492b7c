#include "tessera/attention/partial.h"

#include <gtest/gtest.h>

#include "attention/reference.h"
#include "attention_fixture.h"

namespace tessera::attention {
namespace {

constexpr CacheShape kShape{.query_rows = 5, .query_heads = 4, .kv_heads = 2, .head_dim = 32, .key_rows = 150};

// Attention over the keys of one of `parts` random parts.
std::vector<AttentionPartial> random_parts(const TestCache& cache, int parts, uint64_t seed) {
  const Random random(seed);
  std::vector<AttentionPartial> result;
  for (int part = 0; part < parts; ++part) {
    result.push_back(attend_reference(cache.input(), [&](int64_t head, int64_t, int64_t key) {
      Random pick = random.split(static_cast<uint64_t>(key * 16 + head));
      return pick.below(parts) == part;
    }));
  }
  return result;
}

TEST(Partial, EmptyIsNeutral) {
  const TestCache cache(kShape);
  const AttentionPartial whole = attend_reference(cache.input(), everything);
  const AttentionPartial empty = empty_partial(5, 4, 32);
  expect_identical(merge(whole, empty), whole);
  expect_identical(merge(empty, whole), whole);
  const AttentionPartial nothing = merge(empty, empty);
  expect_identical(nothing, empty);
}

TEST(Partial, IsCommutativeAndAssociative) {
  const TestCache cache(kShape);
  const std::vector<AttentionPartial> parts = random_parts(cache, 3, 5);
  expect_near(merge(parts[0], parts[1]), merge(parts[1], parts[0]), 1e-6);
  expect_near(merge(merge(parts[0], parts[1]), parts[2]), merge(parts[0], merge(parts[1], parts[2])), 1e-6);
}

TEST(Partial, RandomSplitsEqualTheWhole) {
  const TestCache cache(kShape);
  const AttentionPartial whole = attend_reference(cache.input(), everything);
  for (const int count : {1, 2, 7, 40, 300}) {  // with 300 parts most are empty for most rows
    AttentionPartial merged = empty_partial(5, 4, 32);
    for (const AttentionPartial& part : random_parts(cache, count, static_cast<uint64_t>(count)))
      merge_into(merged, part);
    expect_near(merged, whole, 2e-5);
  }
}

TEST(Partial, SurvivesFarApartScores) {
  AttentionPartial low = empty_partial(1, 1, 32);
  AttentionPartial high = empty_partial(1, 1, 32);
  low.lse.data<float>()[0] = -3000;
  low.out.data<float>()[0] = 1;
  high.lse.data<float>()[0] = 3000;
  high.out.data<float>()[0] = 2;
  const AttentionPartial merged = merge(low, high);
  EXPECT_EQ(merged.out.data<float>()[0], 2);
  EXPECT_EQ(merged.lse.data<float>()[0], 3000);
}

TEST(Partial, RejectsOtherShapes) {
  AttentionPartial a = empty_partial(2, 1, 32);
  EXPECT_THROW(merge_into(a, empty_partial(1, 1, 32)), Error);
  EXPECT_THROW(merge_into(a, empty_partial(2, 1, 64)), Error);
}

}  // namespace
}  // namespace tessera::attention
