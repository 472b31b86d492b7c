// Bands that cover diagonals: tiles of kBandTile key rows at distances that hold for every query tile of a head
// (DeviceWorkList::bands). Diagonal d needs, before the end of a query tile, the rows d .. d + 127; tiles follow each
// other without a gap from a first diagonal on, and begin anew where the next diagonal is so far that no two tiles
// meet.
//
// A run of r diagonals takes ceil((r + 127) / 32) tiles, where tiles of 64 rows at multiples of 64 take half a tile
// more on the average.
#pragma once

#include "attention/cuda/partition_point.h"
#include "attention/cuda/problem.h"
#include "attention/cuda/radix_search.h"

namespace tessera::attention::cuda {

struct BandShared {
  uint32_t first[2][kSearchThreads];
  uint32_t scan[2][kSearchThreads];
  uint32_t first_before;
  uint32_t before;
};

struct BandArguments {
  const int32_t* distances = nullptr;  // [count], ascending, distinct
  int32_t count = 0;
  int32_t* bands = nullptr;       // [band_room()] written
  int32_t* band_count = nullptr;  // [1] written
};

// Entries that `diagonals` of them can need at most.
constexpr int32_t band_room(int32_t diagonals, int32_t key_rows) {
  const int32_t by_rows = (key_rows + kQueryTile) / kBandTile + 1;
  return diagonals < by_rows / 5 ? 5 * diagonals : by_rows;
}

// From this distance after the last diagonal on, a new first tile meets no earlier one.
constexpr int32_t kBandGap = kQueryTile - 1 + kBandTile;

// Tiles that begin at `first` or later and cover all rows up to those of diagonal `distance`.
TESSERA_SIMT inline int32_t tiles_up_to(int32_t first, int32_t distance) {
  return (distance + kQueryTile - 1 - first) / kBandTile + 1;
}

// Cost: one read of the distances by one block. A diagonal writes the tiles that the one before it did not need.
TESSERA_SIMT inline void write_bands(const SearchBlock& block, const BandArguments& line, BandShared& shared) {
  block.each([&](int thread) {
    if (thread == 0) shared.first_before = shared.before = 0;
  });
  for (int32_t chunk = 0; chunk < line.count; chunk += kSearchThreads) {
    // 1 + the diagonal with which a thread's tiles begin: the highest among those that begin anew, as they ascend.
    block.each([&](int thread) {
      const int32_t i = chunk + thread;
      const bool anew = i < line.count && (i == 0 || line.distances[i] - line.distances[i - 1] >= kBandGap);
      shared.first[0][thread] = anew ? static_cast<uint32_t>(line.distances[i]) + 1 : 0;
    });
    block.inclusive_highest(shared.first);
    const auto first_of = [&](int thread) {
      const uint32_t here = shared.first[0][thread];
      return static_cast<int32_t>(here > shared.first_before ? here : shared.first_before) - 1;
    };
    const auto tiles_before = [&](int32_t i, int32_t first) {
      return line.distances[i] == first ? 0 : tiles_up_to(first, line.distances[i - 1]);
    };
    block.each([&](int thread) {
      const int32_t i = chunk + thread;
      const int32_t first = first_of(thread);
      shared.scan[0][thread] =
          i < line.count ? static_cast<uint32_t>(tiles_up_to(first, line.distances[i]) - tiles_before(i, first)) : 0;
    });
    block.inclusive_scan(shared.scan);
    block.each([&](int thread) {
      const int32_t i = chunk + thread;
      if (i >= line.count) return;
      const int32_t first = first_of(thread);
      uint32_t at = shared.before + (thread > 0 ? shared.scan[0][thread - 1] : 0);
      for (int32_t tile = tiles_before(i, first); tile < tiles_up_to(first, line.distances[i]); ++tile) {
        line.bands[at++] = first + tile * kBandTile;
      }
    });
    block.each([&](int thread) {
      if (thread != 0) return;
      const uint32_t last = shared.first[0][kSearchThreads - 1];
      if (last > shared.first_before) shared.first_before = last;
      shared.before += shared.scan[0][kSearchThreads - 1];
    });
  }
  block.each([&](int thread) {
    if (thread == 0) *line.band_count = static_cast<int32_t>(shared.before);
  });
}

// Leading entries of a band that the query tile whose first row stands at `position` uses: those with a row that
// exists.
TESSERA_SIMT inline int32_t band_cut(int32_t position, const int32_t* bands, int32_t count) {
  return partition_point(count, [&](int32_t i) { return band_end(position, bands[i]) >= 0; });
}

}  // namespace tessera::attention::cuda
