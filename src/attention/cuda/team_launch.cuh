// Launches of kernels whose blocks work in teams: clusters where there are some, else single blocks.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "attention/cuda/radix_search.h"

namespace tessera::attention::cuda {

struct TeamLaunch {
  int32_t teams = 0;
  int32_t tasks = 1;  // of each; gridDim.y
  cudaStream_t stream = nullptr;
};

// Blocks of a team. Each fills a multiprocessor, so as many as there are multiprocessors for, but not four: clusters of
// four do not all find a place when there are 32 of them, and what waits for the first to end doubles the time.
inline int team_blocks(int32_t teams) { return teams <= 16 ? 8 : teams <= 32 ? 3 : 2; }

// kernel_of(std::integral_constant<int, blocks>): the kernel for teams of so many blocks.
template <int kBlocks, typename KernelOf, typename... Arguments>
cudaError_t launch_team_of(const TeamLaunch& launch, const KernelOf& kernel_of, const Arguments&... arguments) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {kBlocks, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(launch.teams) * kBlocks, static_cast<unsigned>(launch.tasks));
  config.blockDim = dim3(kSearchThreads);
  config.stream = launch.stream;
  config.attrs = &attribute;
  config.numAttrs = kBlocks > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel_of(std::integral_constant<int, kBlocks>{}), arguments...);
}

template <typename KernelOf, typename... Arguments>
cudaError_t launch_team(const TeamLaunch& launch, const KernelOf& kernel_of, const Arguments&... arguments) {
  int device = 0;
  int major = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status != cudaSuccess) return status;
  status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (status != cudaSuccess) return status;
  switch (major >= 9 ? team_blocks(launch.teams * launch.tasks) : 1) {
    case 1:
      return launch_team_of<1>(launch, kernel_of, arguments...);
    case 2:
      return launch_team_of<2>(launch, kernel_of, arguments...);
    case 3:
      return launch_team_of<3>(launch, kernel_of, arguments...);
    default:
      return launch_team_of<8>(launch, kernel_of, arguments...);
  }
}

}  // namespace tessera::attention::cuda
