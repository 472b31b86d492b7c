// Launches of the decode kernels. Return a cudaError_t; nothing waits for the device.
#pragma once

#include <cuda_runtime_api.h>

#include "attention/cuda/decode_problem.h"

namespace tessera::attention::cuda {

// With a selection: one launch where clusters suit, and then `selection` is written only if the caller keeps it; else
// page_scores and selection, then the results (two launches on sm_90). Without: partial results and their merge (two).
cudaError_t launch_decode(const DecodeProblem& problem, PageFormat format, cudaStream_t stream);

struct PageWriteProblem {
  const uint16_t* keys;
  const uint16_t* values;
  int64_t key_stride[3], value_stride[3];  // elements per sequence, row, head
  uint8_t* key_pool;
  uint8_t* value_pool;
  uint8_t* bounds;  // may be null
  const int32_t* table;
  const int32_t* lengths;
  const int32_t* first_page;  // may be null
  int32_t sequences, rows, kv_heads, head_dim, table_heads, table_stride;
};

cudaError_t launch_page_write(const PageWriteProblem& problem, PageFormat format, cudaStream_t stream);

}  // namespace tessera::attention::cuda
