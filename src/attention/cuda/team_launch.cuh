// Launches of kernels whose blocks work in teams: clusters where there are some, else single blocks.
#pragma once

#include <cuda_runtime.h>

#include "attention/cuda/radix_search.h"

namespace tessera::attention::cuda {

constexpr int kTeamBlocks = 4;

struct TeamLaunch {
  int32_t teams = 0;
  int32_t tasks = 1;  // of each; gridDim.y
  cudaStream_t stream = nullptr;
};

// together: with kTeamBlocks blocks a team; alone: with one.
template <typename... Parameters, typename... Arguments>
cudaError_t launch_team(const TeamLaunch& launch, void (*together)(Parameters...), void (*alone)(Parameters...),
                        const Arguments&... arguments) {
  int device = 0;
  int major = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status != cudaSuccess) return status;
  status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (status != cudaSuccess) return status;
  const unsigned blocks = major >= 9 ? kTeamBlocks : 1;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {blocks, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(launch.teams) * blocks, static_cast<unsigned>(launch.tasks));
  config.blockDim = dim3(kSearchThreads);
  config.stream = launch.stream;
  config.attrs = &attribute;
  config.numAttrs = blocks > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, blocks > 1 ? together : alone, arguments...);
}

}  // namespace tessera::attention::cuda
