// Where tile lists begin and end, from their counts; shared by whoever makes lists in two passes, counting and filling.
#pragma once

#include <cstdint>
#include <cub/device/device_scan.cuh>

#include "attention/cuda/line_lists.h"

namespace tessera::attention::cuda {

// tile_begin of `count` lists from their counts. O(count).
inline cudaError_t scan_counts(const LineLists& lists, int64_t count, cudaStream_t stream) {
  std::size_t bytes = lists.scan_bytes;
  return cub::DeviceScan::ExclusiveSum(lists.scan, bytes, lists.counts, lists.tile_begin, static_cast<int>(count + 1),
                                       stream);
}

// Lists that did not fit end where the room ends.
static __global__ void clamp_kernel(int32_t* begin, int64_t count, int64_t capacity) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count && begin[i] > capacity) begin[i] = static_cast<int32_t>(capacity);
}

inline cudaError_t clamp_ends(const LineLists& lists, int64_t count, cudaStream_t stream) {
  clamp_kernel<<<static_cast<unsigned>((count + 256) / 256), 256, 0, stream>>>(lists.tile_begin, count + 1,
                                                                               lists.tile_capacity);
  return cudaGetLastError();
}

}  // namespace tessera::attention::cuda
