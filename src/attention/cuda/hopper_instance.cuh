// Included by the file of one head dimension.
#pragma once

#include "attention/cuda/hopper_kernel.cuh"
#include "attention/cuda/hopper_launch.h"

namespace tessera::attention::cuda {

template <typename Element, int kHeadDim, int kKeyTile, bool kList>
cudaError_t launch_instance(const HopperLaunch& launch) {
  auto* kernel = hopper_attention<Element, kHeadDim, kKeyTile, kList>;
  constexpr int kBytes = hopper_shared_bytes<kHeadDim, kKeyTile>();
  cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (status != cudaSuccess) return status;
  kernel<<<launch.blocks, kHopperThreads, kBytes, launch.stream>>>(launch.problem, launch.work, *launch.maps,
                                                                   launch.next_item);
  return cudaGetLastError();
}

template <typename Element, int kHeadDim>
cudaError_t launch_element(const HopperLaunch& launch) {
  if (!launch.list) return launch_instance<Element, kHeadDim, dense_key_tile(kHeadDim), false>(launch);
  if constexpr (dense_key_tile(kHeadDim) == 128) {
    if (launch.work.bands) return launch_instance<Element, kHeadDim, kBandTile, true>(launch);
    if (launch.work.key_tile == 128) return launch_instance<Element, kHeadDim, 128, true>(launch);
  }
  return launch_instance<Element, kHeadDim, 64, true>(launch);
}

template <int kHeadDim>
cudaError_t launch_hopper(const HopperLaunch& launch) {
  return launch.half_precision ? launch_element<__half, kHeadDim>(launch)
                               : launch_element<__nv_bfloat16, kHeadDim>(launch);
}

}  // namespace tessera::attention::cuda
