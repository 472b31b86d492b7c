// The mma.sync kernel for GPUs without wgmma: correct first.
#pragma once

#include <cuda_runtime_api.h>

#include "attention/cuda/problem.h"

namespace tessera::attention::cuda {

struct FallbackLaunch {
  Problem problem;
  ListWork work;  // of list launches; items and partial results are not used
  bool half_precision = false;
  bool list = false;
  cudaStream_t stream = nullptr;
};

cudaError_t launch_fallback(const FallbackLaunch& launch);

}  // namespace tessera::attention::cuda
