// The pooled mean correction of a work list: where its means lie, and its launch.
//
// Per list head one row per key tile of each sequence, then one per group of eight tiles: the mean of the rows that are
// no columns of the head, and their number. See DeviceWorkList::correction_levels.
#pragma once

#include "attention/cuda/problem.h"

namespace tessera::attention::cuda {

constexpr int kTilesPerGroup = 8;

TESSERA_HOST_DEVICE int32_t pooled_tiles(const SequenceRange& range, int32_t key_tile) {
  return (range.key_rows + key_tile - 1) / key_tile;
}
TESSERA_HOST_DEVICE int32_t pooled_rows(const SequenceRange& range, int32_t key_tile) {
  int32_t tiles = pooled_tiles(range, key_tile);
  return tiles + (tiles + kTilesPerGroup - 1) / kTilesPerGroup;
}

struct Pooled {
  int32_t levels = 0;  // 1 or 2
  int32_t rows = 0;    // of all sequences, per list head
  int32_t begin[kMaxSequences] = {};
  const int32_t* column_count = nullptr;  // [sequences * list_heads]
  uint16_t* keys = nullptr;               // [list_heads, rows, head_dim]
  uint16_t* values = nullptr;             // [list_heads, rows, head_dim]
  int32_t* counts = nullptr;              // [list_heads, rows]
};

// Rows of the means per list head, where those of each sequence begin.
inline void lay_out(Pooled& pooled, const Problem& problem, int32_t key_tile) {
  pooled.rows = 0;
  for (int32_t s = 0; s < problem.sequences; ++s) {
    pooled.begin[s] = pooled.rows;
    pooled.rows += pooled_rows(problem.sequence[s], key_tile);
  }
}

struct CorrectionLaunch {
  const Problem& problem;
  const ListWork& work;
  const Pooled& pooled;
  bool half_precision = false;
  void* stream = nullptr;
};

// Pools keys and values, attends to the means of what the lists leave out, and merges into out and lse. Returns a
// cudaError_t as int.
int launch_correction(const CorrectionLaunch& launch);

}  // namespace tessera::attention::cuda
