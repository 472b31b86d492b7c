#include "attention/cuda/line_choice_launch.h"
#include "attention/cuda/team_launch.cuh"

namespace tessera::attention::cuda {
namespace {

template <int kBlocks>
__global__ void __launch_bounds__(kSearchThreads)
    columns_kernel(const __grid_constant__ LineChoice choice, bool again) {
  __shared__ ChoiceShared shared;
  choose_columns(Block<kSearchThreads, kBlocks>{}, choice_of_head(choice, blockIdx.x / kBlocks), again, shared);
}

template <int kBlocks>
__global__ void __launch_bounds__(kSearchThreads) bands_kernel(const __grid_constant__ LineChoice choice) {
  __shared__ ChoiceShared shared;
  choose_bands(Block<kSearchThreads, kBlocks>{}, choice_of_head(choice, blockIdx.x / kBlocks), shared);
}

}  // namespace

int launch_choose_columns(const LineChoice& choice, int32_t heads, bool again, void* stream) {
  const TeamLaunch launch{.teams = heads, .stream = static_cast<cudaStream_t>(stream)};
  return launch_team(
      launch, [](auto blocks) { return columns_kernel<blocks()>; }, choice, again);
}

int launch_choose_bands(const LineChoice& choice, int32_t heads, void* stream) {
  const TeamLaunch launch{.teams = heads, .stream = static_cast<cudaStream_t>(stream)};
  return launch_team(
      launch, [](auto blocks) { return bands_kernel<blocks()>; }, choice);
}

}  // namespace tessera::attention::cuda
