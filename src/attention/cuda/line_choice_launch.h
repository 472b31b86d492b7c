// Launches of line_choice.h for all heads; graph-capturable.
#pragma once

#include "attention/cuda/line_choice.h"

namespace tessera::attention::cuda {

TESSERA_SIMT inline LineChoice choice_of_head(LineChoice choice, int64_t head) {
  const int32_t rows = choice.geometry.key_rows;
  const int32_t tiles = choice.geometry.key_tiles();
  choice.column_mass += head * rows;
  choice.column_gain += head * rows;
  choice.column_key += head * rows;
  choice.tile_mass += head * kBandGroups * tiles;
  choice.tile_rest += head * kBandGroups * tiles;
  choice.band_mass += head * tiles * 2;
  choice.columns += head * choice.column_room;
  choice.column_count += head;
  choice.column_groups += head * choice.column_room * kBandGroups;
  choice.band_bits += head * ((tiles + 31) / 32);
  choice.report += head * 2;
  return choice;
}

// The pointers of `choice` are those of head 0. Each returns a cudaError_t as int.
// `again`: with what the columns chosen before leave.
int launch_choose_columns(const LineChoice& choice, int32_t heads, bool again, void* stream);
int launch_choose_bands(const LineChoice& choice, int32_t heads, void* stream);

}  // namespace tessera::attention::cuda
