#include "tessera/kv/cache.h"

#include <limits>
#include <type_traits>

#include "kv/kv_support.h"

namespace tessera::kv {
namespace {

using attention::TileFormat;

static_assert(!std::is_copy_constructible_v<KeyValueCache> && !std::is_copy_assignable_v<KeyValueCache>,
              "copies are named: fork()");
static_assert(std::is_nothrow_move_constructible_v<KeyValueCache> && std::is_nothrow_move_assignable_v<KeyValueCache>);

template <typename Action>
void expect_error(ErrorCode code, const Action& action) {
  try {
    action();
    ADD_FAILURE() << "expected " << to_string(code);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
  }
}

TEST(Cache, KeepsWhatWasAppendedAcrossPages) {
  for (const TileFormat format : {TileFormat::f32, TileFormat::bf16, TileFormat::f16}) {
    Random random(1);
    const Tensor keys = exact_rows(random, 200, 3, 64);
    const Tensor values = exact_rows(random, 200, 3, 64);
    KeyValueCache cache({.layers = 2, .kv_heads = 3, .head_dim = 64, .format = format}, std::make_shared<PagePool>());
    int64_t at = 0;
    for (const int64_t count : {1, 62, 1, 1, 63, 0, 72}) {
      cache.append(1, keys.slice(at, count), values.slice(at, count), at);
      at += count;
    }
    ASSERT_EQ(at, 200);
    const LayerView view = cache.view(1);
    for (int64_t head = 0; head < 3; ++head) {
      const attention::HeadKeys& found = view.heads[static_cast<size_t>(head)];
      ASSERT_EQ(found.rows, 200);
      ASSERT_EQ(found.tiles.size(), 4U);
      EXPECT_TRUE(found.positions.empty());
      EXPECT_EQ(found.tiles[3].rows, 8);
      for (int64_t row = 0; row < 200; ++row) {
        const Row read = row_of(found, 64, row);
        const float* key = keys.data<float>() + (row * 3 + head) * 64;
        const float* value = values.data<float>() + (row * 3 + head) * 64;
        EXPECT_EQ(read.position, row);
        EXPECT_TRUE(std::equal(key, key + 64, read.key.begin())) << row;
        EXPECT_TRUE(std::equal(value, value + 64, read.value.begin())) << row;
      }
    }
    EXPECT_EQ(cache.rows(0, 0), 0);
    EXPECT_TRUE(cache.view(0).heads[0].tiles.empty());
    EXPECT_EQ(cache.next_position(), 200);
    EXPECT_EQ(cache.bytes(), 3 * 4 * attention::tile_bytes(format, 64));
  }
}

TEST(Cache, PositionsMayHaveGapsAndSurviveDropping) {
  Random random(2);
  KeyValueCache cache({.layers = 1, .kv_heads = 1, .head_dim = 32}, std::make_shared<PagePool>());
  cache.append(0, exact_rows(random, 3, 1, 32), exact_rows(random, 3, 1, 32), 0);
  cache.append(0, exact_rows(random, 2, 1, 32), exact_rows(random, 2, 1, 32), 10);
  EXPECT_EQ(positions_of(cache, 0, 0), (std::vector<int32_t>{0, 1, 2, 10, 11}));
  cache.keep_rows(0, 0, std::vector<int32_t>{1, 3});
  EXPECT_EQ(positions_of(cache, 0, 0), (std::vector<int32_t>{1, 10}));
  EXPECT_EQ(cache.next_position(), 12) << "dropping rows does not move the next position";
  cache.append(0, exact_rows(random, 1, 1, 32), exact_rows(random, 1, 1, 32), 12);
  EXPECT_EQ(positions_of(cache, 0, 0), (std::vector<int32_t>{1, 10, 12}));
  cache.truncate(11);
  EXPECT_EQ(positions_of(cache, 0, 0), (std::vector<int32_t>{1, 10}));
  EXPECT_EQ(cache.next_position(), 11);
  cache.truncate(-5);
  EXPECT_EQ(cache.rows(0, 0), 0);
  EXPECT_EQ(cache.next_position(), 0);
  EXPECT_EQ(cache.bytes(), 0);
}

TEST(Cache, ForkSharesPagesUntilWritten) {
  const Prompt prompt = random_prompt(3, {.rows = 100, .query_heads = 2, .kv_heads = 2, .head_dim = 32});
  auto pool = std::make_shared<PagePool>();
  KeyValueCache cache({.layers = 1, .kv_heads = 2, .head_dim = 32}, pool);
  append_prompt(cache, prompt, 100);
  const int64_t page = attention::tile_bytes(TileFormat::f32, 32);
  EXPECT_EQ(pool->bytes_in_use(), 4 * page);
  EXPECT_EQ(cache.unshared_bytes(), 4 * page);
  {
    KeyValueCache turn = cache.fork();
    EXPECT_EQ(pool->bytes_in_use(), 4 * page);
    EXPECT_EQ(cache.unshared_bytes(), 0);
    EXPECT_EQ(turn.bytes(), 4 * page);
    turn.append(0, prompt.keys.slice(0, 1), prompt.values.slice(0, 1), 100);
    EXPECT_EQ(pool->bytes_in_use(), 6 * page) << "the two last pages were copied, the full ones are shared";
    EXPECT_EQ(turn.unshared_bytes(), 2 * page);
    EXPECT_EQ(cache.unshared_bytes(), 2 * page);
    EXPECT_EQ(cache.rows(0, 0), 100);
    EXPECT_EQ(turn.rows(0, 0), 101);
    EXPECT_EQ(cache.next_position(), 100);
  }
  EXPECT_EQ(cache.unshared_bytes(), 4 * page);
  EXPECT_EQ(pool->bytes_in_use(), 4 * page);
}

TEST(Cache, AppendWithoutSharingTouchesNothingElse) {
  const Prompt prompt = random_prompt(4, {.rows = 130, .query_heads = 1, .kv_heads = 1, .head_dim = 32});
  auto pool = std::make_shared<PagePool>();
  KeyValueCache cache({.layers = 1, .kv_heads = 1, .head_dim = 32}, pool);
  append_prompt(cache, prompt, 130);
  const PageRef* table = cache.pages(0, 0).data();
  const std::byte* last = cache.pages(0, 0)[2].data();
  for (int64_t i = 0; i < 60; ++i) {
    { const LayerView view = cache.view(0); }
    cache.append(0, prompt.keys.slice(i, 1), prompt.values.slice(i, 1), 130 + i);
  }
  EXPECT_EQ(cache.pages(0, 0).data(), table);
  EXPECT_EQ(cache.pages(0, 0)[2].data(), last);
  EXPECT_EQ(pool->peak_bytes(), 3 * attention::tile_bytes(TileFormat::f32, 32));
}

TEST(Cache, ViewKeepsSeeingWhatItSaw) {
  const Prompt prompt = random_prompt(5, {.rows = 150, .query_heads = 2, .kv_heads = 2, .head_dim = 32});
  auto pool = std::make_shared<PagePool>();
  LayerView view;
  std::vector<Row> before;
  {
    KeyValueCache cache({.layers = 1, .kv_heads = 2, .head_dim = 32}, pool);
    append_prompt(cache, prompt, 150);
    view = cache.view(0);
    before = rows_of(view.heads[1], 32);
    cache.append(0, prompt.keys.slice(0, 30), prompt.values.slice(0, 30), 150);
    EXPECT_EQ(rows_of(view.heads[1], 32), before);
    cache.encode_pages(0, 1, 0, 2, TileFormat::kivi2);
    cache.truncate(70);
    cache.append(0, prompt.keys.slice(0, 30), prompt.values.slice(0, 30), 70);
    cache.keep_rows(0, 1, std::vector<int32_t>{0, 99});
    EXPECT_EQ(rows_of(view.heads[1], 32), before);
  }
  EXPECT_EQ(rows_of(view.heads[1], 32), before) << "the view outlives the cache";
  view = {};
  EXPECT_EQ(pool->bytes_in_use(), 0);
}

TEST(Cache, QuantisedPageThatIsCutIsDecodedByTheNextAppend) {
  const Prompt prompt = random_prompt(6, {.rows = 128, .query_heads = 1, .kv_heads = 1, .head_dim = 32});
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 128);
  cache.encode_pages(0, 0, 0, 2, TileFormat::kivi4);
  std::vector<Row> quantised = rows_of(cache.view(0).heads[0], 32);
  cache.truncate(100);
  EXPECT_EQ(cache.pages(0, 0)[1].format(), TileFormat::kivi4);
  cache.append(0, prompt.keys.slice(0, 1), prompt.values.slice(0, 1), 100);
  EXPECT_EQ(cache.pages(0, 0)[0].format(), TileFormat::kivi4);
  EXPECT_EQ(cache.pages(0, 0)[1].format(), TileFormat::f32);
  const std::vector<Row> found = rows_of(cache.view(0).heads[0], 32);
  ASSERT_EQ(found.size(), 101U);
  quantised.resize(100);
  EXPECT_TRUE(std::equal(quantised.begin(), quantised.end(), found.begin()));
  EXPECT_TRUE(std::equal(found[100].key.begin(), found[100].key.end(), prompt.keys.data<float>()));
}

TEST(Cache, KeepRowsLeavesWholeLeadingPagesAlone) {
  const Prompt prompt = random_prompt(7, {.rows = 200, .query_heads = 1, .kv_heads = 1, .head_dim = 32});
  KeyValueCache cache = cache_for(prompt);
  append_prompt(cache, prompt, 200);
  const std::byte* first = cache.pages(0, 0)[0].data();
  std::vector<int32_t> kept;
  for (int32_t row = 0; row < 200; ++row) {
    if (row < 70 || row % 2 == 0) kept.push_back(row);
  }
  cache.keep_rows(0, 0, kept);
  EXPECT_EQ(cache.pages(0, 0)[0].data(), first);
  EXPECT_EQ(positions_of(cache, 0, 0), kept);
  cache.keep_rows(0, 0, std::vector<int32_t>{});
  EXPECT_EQ(cache.rows(0, 0), 0);
  cache.append(0, prompt.keys.slice(0, 1), prompt.values.slice(0, 1), 200);
  EXPECT_EQ(positions_of(cache, 0, 0), std::vector<int32_t>{200});
}

TEST(Cache, FullPoolLeavesEveryHeadAsItWas) {
  const Prompt prompt = random_prompt(8, {.rows = 65, .query_heads = 2, .kv_heads = 2, .head_dim = 32});
  const int64_t page = attention::tile_bytes(TileFormat::f32, 32);
  auto pool = std::make_shared<PagePool>(3 * page);
  KeyValueCache cache({.layers = 2, .kv_heads = 2, .head_dim = 32}, pool);
  cache.append(0, prompt.keys.slice(0, 40), prompt.values.slice(0, 40), 0);
  const LayerView pinned = cache.view(0);
  expect_error(ErrorCode::limit_exceeded,
               [&] { cache.append(0, prompt.keys.slice(0, 30), prompt.values.slice(0, 30), 40); });
  expect_error(ErrorCode::limit_exceeded, [&] { cache.append(1, prompt.keys, prompt.values, 0); });
  EXPECT_EQ(pool->bytes_in_use(), 2 * page);
  for (int head = 0; head < 2; ++head) {
    EXPECT_EQ(cache.rows(0, head), 40);
    EXPECT_EQ(cache.rows(1, head), 0);
  }
  EXPECT_EQ(cache.next_position(), 40);
  cache.truncate(10);
  EXPECT_EQ(cache.rows(0, 1), 10) << "dropping rows needs no room";
}

TEST(Cache, RefusesWhatDoesNotFit) {
  Random random(9);
  auto pool = std::make_shared<PagePool>();
  expect_error(ErrorCode::invalid_argument, [&] { KeyValueCache({.layers = 0, .kv_heads = 1, .head_dim = 32}, pool); });
  expect_error(ErrorCode::invalid_argument, [&] { KeyValueCache({.layers = 1, .kv_heads = 0, .head_dim = 32}, pool); });
  expect_error(ErrorCode::invalid_argument, [&] { KeyValueCache({.layers = 1, .kv_heads = 1, .head_dim = 48}, pool); });
  expect_error(ErrorCode::invalid_argument,
               [&] { KeyValueCache({.layers = 1, .kv_heads = 1, .head_dim = 32, .format = TileFormat::kivi2}, pool); });
  expect_error(ErrorCode::invalid_argument,
               [&] { KeyValueCache({.layers = 1, .kv_heads = 1, .head_dim = 32}, nullptr); });

  KeyValueCache cache({.layers = 1, .kv_heads = 2, .head_dim = 32}, pool);
  const Tensor rows = exact_rows(random, 70, 2, 32);
  cache.append(0, rows, rows, 5);
  const auto refused = [&](const auto& action) { expect_error(ErrorCode::invalid_argument, action); };
  refused([&] { cache.append(0, rows, rows, 74); });
  refused([&] { cache.append(0, rows, rows, -1); });
  refused([&] { cache.append(0, rows, rows, std::numeric_limits<int32_t>::max()); });
  refused([&] { cache.append(0, rows, rows, std::numeric_limits<int64_t>::max()); });
  refused([&] { cache.append(1, rows, rows, 75); });
  refused([&] { cache.append(-1, rows, rows, 75); });
  refused([&] { cache.append(0, rows, rows.slice(0, 3), 75); });
  refused([&] { cache.append(0, rows.reshape({70, 64}), rows, 75); });
  refused([&] { cache.append(0, exact_rows(random, 1, 1, 32), exact_rows(random, 1, 1, 32), 75); });
  refused([&] { cache.append(0, Tensor::zeros(DType::f16, {1, 2, 32}), Tensor::zeros(DType::f16, {1, 2, 32}), 75); });
  refused([&] { (void)cache.view(1); });
  refused([&] { (void)cache.rows(0, 2); });
  refused([&] { cache.keep_rows(0, 0, std::vector<int32_t>{1, 1}); });
  refused([&] { cache.keep_rows(0, 0, std::vector<int32_t>{2, 1}); });
  refused([&] { cache.keep_rows(0, 0, std::vector<int32_t>{-1}); });
  refused([&] { cache.keep_rows(0, 0, std::vector<int32_t>{70}); });
  refused([&] { cache.encode_pages(0, 0, 0, 2, TileFormat::kivi2); });
  refused([&] { cache.encode_pages(0, 0, -1, 1, TileFormat::kivi2); });
  refused([&] { cache.encode_pages(0, 0, 1, 0, TileFormat::kivi2); });
  refused([&] { cache.encode_pages(0, 0, 0, 1, TileFormat::f16); });
  cache.encode_pages(0, 0, 0, 1, TileFormat::kivi2);
  refused([&] { cache.encode_pages(0, 0, 0, 1, TileFormat::kivi4); });
  EXPECT_EQ(cache.rows(0, 0), 70);
  EXPECT_EQ(cache.rows(0, 1), 70);
  EXPECT_EQ(cache.next_position(), 75);
}

}  // namespace
}  // namespace tessera::kv
