// The producer: one thread that takes items, tells the consumers about them and keeps the copy engine busy.
#pragma once

#include "attention/cuda/hopper_shared.cuh"

namespace tessera::attention::cuda {

template <int kHeadDim, int kKeyTile, bool kList>
class Producer {
 public:
  static constexpr int kUnitRows = unit_rows(kHeadDim, kKeyTile);
  static constexpr int kTilesPerUnit = kUnitRows / kKeyTile;
  static constexpr bool kBands = kList && kKeyTile == kBandTile;
  using Shape = HopperShape<kHeadDim, kUnitRows>;
  using Shared = HopperShared<kHeadDim, kUnitRows>;

  __device__ __forceinline__ Producer(const Problem& problem, const ListWork& work, const HopperMaps& maps,
                                      Shared& shared)
      : problem_(problem), work_(work), maps_(maps), shared_(shared) {}

  __device__ __forceinline__ void run(int* next_item) {
    next_item_ = next_item;
    count_ = kList ? *work_.item_count : problem_.query_heads * problem_.query_tiles;
    take();
    while (next_.index < count_) produce();
    ConsumerItem last = {};
    last.head = -1;
    announce(last);
    drain();
  }

 private:
  // An item that this block has taken and not begun.
  struct Taken {
    int index;
    WorkItem part;
    int list;
    int list_begin;  // of its tiles, or of its band, among all
    int tiles;
  };

  // List entries of a unit as they lie in memory, so that reading them does not hold up the copies before.
  struct Entries {
    uint32_t tile[kTilesPerUnit];
  };

  // Takes the next item. Called while copies of the current one are under way: the chain of dependent reads then costs
  // nothing. Lists are taken when few units are left, in the order in which blocks become free: plan_phases() counts on
  // it.
  __device__ __forceinline__ void take() {
    next_.index = atomicAdd(next_item_, 1);
    if (next_.index >= count_) return;
    if constexpr (kList) {
      next_.part = work_.items[next_.index];
      next_.list = list_of(problem_, work_.list_heads, next_.part.row);
      next_.tiles = listed_tiles(work_, next_.list);
      if constexpr (kBands) {
        int sequence = query_tile(problem_, next_.part.row % problem_.query_tiles).sequence;
        next_.list_begin = band_begin(problem_, work_, next_.list, sequence);
      } else {
        next_.list_begin = work_.tile_begin[next_.list];
      }
    } else {
      next_.part = {};
      next_.part.row = dense_row(problem_, next_.index);
      next_.part.slot = -1;
    }
  }

  __device__ __forceinline__ void announce(const ConsumerItem& item) {
    ptx::mbarrier_wait(&shared_.item_empty[items_.stage], items_.parity ^ 1);
    shared_.item[items_.stage] = item;
    ptx::mbarrier_arrive(&shared_.item_full[items_.stage]);
    items_.next();
  }

  __device__ __forceinline__ void produce() {
    now_ = next_;
    int head = now_.part.row / problem_.query_tiles;
    QueryTile tile = query_tile(problem_, now_.part.row % problem_.query_tiles);
    const SequenceRange& range = problem_.sequence[tile.sequence];
    if constexpr (!kList) now_.tiles = now_.part.count = visible_tiles(tile, range.key_rows, kKeyTile);
    int count = now_.part.count;
    announce({head, count, tile.first_row, tile.rows, tile.position, range.key_rows, now_.part.slot, 0});
    // Where columns of this list lie among the compacted ones.
    int column_owner = kList ? tile.sequence * work_.list_heads + now_.list / problem_.query_tiles : 0;
    Source source{head / (problem_.query_heads / problem_.kv_heads), range.key_begin, column_owner, tile.position,
                  range.key_rows};

    int take_at = kList ? max(count - 4, 1) : 1;
    Unit pending = {};  // whose values are still to be loaded
    Entries entries = read(0, count);
    Entries after = read(1, count);
    for (int u = 0; u < count; ++u) {
      Unit unit = kList ? list_unit(u, entries, source) : dense_unit(u, tile, range.key_rows);
      entries = after;
      after = read(u + 2, count);
      load_keys(source, unit);
      // The first keys wait for no one, the queries for the end of the item before.
      if (u == 0) load_queries(head, tile.first_row);
      if (u > 0) load_values(source, pending);
      pending = unit;
      if (u == take_at) take();
    }
    if (count > 0) load_values(source, pending);
    if (count <= take_at) take();
  }

  struct Source {
    int kv_head, key_begin, column_owner, position, key_rows;
  };

  struct Unit {
    uint32_t flags;                // kColumnUnit, kMaskedTile, kJoinedTiles
    int row[kTilesPerUnit];        // first row of each tile; of a column unit, its first column
    int first_key[kTilesPerUnit];  // what the mask counts from: the row, or kHiddenKey
    int last_key[kTilesPerUnit];   // of a band's tile: its last row that exists and belongs to it
  };

  // The units of a list are its tiles from the last to the first, then its columns.
  __device__ __forceinline__ int tile_units() const { return (now_.tiles + kTilesPerUnit - 1) / kTilesPerUnit; }

  // Index in the list of unit `u` of the walk.
  __device__ __forceinline__ int walk(int u) const {
    int at = now_.part.first + u;
    return now_.part.begin + (at < now_.part.count ? at : at - now_.part.count);
  }

  __device__ __forceinline__ Entries read(int u, int count) const {
    Entries entries = {};
    if constexpr (kList) {
      int unit = walk(u);
      if (u >= count || unit >= tile_units()) return entries;
#pragma unroll
      for (int t = 0; t < kTilesPerUnit; ++t) {
        // A list's last unit may hold its last tile several times; all but the first are hidden.
        if constexpr (kBands) {
          int index = min(unit * kTilesPerUnit + kTilesPerUnit - 1 - t, now_.tiles - 1);
          entries.tile[t] = static_cast<uint32_t>(work_.bands[now_.list_begin + index]);
        } else {
          int index = max(now_.tiles - 1 - unit * kTilesPerUnit - t, 0);
          entries.tile[t] = work_.tiles[now_.list_begin + index];
        }
      }
    }
    return entries;
  }

  __device__ __forceinline__ Unit list_unit(int u, const Entries& entries, const Source& source) const {
    int index = walk(u);
    Unit unit = {};
    if (index >= tile_units()) {
      unit.flags = kColumnUnit | kMaskedTile;
      unit.row[0] = (index - tile_units()) * kUnitRows;
      return unit;
    }
#pragma unroll
    for (int t = 0; t < kTilesPerUnit; ++t) {
      // A band's rows descend from entry to entry; within a unit they ascend, as they lie in memory.
      bool absent = index * kTilesPerUnit + (kBands ? kTilesPerUnit - 1 - t : t) >= now_.tiles;
      uint32_t masked = entries.tile[t] & kMaskedTile;
      if constexpr (kBands) {
        // A tile that would begin before row 0 is loaded from there, and its end belongs to the tile after.
        int end = band_end(source.position, static_cast<int>(entries.tile[t]));
        unit.row[t] = max(end - kKeyTile + 1, 0);
        unit.last_key[t] = min(end, source.key_rows - 1);
        masked = end < kKeyTile - 1 || end > min(source.position, source.key_rows - 1) ? kMaskedTile : 0u;
      } else {
        unit.row[t] = static_cast<int>(entries.tile[t] & kTileIndex) * kKeyTile;
      }
      unit.first_key[t] = absent ? kHiddenKey : unit.row[t];
      unit.flags |= absent ? kMaskedTile : masked;
    }
    if constexpr (kBands) {
      bool joined = true;
#pragma unroll
      for (int t = 1; t < kTilesPerUnit; ++t) joined = joined && unit.row[t] == unit.row[0] + t * kKeyTile;
      unit.flags |= joined ? kJoinedTiles : 0u;
    }
    return unit;
  }

  __device__ __forceinline__ Unit dense_unit(int u, const QueryTile& tile, int key_rows) const {
    int index = now_.tiles - 1 - u;
    Unit unit = {};
    unit.flags = needs_mask(tile, key_rows, kKeyTile, index) ? kMaskedTile : 0u;
    unit.row[0] = unit.first_key[0] = index * kKeyTile;
    return unit;
  }

  __device__ __forceinline__ void load_queries(int head, int first_row) {
    ptx::mbarrier_wait(&shared_.queries_empty, queries_parity_ ^ 1);
    ptx::mbarrier_arrive_expect(&shared_.queries_full, Shape::kQueryBytes);
#pragma unroll
    for (int box = 0; box < Shape::kBoxes; ++box) {
      ptx::tma_load_3d(shared_.queries + box * kQueryTile * kBoxRowBytes, &maps_.queries, &shared_.queries_full,
                       box * kBoxChannels, head, first_row);
    }
    queries_parity_ ^= 1;
  }

  __device__ __forceinline__ void load_keys(const Source& source, const Unit& unit) {
    int stage = keys_.stage;
    uint64_t* full = &shared_.keys_full[stage];
    if (kList && (unit.flags & kColumnUnit)) {
      constexpr int kWords = kUnitRows / 32;
      int64_t columns = int64_t{source.column_owner} * work_.column_stride + unit.row[0];
      const uint32_t* from = work_.column_keep + (int64_t{now_.list} * work_.column_stride + unit.row[0]) / 32;
      uint32_t keep[kWords];
#pragma unroll
      for (int word = 0; word < kWords; ++word) keep[word] = from[word];
      // Columns ascend: the last one of the list in this unit tells of all.
      int last = min(kUnitRows, work_.column_cut[now_.list] - unit.row[0]) - 1;
      bool late = work_.columns[columns + last] > source.position;
      uint32_t position_bytes = late ? kUnitRows * 4u : 0u;
      ptx::mbarrier_wait(&shared_.keys_empty[stage], keys_.parity ^ 1);
      shared_.unit[stage] = unit.flags | (late ? kLateColumns : 0u);
#pragma unroll
      for (int word = 0; word < kWords; ++word) shared_.column_keep[stage][word] = keep[word];
      ptx::mbarrier_arrive_expect(full, Shape::kTileBytes + position_bytes);
      if (late) ptx::bulk_load(shared_.column_position[stage], work_.columns + columns, position_bytes, full);
      load_unit(shared_.keys[stage], &maps_.column_keys, full, source.column_owner, unit.row[0]);
    } else {
      ptx::mbarrier_wait(&shared_.keys_empty[stage], keys_.parity ^ 1);
      shared_.unit[stage] = unit.flags;
#pragma unroll
      for (int t = 0; t < kTilesPerUnit; ++t) {
        shared_.first_key[stage][t] = unit.first_key[t];
        if constexpr (kBands) shared_.last_key[stage][t] = unit.last_key[t];
      }
      ptx::mbarrier_arrive_expect(full, Shape::kTileBytes);
      load_tiles(shared_.keys[stage], {&maps_.keys, &maps_.unit_keys}, full, source, unit);
    }
    keys_.next();
  }

  __device__ __forceinline__ void load_values(const Source& source, const Unit& unit) {
    int stage = values_.stage;
    uint64_t* full = &shared_.values_full[stage];
    ptx::mbarrier_wait(&shared_.values_empty[stage], values_.parity ^ 1);
    ptx::mbarrier_arrive_expect(full, Shape::kTileBytes);
    if (kList && (unit.flags & kColumnUnit)) {
      load_unit(shared_.values[stage], &maps_.column_values, full, source.column_owner, unit.row[0]);
    } else {
      load_tiles(shared_.values[stage], {&maps_.values, &maps_.unit_values}, full, source, unit);
    }
    values_.next();
  }

  struct Maps {
    const CUtensorMap* tile;
    const CUtensorMap* unit;
  };

  __device__ __forceinline__ void load_tiles(unsigned char* shared, const Maps& maps, uint64_t* full,
                                             const Source& source, const Unit& unit) {
    if (kBands && (unit.flags & kJoinedTiles)) {
      load_unit(shared, maps.unit, full, source.kv_head, source.key_begin + unit.row[0]);
      return;
    }
#pragma unroll
    for (int t = 0; t < kTilesPerUnit; ++t) {
      load_boxes(shared, t, maps.tile, full, source.kv_head, source.key_begin + unit.row[t]);
    }
  }

  // Consecutive rows in place of tiles.
  __device__ __forceinline__ void load_unit(unsigned char* shared, const CUtensorMap* map, uint64_t* full, int head,
                                            int row) {
    load_boxes(shared, 0, map, full, head, row);
  }

  // As many rows as the map's boxes have, from tile `t` of a unit on, box by box.
  __device__ __forceinline__ void load_boxes(unsigned char* shared, int t, const CUtensorMap* map, uint64_t* full,
                                             int head, int row) {
#pragma unroll
    for (int box = 0; box < Shape::kBoxes; ++box) {
      ptx::tma_load_3d(shared + (box * kUnitRows + t * kKeyTile) * kBoxRowBytes, map, full, box * kBoxChannels, head,
                       row);
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
  int* next_item_ = nullptr;
  int count_ = 0;
  Taken next_;
  Taken now_;
  Ring<2> items_;
  Ring<Shape::kStages> keys_;
  Ring<Shape::kStages> values_;
  uint32_t queries_parity_ = 0;
};

}  // namespace tessera::attention::cuda
