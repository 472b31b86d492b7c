// Packed lists name every pair that the CPU list names, and exactly those where tiles coincide.
#include "tessera/attention/cuda_pack.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "attention/cuda/problem.h"

namespace tessera::attention::cuda {
namespace {

WorkList random_work(int64_t query_rows, int64_t first_position, uint32_t seed) {
  std::mt19937 random(seed);
  WorkList work{.query_rows = query_rows, .key_rows = first_position + query_rows, .first_position = first_position};
  for (int h = 0; h < 3; ++h) {
    HeadWork head;
    head.dense = h == 2;
    if (!head.dense) {
      head.tile_begin = {0};
      for (int32_t row = 0; row < work.key_rows; ++row) {
        if (random() % 9 == 0) head.columns.push_back(row);
      }
      for (int64_t t = 0; t < work.query_tiles(); ++t) {
        int64_t visible = work.visible_rows(h, t);
        for (int32_t k = 0; k * 64 < visible; ++k) {
          if (random() % 4 == 0) head.tiles.push_back(k);
        }
        head.tile_begin.push_back(static_cast<int64_t>(head.tiles.size()));
        int32_t end = 0;
        for (int32_t column : head.columns) end += column < visible;
        if (!head.columns.empty()) head.column_end.push_back(end);
      }
    }
    work.heads.push_back(head);
  }
  check(work);
  return work;
}

// Keys that query row `row` of head `head` computes, by the CPU list.
std::set<int32_t> named(const WorkList& work, size_t head, int64_t row) {
  std::set<int32_t> keys;
  const HeadWork& list = work.heads[head];
  auto t = static_cast<size_t>(row / 64);
  auto last = static_cast<int32_t>(work.first_position + row);
  for (int32_t key = 0; list.dense && key <= last; ++key) keys.insert(key);
  if (list.dense) return keys;
  for (int64_t i = list.tile_begin[t]; i < list.tile_begin[t + 1]; ++i) {
    int32_t first = list.tiles[static_cast<size_t>(i)] * 64;
    for (int32_t key = first; key <= std::min(first + 63, last); ++key) keys.insert(key);
  }
  for (int32_t c = 0; !list.columns.empty() && c < list.column_end[t]; ++c) {
    if (list.columns[static_cast<size_t>(c)] <= last) keys.insert(list.columns[static_cast<size_t>(c)]);
  }
  return keys;
}

// The same by the packed list, as the GPU kernels read it: masks only where flagged.
std::set<int32_t> packed_named(const WorkList& work, const PackedWorkList& packed, size_t head, int64_t row) {
  std::set<int32_t> keys;
  size_t list = head * static_cast<size_t>(packed.query_tiles) + static_cast<size_t>(row / kQueryTile);
  auto last = static_cast<int32_t>(work.first_position + row);
  for (int32_t i = packed.tile_begin[list]; i < packed.tile_begin[list + 1]; ++i) {
    uint32_t entry = packed.tiles[static_cast<size_t>(i)];
    int32_t first = static_cast<int32_t>(entry & kTileIndex) * packed.key_tile;
    for (int32_t key = first; key < first + packed.key_tile; ++key) {
      if (!(entry & kMaskedTile) || (key <= last && key < work.key_rows)) keys.insert(key);
    }
  }
  for (int32_t c = 0; packed.column_stride > 0 && c < packed.column_cut[list]; ++c) {
    int32_t column = packed.columns[head * static_cast<size_t>(packed.column_stride) + static_cast<size_t>(c)];
    if (column <= last) keys.insert(column);
  }
  return keys;
}

TEST(CudaPack, NamesEveryPairOfTheOriginalAndNoneOfTheFuture) {
  for (int64_t rows : {1, 64, 100, 128, 400}) {
    for (int64_t first : {0, 1, 130}) {
      WorkList work = random_work(rows, first, static_cast<uint32_t>(rows + first));
      for (int32_t key_tile : {64, 128}) {
        PackedWorkList packed = pack(work, key_tile);
        ASSERT_EQ(packed.tile_begin.size(), static_cast<size_t>(packed.list_heads * packed.query_tiles + 1));
        for (size_t head = 0; head < work.heads.size(); ++head) {
          for (int64_t row = 0; row<rows; row += rows> 100 ? 7 : 1) {
            std::set<int32_t> want = named(work, head, row);
            std::set<int32_t> have = packed_named(work, packed, head, row);
            EXPECT_TRUE(std::includes(have.begin(), have.end(), want.begin(), want.end()));
            EXPECT_TRUE(have.empty() || *have.rbegin() <= first + row);
            if (work.heads[head].dense) {
              EXPECT_EQ(have, want);
            }
          }
        }
      }
    }
  }
}

TEST(CudaPack, ListsAscendAndAreDistinct) {
  PackedWorkList packed = pack(random_work(400, 30, 3), 128);
  for (size_t list = 0; list + 1 < packed.tile_begin.size(); ++list) {
    for (int32_t i = packed.tile_begin[list] + 1; i < packed.tile_begin[list + 1]; ++i) {
      EXPECT_LT(packed.tiles[static_cast<size_t>(i) - 1] & kTileIndex,
                packed.tiles[static_cast<size_t>(i)] & kTileIndex);
    }
  }
}

TEST(CudaPack, RefusesWhatTheKernelsCannotDo) {
  WorkList work = random_work(100, 0, 1);
  EXPECT_THROW(pack(work, 32), Error);
  work.visible.assign(2, 50);
  EXPECT_THROW(pack(work, 64), Error);
}

}  // namespace
}  // namespace tessera::attention::cuda
