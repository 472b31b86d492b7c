// Launches of line_choice.h for all heads; graph-capturable.
#pragma once

#include "attention/cuda/line_choice.h"

namespace tessera::attention::cuda {

// The pointers of `choice` are those of head 0. Each returns a cudaError_t as int.
// `again`: with what the columns chosen before leave.
int launch_choose_columns(const LineChoice& choice, int32_t heads, bool again, void* stream);
int launch_choose_bands(const LineChoice& choice, int32_t heads, void* stream);

}  // namespace tessera::attention::cuda
