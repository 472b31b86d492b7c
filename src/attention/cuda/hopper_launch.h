// Launches of the Hopper kernel, one function per head dimension; each file instantiates its own.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "attention/cuda/problem.h"

namespace tessera::attention::cuda {

struct HopperMaps;

struct HopperLaunch {
  Problem problem;
  ListWork work;  // of list launches
  const HopperMaps* maps = nullptr;
  int* next_item = nullptr;     // zero when the kernel starts
  int blocks = 0;               // multiprocessors
  bool half_precision = false;  // f16 instead of bf16
  bool list = false;
  cudaStream_t stream = nullptr;
};

// Rows of a dense launch's key tile.
constexpr int dense_key_tile(int head_dim) { return head_dim == 256 ? 64 : 128; }

cudaError_t launch_hopper_64(const HopperLaunch& launch);
cudaError_t launch_hopper_96(const HopperLaunch& launch);
cudaError_t launch_hopper_128(const HopperLaunch& launch);
cudaError_t launch_hopper_256(const HopperLaunch& launch);

}  // namespace tessera::attention::cuda
