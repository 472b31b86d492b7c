// Shared memory and pipeline state of the Hopper kernel.
#pragma once

#include "attention/cuda/hopper_maps.h"
#include "attention/cuda/layout.h"
#include "attention/cuda/problem.h"
#include "attention/cuda/ptx.cuh"

namespace tessera::attention::cuda {

// One thing for the consumers to do: an item with everything that they need to know about it.
struct ConsumerItem {
  int32_t head;       // < 0: no more items
  int32_t units;      // 0: nothing is visible
  int32_t first_row;  // of the packed tensor
  int32_t rows;
  int32_t position;
  int32_t key_rows;
  int32_t slot;
  int32_t unused;
};

// What a pipeline stage holds, beside kMaskedTile. kLateColumns: some column stands after the tile's first query row.
constexpr uint32_t kColumnUnit = 0x40000000u;
constexpr uint32_t kLateColumns = 0x20000000u;
constexpr uint32_t kJoinedTiles = 0x10000000u;  // of a band, in rows that follow each other

// First key of a tile that is not there: beyond every row.
constexpr int32_t kHiddenKey = 1 << 30;

// kKeyTile: keys of a unit, see unit_rows().
template <int kHeadDim, int kKeyTile>
struct HopperShape {
  static constexpr int kBoxes = (kHeadDim + kBoxChannels - 1) / kBoxChannels;
  static constexpr int kQueryBytes = kBoxes * kQueryTile * kBoxRowBytes;
  static constexpr int kTileBytes = kBoxes * kKeyTile * kBoxRowBytes;
  // Of the 227 KiB of a block: 1 KiB to align, 2 KiB for all but the tiles.
  static constexpr int kFit = (224 * 1024 - kQueryBytes) / (2 * kTileBytes);
  static constexpr int kStages = kFit < 4 ? kFit : 4;
  static_assert(kStages >= 2, "two stages of keys and values must fit");
};

template <int kHeadDim, int kKeyTile>
struct alignas(1024) HopperShared {
  using Shape = HopperShape<kHeadDim, kKeyTile>;
  // 16-bit elements in swizzled boxes, see layout.h.
  unsigned char queries[Shape::kQueryBytes];
  unsigned char keys[Shape::kStages][Shape::kTileBytes];
  unsigned char values[Shape::kStages][Shape::kTileBytes];
  // Of units with kLateColumns; ascending.
  alignas(16) int32_t column_position[Shape::kStages][kKeyTile];
  alignas(16) uint32_t column_keep[Shape::kStages][kKeyTile / 32];
  uint32_t unit[Shape::kStages];         // kMaskedTile, kColumnUnit
  int32_t first_key[Shape::kStages][4];  // of the tiles that the unit is made of
  int32_t last_key[Shape::kStages][4];   // that the tile stands for; of bands
  ConsumerItem item[2];
  uint64_t queries_full, queries_empty;
  uint64_t keys_full[Shape::kStages], keys_empty[Shape::kStages];
  uint64_t values_full[Shape::kStages], values_empty[Shape::kStages];
  uint64_t item_full[2], item_empty[2];
};

// Position in a ring of kStages: the stage and the parity of its current round.
template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace tessera::attention::cuda
