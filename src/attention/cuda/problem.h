// What a launch is told, in the form that kernels read. Plain data, passed by value; pure functions tested on the host.
#pragma once

#include <cstdint>

#include "attention/cuda/host_device.h"
#include "tessera/attention/cuda.h"

namespace tessera::attention::cuda {

struct SequenceRange {
  int32_t query_begin, query_rows, key_begin, key_rows, first_position;
  int32_t tile_begin;  // index of its first query tile among those of all sequences
};

struct Problem {
  const void* queries;
  const void* keys;
  const void* values;
  void* out;
  float* lse;
  int64_t query_stride[2], key_stride[2], value_stride[2], out_stride[2];  // elements per row, per head
  int64_t lse_stride;                                                      // floats per row
  int32_t query_heads, kv_heads, head_dim, query_tiles, sequences;
  float scale;
  SequenceRange sequence[kMaxSequences];
};

// Some part of one list, computed by one block of threads. slot < 0: the whole list, written straight to the output;
// otherwise partial result `slot`, merged afterwards.
struct WorkItem {
  int32_t row;    // query_head * query_tiles + query_tile
  int32_t begin;  // first unit; units are the list's tiles from the last to the first, then its column groups
  int32_t count;
  int32_t slot;
  int32_t first;  // of its units that the walk begins with; it goes on after the last with unit 0
};

// A list that was split: partial results [first_slot, first_slot + parts).
struct SplitRow {
  int32_t row, first_slot, parts, unused;
};

// The lists, the balanced items and the compacted columns, in device memory.
struct ListWork {
  const int32_t* tile_begin;
  const uint32_t* tiles;
  const int32_t* column_cut;    // null: no columns
  const int32_t* columns;       // [sequences * list_heads, column_stride]
  const uint32_t* column_keep;  // [lists, column_stride / 32] bit c % 32 of word c / 32: column c is computed here
  const int32_t* bands;         // [sequences * list_heads, band_stride]; null: tiles
  const int32_t* band_cut;      // [lists]
  int32_t list_heads, column_stride, key_tile, band_stride;
  int64_t tile_capacity;
  const uint32_t* overflow;  // null, or the flag of whoever made the lists
  const WorkItem* items;
  const int32_t* item_count;
  float* partial_out;  // [slots, 128, head_dim]
  float* partial_lse;  // [slots, 128]
};

// The query tile in the terms of its sequence.
struct QueryTile {
  int32_t sequence;
  int32_t first_row;  // within the packed tensor
  int32_t rows;       // 1..128
  int32_t position;   // of its first row
};

TESSERA_HOST_DEVICE QueryTile query_tile(const Problem& problem, int32_t tile) {
  int32_t s = 0;
  while (s + 1 < problem.sequences && problem.sequence[s + 1].tile_begin <= tile) ++s;
  const SequenceRange& range = problem.sequence[s];
  int32_t first = (tile - range.tile_begin) * kQueryTile;
  int32_t rows = range.query_rows - first;
  return {s, range.query_begin + first, rows < kQueryTile ? rows : kQueryTile, range.first_position + first};
}

// Key tiles that a query tile sees at least one row of.
TESSERA_HOST_DEVICE int32_t visible_tiles(const QueryTile& tile, int32_t key_rows, int32_t key_tile) {
  int32_t seen = tile.position + tile.rows;
  seen = seen < key_rows ? seen : key_rows;
  return (seen + key_tile - 1) / key_tile;
}

// Last key row of entry `entry` of a band, for the query tile whose first row stands at `position`. May be negative.
TESSERA_HOST_DEVICE constexpr int32_t band_end(int32_t position, int32_t entry) {
  return position + kQueryTile - 1 - entry;
}

// Keys that the Hopper kernel multiplies at a time: as many listed tiles as are 128 rows, where shared memory holds
// them.
TESSERA_HOST_DEVICE constexpr int32_t unit_rows(int32_t head_dim, int32_t key_tile) {
  return head_dim <= 128 ? 128 : key_tile;
}

// Units of a list: its tiles, then its columns.
TESSERA_HOST_DEVICE constexpr int32_t list_units(int32_t tiles, int32_t columns, int32_t key_tile, int32_t unit_rows) {
  int32_t tiles_per_unit = unit_rows / key_tile;
  return (tiles + tiles_per_unit - 1) / tiles_per_unit + (columns + unit_rows - 1) / unit_rows;
}

// True when some (query row, key row) pair of the key tile is hidden by causality or lies beyond the rows.
TESSERA_HOST_DEVICE bool needs_mask(const QueryTile& tile, int32_t key_rows, int32_t key_tile, int32_t index) {
  int32_t end = (index + 1) * key_tile;
  return end > key_rows || end > tile.position + 1;
}

// Order of the dense items: one KV head after the other, so that what runs together shares keys in the L2 cache; within
// it the longest tile first, so that what runs last is short; the heads of a group next to each other.
TESSERA_HOST_DEVICE int32_t dense_row(const Problem& problem, int32_t item) {
  int32_t group = problem.query_heads / problem.kv_heads;
  int32_t per_kv_head = group * problem.query_tiles;
  int32_t kv_head = item / per_kv_head;
  int32_t rest = item - kv_head * per_kv_head;
  int32_t tile = problem.query_tiles - 1 - rest / group;
  return (kv_head * group + rest % group) * problem.query_tiles + tile;
}

// The list that output row `row` (query_head * query_tiles + query_tile) uses.
TESSERA_HOST_DEVICE int32_t list_of(const Problem& problem, int32_t list_heads, int32_t row) {
  int32_t head = row / problem.query_tiles;
  return head / (problem.query_heads / list_heads) * problem.query_tiles + row % problem.query_tiles;
}

// Tiles of a list, or entries of its band.
TESSERA_HOST_DEVICE int32_t listed_tiles(const ListWork& work, int32_t list) {
  return work.bands ? work.band_cut[list] : work.tile_begin[list + 1] - work.tile_begin[list];
}

// Where the entries of a list's band begin among all.
TESSERA_HOST_DEVICE int32_t band_begin(const Problem& problem, const ListWork& work, int32_t list, int32_t sequence) {
  return (sequence * work.list_heads + list / problem.query_tiles) * work.band_stride;
}

// False: the last offset lies beyond the room for entries, and no entry may be read.
TESSERA_HOST_DEVICE bool lists_fit(const Problem& problem, const ListWork& work) {
  return work.bands || work.tile_begin[int64_t{work.list_heads} * problem.query_tiles] <= work.tile_capacity;
}

// Units per part when lists are split: at most twice the mean list, unless that would need more than `max_slots`
// partial results; small lists stay whole. Parts of a list of n units: ceil(n / limit).
TESSERA_HOST_DEVICE int32_t split_limit(int64_t units, int32_t rows, int32_t max_slots) {
  int64_t twice_mean = rows > 0 ? (2 * units + rows - 1) / rows : 0;
  int64_t by_slots = (2 * units + max_slots - 1) / max_slots;
  int64_t limit = twice_mean > by_slots ? twice_mean : by_slots;
  return static_cast<int32_t>(limit > 16 ? limit : 16);
}

// Part `part` of `parts` of a list of n units: equal shares, the first ones one longer.
TESSERA_HOST_DEVICE int32_t part_begin(int32_t units, int32_t parts, int32_t part) {
  int32_t share = units / parts;
  int32_t longer = units % parts;
  return part * share + (part < longer ? part : longer);
}

// Heaviest first: items of at least 2^k units stand before those of fewer.
constexpr int kCostClasses = 20;
TESSERA_HOST_DEVICE int32_t cost_class(int32_t units) {
  int32_t level = 0;
  while (units > 1 && level < kCostClasses - 1) {
    units >>= 1;
    ++level;
  }
  return kCostClasses - 1 - level;
}

}  // namespace tessera::attention::cuda
