#include "attention/cuda/line_choice_launch.h"

namespace tessera::attention::cuda {
namespace {

__global__ void keys_kernel(const __grid_constant__ LineChoice all) {
  const auto column = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (column >= all.geometry.key_rows) return;
  const LineChoice choice = choice_of_head(all, blockIdx.y);
  write_column_key(choice, choice_scale(choice), column);
}

__global__ void __launch_bounds__(kSearchThreads)
    columns_kernel(const __grid_constant__ LineChoice choice, bool again) {
  __shared__ ChoiceShared shared;
  choose_columns(SearchBlock{}, choice_of_head(choice, blockIdx.x), again, shared);
}

__global__ void __launch_bounds__(kSearchThreads) bands_kernel(const __grid_constant__ LineChoice choice) {
  __shared__ ChoiceShared shared;
  choose_bands(SearchBlock{}, choice_of_head(choice, blockIdx.x), shared);
}

}  // namespace

int launch_choose_columns(const LineChoice& choice, int32_t heads, bool again, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  const auto head_count = static_cast<unsigned>(heads);
  if (!again) {
    const auto blocks = static_cast<unsigned>(choice.geometry.key_rows + 255) / 256;
    keys_kernel<<<dim3(blocks, head_count), 256, 0, stream>>>(choice);
  }
  columns_kernel<<<head_count, kSearchThreads, 0, stream>>>(choice, again);
  return cudaGetLastError();
}

int launch_choose_bands(const LineChoice& choice, int32_t heads, void* stream) {
  bands_kernel<<<static_cast<unsigned>(heads), kSearchThreads, 0, static_cast<cudaStream_t>(stream)>>>(choice);
  return cudaGetLastError();
}

}  // namespace tessera::attention::cuda
