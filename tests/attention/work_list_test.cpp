#include "tessera/attention/work_list.h"

#include <gtest/gtest.h>

#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

// 130 query rows over 130 key rows: three query tiles that see 1, 2 and 3 key tiles.
WorkList small_list() {
  WorkList work;
  work.query_rows = 130;
  work.key_rows = 130;
  work.heads.resize(1);
  HeadWork& head = work.heads[0];
  head.tile_begin = {0, 1, 2, 4};
  head.tiles = {0, 1, 0, 2};
  head.columns = {3, 70, 129};
  head.column_end = {0, 2, 3};
  return work;
}

TEST(WorkList, AcceptsAValidList) { EXPECT_NO_THROW(check(small_list())); }

TEST(WorkList, RejectsEveryBrokenRule) {
  const auto expect_broken = [](auto&& damage) {
    WorkList work = small_list();
    damage(work, work.heads[0]);
    EXPECT_THROW(check(work), Error);
  };
  expect_broken([](WorkList&, HeadWork& head) { head.tiles[2] = 2; });  // repeated
  expect_broken([](WorkList&, HeadWork& head) { head.tiles[3] = 3; });  // out of range
  expect_broken([](WorkList&, HeadWork& head) { head.tiles[0] = -1; });
  expect_broken([](WorkList&, HeadWork& head) { head.tile_begin.pop_back(); });
  expect_broken([](WorkList&, HeadWork& head) { head.tile_begin = {0, 2, 1, 4}; });
  expect_broken([](WorkList&, HeadWork& head) { head.tile_begin = {1, 1, 2, 4}; });
  expect_broken([](WorkList&, HeadWork& head) { head.tiles.push_back(3); });
  expect_broken([](WorkList&, HeadWork& head) { head.columns = {70, 3, 129}; });
  expect_broken([](WorkList&, HeadWork& head) { head.columns = {3, 3, 129}; });
  expect_broken([](WorkList&, HeadWork& head) { head.columns = {3, 70, 130}; });
  expect_broken([](WorkList&, HeadWork& head) { head.column_end = {0, 2, 4}; });
  expect_broken([](WorkList&, HeadWork& head) { head.column_end = {1, 0, 3}; });
  expect_broken([](WorkList&, HeadWork& head) { head.column_end = {0, 3}; });
  expect_broken([](WorkList&, HeadWork& head) { head.columns.clear(); });
  expect_broken([](WorkList&, HeadWork& head) { head.dense = true; });
  expect_broken([](WorkList& work, HeadWork&) { work.visible = {64, 128}; });
}

TEST(WorkList, DensityCountsTilesInFullAndColumnsOnce) {
  WorkList work = small_list();
  // Query tile 0: tile 0. Tile 1: tile 1, column 3 (70 lies in tile 1). Tile 2: tiles 0 and 2, column 70 (3, 129 lie in
  // them).
  EXPECT_DOUBLE_EQ(executed_density(work), (64 + 64 + 1 + 128 + 1) / (6 * 64.0));
  work.heads.resize(2);
  work.heads[1].dense = true;
  EXPECT_DOUBLE_EQ(executed_density(work), (1 + (64 + 64 + 1 + 128 + 1) / (6 * 64.0)) / 2);
}

TEST(WorkList, DensityIgnoresTheFutureAndKnowsOffsetsAndGaps) {
  WorkList work;
  work.query_rows = 64;
  work.key_rows = 256;
  work.first_position = 192;
  work.heads.resize(1);
  work.heads[0].tile_begin = {0, 2};
  work.heads[0].tiles = {0, 3};
  EXPECT_DOUBLE_EQ(executed_density(work), 0.5);
  work.first_position = 64;  // sees two tiles only
  EXPECT_DOUBLE_EQ(executed_density(work), 0.5);
  EXPECT_EQ(work.visible_rows(0, 0), 128);
  work.visible = {200};
  EXPECT_EQ(work.visible_rows(0, 0), 200);
  EXPECT_DOUBLE_EQ(executed_density(work), 0.5);
  work.heads[0].tiles = {0, 1};
  work.visible = {60};
  EXPECT_DOUBLE_EQ(executed_density(work), 1);
}

}  // namespace
}  // namespace tessera::attention
