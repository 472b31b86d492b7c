// Turns a work list into balanced items, and its columns into contiguous keys and values. All on the device, without a
// host in between.
#pragma once

#include <cuda_runtime_api.h>

#include "attention/cuda/problem.h"

namespace tessera::attention::cuda {

constexpr int kMaxSlots = 1024;  // partial results of split lists

struct PlanLaunch {
  Problem problem;
  ListWork work;                          // `items` and `column_keep` are written
  WorkItem* items = nullptr;              // [rows + kMaxSlots]
  int* item_count = nullptr;              // [1]
  SplitRow* splits = nullptr;             // [kMaxSlots / 2]
  int* split_count = nullptr;             // [1]
  int* overflow = nullptr;                // [1] becomes 1 when the lists did not fit, else 0
  const int32_t* column_count = nullptr;  // [sequences * list_heads]
  uint32_t* column_keep = nullptr;
  uint16_t* column_keys = nullptr;  // [sequences * list_heads, column_stride, head_dim]
  uint16_t* column_values = nullptr;
  int blocks = 0;  // that will take the items
  cudaStream_t stream = nullptr;
};

// Items, heaviest first. Lists of more than split_limit() units become parts.
cudaError_t launch_plan(const PlanLaunch& launch);

// Where the walk of each item begins, after launch_plan(); otherwise it begins with the first unit.
cudaError_t launch_phases(const PlanLaunch& launch);

// False: keys and values of a head are few enough that their order in the L2 cache is not worth the plan: measured, at
// 64 MB the phases gain nothing, at 512 MB a quarter of the time.
inline bool phases_pay(const Problem& problem) {
  constexpr int64_t kCached = int64_t{100} << 20;  // bytes
  int64_t rows = 0;
  for (int32_t s = 0; s < problem.sequences; ++s) {
    rows = problem.sequence[s].key_rows > rows ? problem.sequence[s].key_rows : rows;
  }
  return rows * problem.head_dim * 4 > kCached;
}

// The verdict on `overflow` alone, where nothing is planned.
cudaError_t launch_fit(const PlanLaunch& launch);

// Bit per (list, column): inside the cut and not in a listed tile.
cudaError_t launch_column_keep(const PlanLaunch& launch);

// Copies the chosen rows of keys and values; rows beyond the count become zeros.
cudaError_t launch_column_gather(const PlanLaunch& launch);

// Merges the parts of split lists by their log-sum-exp, in order, into out and lse.
cudaError_t launch_combine(const PlanLaunch& launch, bool half_precision);

}  // namespace tessera::attention::cuda
