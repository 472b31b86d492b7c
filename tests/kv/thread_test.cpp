// What the cache promises about threads; run under the tsan preset too.
#include <thread>

#include "kv/kv_support.h"

namespace tessera::kv {
namespace {

TEST(Threads, ForksLiveTheirOwnLives) {
  const Prompt prompt = random_prompt(1, {.rows = 300, .query_heads = 2, .kv_heads = 2});
  auto pool = std::make_shared<PagePool>();
  {
    KeyValueCache made({.layers = 1, .kv_heads = 2, .head_dim = 32}, pool);
    append_prompt(made, prompt, 300);
    const KeyValueCache& shared = made;
    const std::vector<Row> before = rows_of(shared.view(0).heads[1], 32);
    std::vector<std::thread> threads;
    for (int64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int64_t round = 0; round < 20; ++round) {
          KeyValueCache turn = shared.fork();
          const LayerView pinned = turn.view(0);
          turn.truncate(300 - (t * 7 + round) % 90);
          const int64_t kept = turn.next_position();
          turn.append(0, prompt.keys.slice(t, 40), prompt.values.slice(t, 40), kept);
          turn.encode_pages(0, 0, 0, 2, attention::TileFormat::kivi4);
          const LayerView view = turn.view(0);
          EXPECT_EQ(view.heads[1].rows, kept + 40);
          EXPECT_EQ(row_of(view.heads[1], 32, kept).key, row_of(pinned.heads[1], 32, t).key);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(rows_of(shared.view(0).heads[1], 32), before);
    EXPECT_EQ(made.unshared_bytes(), made.bytes());
  }
  EXPECT_EQ(pool->bytes_in_use(), 0);
}

// The last other holder may go on another thread, right before the page is written in place.
TEST(Threads, WritingInPlaceIsOrderedAfterTheLastReader) {
  const Prompt prompt = random_prompt(2, {.rows = 200, .query_heads = 1, .kv_heads = 1});
  KeyValueCache cache = cache_for(prompt);
  cache.append(0, prompt.keys.slice(0, 1), prompt.values.slice(0, 1), 0);
  for (int64_t row = 1; row < 200; ++row) {
    std::thread reader([view = cache.view(0), row]() mutable {
      EXPECT_EQ(std::ssize(rows_of(view.heads[0], 32)), row);
      view = {};
    });
    cache.append(0, prompt.keys.slice(row, 1), prompt.values.slice(row, 1), row);
    reader.join();
  }
  EXPECT_EQ(cache.rows(0, 0), 200);
}

TEST(Threads, HeadsAreChangedAtTheSameTime) {
  const Prompt prompt = random_prompt(3, {.rows = 500, .query_heads = 8, .kv_heads = 8});
  ThreadPool pool(4);
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 500);
  const auto kivi = make_kivi({.bits = 4});
  kivi->after_prefill(cache, end_of(prompt, *kivi, &pool));
  const auto snapkv = make_snapkv({.capacity = 100, .window = 16});
  snapkv->after_prefill(cache, end_of(prompt, *snapkv, &pool));
  for (int head = 0; head < 8; ++head) EXPECT_EQ(cache.rows(0, head), 100);
}

}  // namespace
}  // namespace tessera::kv
