#include "tessera/kv/prefix_index.h"

#include <set>

#include "kv/kv_support.h"

namespace tessera::kv {
namespace {

using Tokens = std::vector<int32_t>;
using SharedCache = std::shared_ptr<const KeyValueCache>;

const int64_t kPage = attention::tile_bytes(attention::TileFormat::f32, 32);

// A cache of `positions` rows, ceil(positions / 64) pages.
SharedCache cache_of(int64_t positions) {
  KeyValueCache cache({.layers = 1, .kv_heads = 1, .head_dim = 32}, std::make_shared<PagePool>());
  const Tensor rows = Tensor::zeros(DType::f32, {positions, 1, 32});
  cache.append(0, rows, rows, 0);
  return std::make_shared<KeyValueCache>(std::move(cache));
}

PrefixIndex::Entry entry(const Tokens& tokens, const std::string& method = "dense", bool exact_prefix = true) {
  return {.tokens = tokens, .method = method, .exact_prefix = exact_prefix, .cache = cache_of(std::ssize(tokens))};
}

void expect_match(const PrefixMatch& match, int64_t reused, MissReason reason, int64_t lost) {
  EXPECT_EQ(match.reused, reused);
  EXPECT_EQ(match.reason, reason) << to_string(match.reason);
  EXPECT_EQ(match.lost, lost);
  EXPECT_EQ(match.cache != nullptr, reused > 0);
}

TEST(PrefixIndex, GivesTheReasonOfEveryMiss) {
  PrefixIndex index(int64_t{1} << 30);
  expect_match(index.find(Tokens{1, 2, 3}, "dense"), 0, MissReason::empty, 0);
  EXPECT_TRUE(index.insert(entry({1, 2, 3, 4})));
  expect_match(index.find(Tokens{}, "dense"), 0, MissReason::none, 0);
  expect_match(index.find(Tokens{1, 2, 3, 4, 5, 6}, "dense"), 4, MissReason::none, 0);
  expect_match(index.find(Tokens{1, 2, 9}, "dense"), 2, MissReason::diverged, 0);
  expect_match(index.find(Tokens{9, 2, 3}, "dense"), 0, MissReason::different_start, 0);
  expect_match(index.find(Tokens{1, 2, 3, 4}, "dense"), 3, MissReason::last_token, 1);
  expect_match(index.find(Tokens{1, 2}, "dense"), 1, MissReason::last_token, 1);
  expect_match(index.find(Tokens{1}, "dense"), 0, MissReason::last_token, 1);
  expect_match(index.find(Tokens{1, 2, 3, 4, 5}, "snapkv"), 0, MissReason::other_method, 4);
  EXPECT_TRUE(index.insert(entry({1, 2, 3, 4, 5, 6}, "snapkv", false)));
  expect_match(index.find(Tokens{1, 2, 3, 4, 5, 6, 7}, "snapkv"), 0, MissReason::rows_dropped, 6);
  expect_match(index.find(Tokens{1, 2, 3, 4, 5, 6, 7}, "dense"), 4, MissReason::other_method, 2);
  expect_match(index.find(Tokens{8}, "snapkv"), 0, MissReason::different_start, 0);
}

TEST(PrefixIndex, NamesEveryReason) {
  const std::set<std::string> names = {to_string(MissReason::none),         to_string(MissReason::empty),
                                       to_string(MissReason::diverged),     to_string(MissReason::different_start),
                                       to_string(MissReason::rows_dropped), to_string(MissReason::other_method),
                                       to_string(MissReason::evicted),      to_string(MissReason::last_token)};
  EXPECT_EQ(names.size(), 8U);
}

TEST(PrefixIndex, ForgetsTheLeastRecentlyUsedAndSaysSo) {
  PrefixIndex index(2 * kPage);
  EXPECT_TRUE(index.insert(entry({1, 1, 1, 1})));
  EXPECT_TRUE(index.insert(entry({2, 2, 2, 2})));
  EXPECT_EQ(index.bytes(), 2 * kPage);
  expect_match(index.find(Tokens{1, 1, 1, 1, 9}, "dense"), 4, MissReason::none, 0);  // now the most recently used
  EXPECT_TRUE(index.insert(entry({3, 3, 3, 3})));
  EXPECT_EQ(index.size(), 2U);
  EXPECT_EQ(index.bytes(), 2 * kPage);
  expect_match(index.find(Tokens{1, 1, 1, 1, 9}, "dense"), 4, MissReason::none, 0);
  expect_match(index.find(Tokens{2, 2, 2, 2, 9}, "dense"), 0, MissReason::evicted, 4);
  expect_match(index.find(Tokens{2, 2, 2, 2, 9}, "kivi"), 0, MissReason::different_start, 0);
}

TEST(PrefixIndex, RefusesWhatCannotFit) {
  PrefixIndex index(kPage);
  EXPECT_TRUE(index.insert(entry({1, 2, 3})));
  Tokens tokens(65, 7);
  EXPECT_FALSE(index.insert(entry(tokens)));
  EXPECT_EQ(index.size(), 1U) << "nothing was evicted for it";
  tokens.push_back(8);
  expect_match(index.find(tokens, "dense"), 0, MissReason::evicted, 65);
  EXPECT_THROW(index.insert({.tokens = {1}, .method = "dense", .cache = nullptr}), Error);
  EXPECT_THROW(index.insert({.tokens = {}, .method = "dense", .cache = cache_of(1)}), Error);
  EXPECT_THROW(index.insert({.tokens = {1, 2}, .method = "dense", .cache = cache_of(1)}), Error);
  EXPECT_THROW(PrefixIndex(-1), Error);
}

TEST(PrefixIndex, CountsSharedPagesOnce) {
  KeyValueCache cache({.layers = 1, .kv_heads = 1, .head_dim = 32}, std::make_shared<PagePool>());
  const Tensor rows = Tensor::zeros(DType::f32, {100, 1, 32});
  cache.append(0, rows, rows, 0);
  PrefixIndex index(10 * kPage);
  for (int32_t branch = 0; branch < 3; ++branch) {
    KeyValueCache turn = cache.fork();
    turn.append(0, rows, rows, 100);  // copies the second page, adds two
    Tokens tokens(200, 5);
    tokens[150] = branch;
    index.insert({.tokens = tokens, .method = "dense", .cache = std::make_shared<KeyValueCache>(std::move(turn))});
  }
  EXPECT_EQ(index.size(), 3U);
  EXPECT_EQ(index.bytes(), (1 + 3 * 3) * kPage) << "the first page is the same for all";
}

TEST(PrefixIndex, LongerEntryReplacesTheOnesItExtends) {
  PrefixIndex index(int64_t{1} << 30);
  index.insert(entry({1, 2, 3}));
  index.insert(entry({1, 2, 4}));
  index.insert(entry({1, 2, 3}, "kivi"));
  index.insert(entry({1, 2, 3, 4, 5}));
  EXPECT_EQ(index.size(), 3U);
  EXPECT_EQ(index.bytes(), 3 * kPage);
  index.insert(entry({1, 2, 3, 4, 5, 6}, "dense", false));
  EXPECT_EQ(index.size(), 4U) << "an inexact entry replaces nothing";
  expect_match(index.find(Tokens{1, 2, 3, 4, 5, 6, 7}, "dense"), 5, MissReason::rows_dropped, 1);
}

// Against the definition on short random sequences over three tokens, where long matches are common.
TEST(PrefixIndex, AgreesWithTheDefinition) {
  Random random(1);
  const std::string methods[] = {"dense", "snapkv"};
  PrefixIndex index(int64_t{1} << 40);
  std::vector<PrefixIndex::Entry> all;
  const auto random_tokens = [&] {
    Tokens tokens(static_cast<size_t>(1 + random.below(8)));
    for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(3));
    return tokens;
  };
  for (int step = 0; step < 2000; ++step) {
    if (step % 20 == 0) {
      const PrefixIndex::Entry made = entry(random_tokens(), methods[random.below(2)], random.below(4) > 0);
      all.push_back(made);
      index.insert(made);
    }
    const Tokens prompt = random_tokens();
    const std::string& method = methods[random.below(2)];
    int64_t usable = 0;
    int64_t longest = 0;
    for (const PrefixIndex::Entry& known : all) {
      int64_t length = 0;
      while (length < std::ssize(prompt) && length < std::ssize(known.tokens) &&
             prompt[static_cast<size_t>(length)] == known.tokens[static_cast<size_t>(length)]) {
        ++length;
      }
      longest = std::max(longest, length);
      if (known.exact_prefix && known.method == method) usable = std::max(usable, length);
    }
    const int64_t most = std::ssize(prompt) - 1;
    const PrefixMatch match = index.find(prompt, method);
    ASSERT_EQ(match.reused, std::min(usable, most));
    if (std::min(longest, most) > match.reused) {
      ASSERT_TRUE(match.reason == MissReason::rows_dropped || match.reason == MissReason::other_method);
      ASSERT_EQ(match.lost, std::min(longest, most) - match.reused);
    } else if (usable > most) {
      ASSERT_EQ(match.reason, MissReason::last_token);
    } else if (usable == 0) {
      ASSERT_EQ(match.reason, MissReason::different_start);
    } else {
      ASSERT_TRUE(match.reason == MissReason::none || match.reason == MissReason::diverged);
    }
    if (match.cache) {
      KeyValueCache mine = match.cache->fork();
      mine.truncate(match.reused);
      ASSERT_EQ(mine.rows(0, 0), match.reused);
    }
  }
}

TEST(PrefixIndex, StaysWithinItsCapacity) {
  Random random(2);
  PrefixIndex index(5 * kPage);
  for (int step = 0; step < 300; ++step) {
    Tokens tokens(static_cast<size_t>(1 + random.below(400)), static_cast<int32_t>(random.below(20)));
    const bool fits = (std::ssize(tokens) + 63) / 64 <= 5;
    ASSERT_EQ(index.insert(entry(tokens)), fits);
    ASSERT_LE(index.bytes(), 5 * kPage);
    if (!fits) continue;
    ASSERT_EQ(index.find(tokens, "dense").reused, std::ssize(tokens) - 1) << "the newest entry is always held";
  }
}

}  // namespace
}  // namespace tessera::kv
