// Copy-engine descriptors of one launch.
#pragma once

#include <cuda.h>

namespace tessera::attention::cuda {

struct HopperMaps {
  CUtensorMap queries;  // (channel, head, row) boxes of 64 x 1 x 128
  CUtensorMap keys;     // boxes of 64 x 1 x key tile
  CUtensorMap values;
  CUtensorMap unit_keys;  // boxes of 64 x 1 x unit, for bands
  CUtensorMap unit_values;
  CUtensorMap column_keys;  // compacted columns: (channel, sequence * list_heads + list head, column) 64 x 1 x unit
  CUtensorMap column_values;
};

}  // namespace tessera::attention::cuda
