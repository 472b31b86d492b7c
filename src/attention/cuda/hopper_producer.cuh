// The producer: one thread that takes items, tells the consumers about them and keeps the copy engine busy.
#pragma once

#include "attention/cuda/hopper_shared.cuh"

namespace tessera::attention::cuda {

template <int kHeadDim, int kKeyTile, bool kList>
class Producer {
 public:
  using Shape = HopperShape<kHeadDim, kKeyTile>;
  using Shared = HopperShared<kHeadDim, kKeyTile>;

  __device__ __forceinline__ Producer(const Problem& problem, const ListWork& work, const HopperMaps& maps,
                                      Shared& shared)
      : problem_(problem), work_(work), maps_(maps), shared_(shared) {}

  __device__ __forceinline__ void run(int* next_item) {
    int count = kList ? *work_.item_count : problem_.query_heads * problem_.query_tiles;
    while (true) {
      int index = atomicAdd(next_item, 1);
      if (index >= count) break;
      produce(index);
    }
    ConsumerItem last = {};
    last.head = -1;
    announce(last);
    drain();
  }

 private:
  __device__ __forceinline__ void announce(const ConsumerItem& item) {
    ptx::mbarrier_wait(&shared_.item_empty[items_.stage], items_.parity ^ 1);
    shared_.item[items_.stage] = item;
    ptx::mbarrier_arrive(&shared_.item_full[items_.stage]);
    items_.next();
  }

  __device__ __forceinline__ void produce(int index) {
    WorkItem part = {};
    if constexpr (kList) {
      part = work_.items[index];
    } else {
      part.row = dense_row(problem_, index);
      part.slot = -1;
    }
    int head = part.row / problem_.query_tiles;
    QueryTile tile = query_tile(problem_, part.row % problem_.query_tiles);
    const SequenceRange& range = problem_.sequence[tile.sequence];
    if constexpr (!kList) part.count = visible_tiles(tile, range.key_rows, kKeyTile);

    announce({head, part.count, tile.first_row, tile.rows, tile.position, range.key_rows, part.slot, 0});
    if (part.count == 0) return;
    load_queries(head, tile.first_row);

    int list = 0;
    int list_begin = 0;
    int tiles = part.count;
    if constexpr (kList) {
      list = list_of(problem_, work_.list_heads, part.row);
      list_begin = work_.tile_begin[list];
      tiles = work_.tile_begin[list + 1] - list_begin;
    }
    // Where columns of this list lie among the compacted ones.
    int column_owner = kList ? tile.sequence * work_.list_heads + list / problem_.query_tiles : 0;
    Source source{head / (problem_.query_heads / problem_.kv_heads), range.key_begin, column_owner, list};

    uint32_t pending = 0;  // unit whose values are still to be loaded
    int pending_row = 0;
    for (int u = 0; u < part.count; ++u) {
      int unit = part.begin + u;
      uint32_t entry;
      int row;
      if (unit < tiles) {
        if constexpr (kList) {
          entry = work_.tiles[list_begin + tiles - 1 - unit];
        } else {
          uint32_t key_tile = static_cast<uint32_t>(tiles - 1 - unit);
          entry =
              key_tile | (needs_mask(tile, range.key_rows, kKeyTile, static_cast<int>(key_tile)) ? kMaskedTile : 0u);
        }
        row = static_cast<int>(entry & kTileIndex) * kKeyTile;
      } else {
        entry = kColumnUnit | kMaskedTile;
        row = (unit - tiles) * kKeyTile;
      }
      load_keys(source, entry, row);
      if (u > 0) load_values(source, pending, pending_row);
      pending = entry;
      pending_row = row;
    }
    load_values(source, pending, pending_row);
  }

  struct Source {
    int kv_head, key_begin, column_owner, list;
  };

  __device__ __forceinline__ void load_queries(int head, int first_row) {
    ptx::mbarrier_wait(&shared_.queries_empty, queries_parity_ ^ 1);
    ptx::mbarrier_arrive_expect(&shared_.queries_full, Shape::kQueryBytes);
    load_boxes(shared_.queries, &maps_.queries, &shared_.queries_full, kQueryTile, head, first_row);
    queries_parity_ ^= 1;
  }

  __device__ __forceinline__ void load_keys(const Source& source, uint32_t entry, int row) {
    int stage = keys_.stage;
    uint64_t* full = &shared_.keys_full[stage];
    ptx::mbarrier_wait(&shared_.keys_empty[stage], keys_.parity ^ 1);
    shared_.unit[stage] = entry;
    if (kList && (entry & kColumnUnit)) {
      constexpr uint32_t kPositionBytes = kKeyTile * 4;
      constexpr uint32_t kKeepBytes = kKeyTile / 8;
      static_assert(kKeepBytes >= 8);
      int64_t columns = int64_t{source.column_owner} * work_.column_stride + row;
      const uint32_t* keep = work_.column_keep + (int64_t{source.list} * work_.column_stride + row) / 32;
#pragma unroll
      for (int word = 0; word < kKeyTile / 32; ++word) shared_.column_keep[stage][word] = keep[word];
      ptx::mbarrier_arrive_expect(full, Shape::kTileBytes + kPositionBytes);
      ptx::bulk_load(shared_.column_position[stage], work_.columns + columns, kPositionBytes, full);
      load_boxes(shared_.keys[stage], &maps_.column_keys, full, kKeyTile, source.column_owner, row);
    } else {
      ptx::mbarrier_arrive_expect(full, Shape::kTileBytes);
      load_boxes(shared_.keys[stage], &maps_.keys, full, kKeyTile, source.kv_head, source.key_begin + row);
    }
    keys_.next();
  }

  __device__ __forceinline__ void load_values(const Source& source, uint32_t entry, int row) {
    int stage = values_.stage;
    uint64_t* full = &shared_.values_full[stage];
    ptx::mbarrier_wait(&shared_.values_empty[stage], values_.parity ^ 1);
    ptx::mbarrier_arrive_expect(full, Shape::kTileBytes);
    if (kList && (entry & kColumnUnit)) {
      load_boxes(shared_.values[stage], &maps_.column_values, full, kKeyTile, source.column_owner, row);
    } else {
      load_boxes(shared_.values[stage], &maps_.values, full, kKeyTile, source.kv_head, source.key_begin + row);
    }
    values_.next();
  }

  __device__ __forceinline__ void load_boxes(unsigned char* shared, const CUtensorMap* map, uint64_t* full, int rows,
                                             int head, int row) {
#pragma unroll
    for (int box = 0; box < Shape::kBoxes; ++box) {
      ptx::tma_load_3d(shared + box * rows * kBoxRowBytes, map, full, box * kBoxChannels, head, row);
    }
  }

  // The block must not end while the consumers may still arrive at barriers or a copy is under way.
  __device__ __forceinline__ void drain() {
    for (int i = 0; i < 2; ++i) {
      ptx::mbarrier_wait(&shared_.item_empty[items_.stage], items_.parity ^ 1);
      items_.next();
    }
  }

  const Problem& problem_;
  const ListWork& work_;
  const HopperMaps& maps_;
  Shared& shared_;
  Ring<2> items_;
  Ring<Shape::kStages> keys_;
  Ring<Shape::kStages> values_;
  uint32_t queries_parity_ = 0;
};

}  // namespace tessera::attention::cuda
