#include "tessera/kv/page_pool.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tessera/base/error.h"

namespace tessera::kv {
namespace {

using attention::TileFormat;

TEST(PagePool, CountsBytesInUseAndTheirPeak) {
  PagePool pool;
  const int64_t page = attention::tile_bytes(TileFormat::f32, 64);
  EXPECT_EQ(page, 2 * 64 * 64 * 4);
  {
    const PageRef first = pool.allocate(TileFormat::f32, 64);
    PageRef second = pool.allocate(TileFormat::f32, 64);
    const PageRef again = second;
    EXPECT_EQ(pool.bytes_in_use(), 2 * page);
    second = {};
    EXPECT_EQ(pool.bytes_in_use(), 2 * page) << "a copy of the handle still holds the page";
  }
  EXPECT_EQ(pool.bytes_in_use(), 0);
  EXPECT_EQ(pool.peak_bytes(), 2 * page);
  EXPECT_EQ(pool.bytes_free(), 2 * page);
  pool.trim();
  EXPECT_EQ(pool.bytes_free(), 0);
}

TEST(PagePool, PagesAreZeroedAndAlignedAlsoWhenReused) {
  PagePool pool;
  for (int round = 0; round < 3; ++round) {
    PageRef page = pool.allocate(TileFormat::f16, 32);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(page.data()) % 64, 0U);
    EXPECT_TRUE(std::all_of(page.data(), page.data() + page.bytes(), [](std::byte b) { return b == std::byte{0}; }));
    std::fill_n(page.claim_rows(0, 64), page.bytes(), std::byte{0xFF});
  }
}

TEST(PagePool, RefusesBeyondTheLimitAndRecovers) {
  const int64_t page = attention::tile_bytes(TileFormat::f32, 32);
  PagePool pool(2 * page);
  PageRef first = pool.allocate(TileFormat::f32, 32);
  PageRef second = pool.allocate(TileFormat::f32, 32);
  try {
    (void)pool.allocate(TileFormat::kivi2, 32);
    FAIL() << "expected limit_exceeded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::limit_exceeded);
  }
  EXPECT_EQ(pool.bytes_in_use(), 2 * page);
  second = {};
  const PageRef small = pool.allocate(TileFormat::kivi2, 32);  // the free f32 page makes room
  EXPECT_EQ(pool.bytes_free(), 0);
  EXPECT_LE(pool.bytes_in_use(), 2 * page);
  EXPECT_THROW(PagePool(-1), Error);
}

TEST(PagePool, PagesOutliveThePool) {
  PageRef page;
  {
    PagePool pool;
    page = pool.allocate(TileFormat::f32, 32);
  }
  page.claim_rows(0, 1)[0] = std::byte{7};
  EXPECT_EQ(page.data()[0], std::byte{7});
}

TEST(PageRef, StampChangesOnlyWhenRowsAreWrittenAgain) {
  PagePool pool;
  PageRef page = pool.allocate(TileFormat::f32, 32);
  const uint64_t stamp = page.stamp();
  page.claim_rows(0, 10);
  page.claim_rows(10, 5);
  EXPECT_EQ(page.stamp(), stamp);
  page.claim_rows(12, 1);
  const uint64_t second = page.stamp();
  EXPECT_NE(second, stamp);
  page.claim_rows(13, 1);
  EXPECT_EQ(page.stamp(), second);
  EXPECT_NE(pool.allocate(TileFormat::f32, 32).stamp(), second);
}

TEST(Counted, SharesUntilCopied) {
  auto mine = Counted<std::vector<int>>::make(3, 1);
  auto other = mine;
  EXPECT_FALSE(mine.unique());
  EXPECT_TRUE(mine == other);
  mine = Counted<std::vector<int>>::make(*mine);
  EXPECT_TRUE(mine.unique());
  EXPECT_FALSE(mine == other);
  mine.edit().push_back(4);
  EXPECT_EQ(other->size() + 1, mine->size());
  const auto moved = std::move(mine);
  EXPECT_TRUE(moved.unique());
}

}  // namespace
}  // namespace tessera::kv
