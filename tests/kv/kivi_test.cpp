#include "kv/kv_support.h"

namespace tessera::kv {
namespace {

using attention::TileFormat;

constexpr int64_t kHeadDim = 64;

// Half a step of the group's range, and what half-precision scale and zero add.
double error_bound(std::span<const float> group, int bits) {
  const auto [low, high] = std::minmax_element(group.begin(), group.end());
  const double range = static_cast<double>(*high) - *low;
  const double largest = std::max(std::abs(*low), std::abs(*high));
  return range / ((1 << bits) - 1) / 2 + (range + largest) * 0x1p-10 + 1e-6;
}

// Keys are grouped by 32 rows of a channel, values by 32 channels of a row: every element obeys the bound of its group.
void expect_close(const std::vector<Row>& found, const std::vector<Row>& exact, int bits) {
  for (size_t row = 0; row < exact.size(); row += 32) {
    for (size_t c = 0; c < kHeadDim; ++c) {
      std::vector<float> group;
      for (size_t r = row; r < row + 32; ++r) group.push_back(exact[r].key[c]);
      const double bound = error_bound(group, bits);
      for (size_t r = row; r < row + 32; ++r) ASSERT_NEAR(found[r].key[c], exact[r].key[c], bound) << r << " " << c;
    }
  }
  for (size_t row = 0; row < exact.size(); ++row) {
    for (size_t first = 0; first < kHeadDim; first += 32) {
      const double bound = error_bound(std::span(exact[row].value).subspan(first, 32), bits);
      for (size_t c = first; c < first + 32; ++c) ASSERT_NEAR(found[row].value[c], exact[row].value[c], bound) << row;
    }
  }
}

TEST(Kivi, ErrorStaysWithinHalfAStepOfItsGroup) {
  for (const int bits : {2, 4}) {
    Prompt prompt = random_prompt(1, {.rows = 256, .query_heads = 2, .kv_heads = 2, .head_dim = kHeadDim});
    for (int64_t row = 0; row < 256; ++row) prompt.keys.data<float>()[row * 2 * kHeadDim + 5] += 100;  // one channel
    for (int64_t c = 0; c < kHeadDim; ++c) prompt.values.data<float>()[c] = 3;                         // a flat group
    KeyValueCache cache = cache_for(prompt);
    append_prompt(cache, prompt, 256);
    const std::vector<Row> exact = rows_of(cache.view(0).heads[0], kHeadDim);
    const auto policy = make_kivi({.bits = bits, .residual = 0});
    policy->after_prefill(cache, end_of(prompt, *policy));
    expect_close(rows_of(cache.view(0).heads[0], kHeadDim), exact, bits);
  }
}

TEST(Kivi, StoresThreeOrFiveBitsAValueAndNothingElse) {
  const Prompt prompt = random_prompt(2, {.rows = 640, .query_heads = 2, .kv_heads = 2, .head_dim = kHeadDim});
  const int64_t values = 2 * 2 * 640 * kHeadDim;  // keys and values of two heads
  for (const int bits : {2, 4}) {
    auto pool = std::make_shared<PagePool>();
    KeyValueCache cache({.layers = 1, .kv_heads = 2, .head_dim = kHeadDim}, pool);
    append_prompt(cache, prompt, 640);
    EXPECT_EQ(cache.bytes(), values * 4);
    make_kivi({.bits = bits, .residual = 0})->after_prefill(cache, {});
    EXPECT_EQ(cache.bytes() * 8, values * (bits + 1));
    EXPECT_EQ(pool->bytes_in_use(), cache.bytes());
  }
}

TEST(Kivi, LeavesTheLastRowsUnquantised) {
  const Prompt prompt = random_prompt(3, {.rows = 500, .query_heads = 1, .kv_heads = 1, .head_dim = kHeadDim});
  for (const int64_t residual : {0, 1, 32, 64, 65, 499, 500, 5000}) {
    for (const int64_t rows : {1, 63, 64, 96, 97, 128, 300, 320}) {
      KeyValueCache cache = cache_for(prompt);
      cache.append(0, prompt.keys.slice(0, rows), prompt.values.slice(0, rows), 0);
      make_kivi({.bits = 2, .residual = residual})->after_prefill(cache, {});
      for (int64_t page = 0; page < std::ssize(cache.pages(0, 0)); ++page) {
        const bool old = (page + 1) * 64 <= rows - residual;
        EXPECT_EQ(cache.pages(0, 0)[static_cast<size_t>(page)].format(), old ? TileFormat::kivi2 : TileFormat::f32)
            << residual << " " << rows << " " << page;
      }
    }
  }
}

// Row by row through after_append the cache ends as when the rows had come at once.
TEST(Kivi, AppendsQuantiseWhatBecameOldEnough) {
  const Prompt prompt = random_prompt(4, {.rows = 300, .query_heads = 2, .kv_heads = 2, .head_dim = kHeadDim});
  const auto policy = make_kivi({.bits = 4, .residual = 32});
  KeyValueCache whole = cache_for(prompt);
  append_prompt(whole, prompt, 300);
  policy->after_prefill(whole, {});

  KeyValueCache stepwise = cache_for(prompt);
  stepwise.append(0, prompt.keys.slice(0, 100), prompt.values.slice(0, 100), 0);
  policy->after_prefill(stepwise, {});
  for (int64_t row = 100; row < 300; ++row) {
    stepwise.append(0, prompt.keys.slice(row, 1), prompt.values.slice(row, 1), row);
    policy->after_append(stepwise, 0);
  }
  for (size_t head = 0; head < 2; ++head) {
    EXPECT_EQ(rows_of(stepwise.view(0).heads[head], kHeadDim), rows_of(whole.view(0).heads[head], kHeadDim));
  }
  EXPECT_EQ(stepwise.bytes(), whole.bytes());
}

TEST(Kivi, GoesOnAfterTruncationIntoAQuantisedPage) {
  const Prompt prompt = random_prompt(5, {.rows = 400, .query_heads = 1, .kv_heads = 1, .head_dim = kHeadDim});
  const auto policy = make_kivi({.bits = 4, .residual = 0});
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 256);
  policy->after_prefill(cache, {});
  cache.truncate(100);
  for (int64_t row = 100; row < 192; ++row) {
    cache.append(0, prompt.keys.slice(row, 1), prompt.values.slice(row, 1), row);
    policy->after_append(cache, 0);
  }
  ASSERT_EQ(cache.pages(0, 0).size(), 3U);
  for (const PageRef& page : cache.pages(0, 0)) EXPECT_EQ(page.format(), TileFormat::kivi4);
}

TEST(Kivi, RefusesOptionsOutOfRange) {
  EXPECT_THROW(make_kivi({.bits = 3}), Error);
  EXPECT_THROW(make_kivi({.bits = 2, .group = 64}), Error);
  EXPECT_THROW(make_kivi({.bits = 2, .residual = -1}), Error);
}

}  // namespace
}  // namespace tessera::kv
