// Turns a failed CUDA call into Error: what was called and what the runtime said.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "tessera/base/error.h"

namespace tessera::attention::cuda {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  bool absent = status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver ||
                status == cudaErrorNoKernelImageForDevice || status == cudaErrorStubLibrary;
  throw Error(
      absent ? ErrorCode::unsupported : ErrorCode::internal,
      std::string("CUDA: ") + what + " failed: " + cudaGetErrorString(status) +
          (absent ? "; this needs an NVIDIA GPU of compute capability 8.0 or later with a CUDA 13 driver" : ""));
}

}  // namespace tessera::attention::cuda
