// How many of the leading items of an ascending sequence lie before a point: a binary search for both sides.
#pragma once

#include <cstdint>

#include "attention/cuda/simt.h"

namespace tessera::attention::cuda {

// is_before(i) holds for items 0 .. k - 1 of `count` and for no later one; returns k.
template <typename IsBefore>
TESSERA_SIMT inline int32_t partition_point(int32_t count, const IsBefore& is_before) {
  int32_t low = 0;
  while (low < count) {
    const int32_t middle = (low + count) / 2;
    if (is_before(middle)) {
      low = middle + 1;
    } else {
      count = middle;
    }
  }
  return low;
}

}  // namespace tessera::attention::cuda
