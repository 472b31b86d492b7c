#include "attention/cuda/exact_probe.h"

#include <cuda_runtime_api.h>

namespace tessera::attention::cuda {
namespace {

// Grid (ranges of keys, query heads).
template <int kHeadDim, ExactPass kPass>
__global__ void __launch_bounds__(kExactThreads)
    exact_kernel(const __grid_constant__ Probe probe, bool half_precision) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<ExactShared<kHeadDim>*>(shared_bytes);
  const auto head = static_cast<int32_t>(blockIdx.y);
  const int32_t keys = kPass == ExactPass::columns ? probe.column_count[head] : probe.key_rows;
  const int32_t first = static_cast<int32_t>(blockIdx.x) * probe.range_steps;
  const int32_t last = min(first + probe.range_steps, (keys + kProbeKeys - 1) / kProbeKeys);
  if (first >= last) return;
  ExactProbe<kHeadDim, kPass>{ExactBlock{}, probe, exact_rows(probe), {head, first, last, half_precision}, shared}
      .run();
}

__global__ void diagonals_kernel(float* masses, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) finish_diagonal(masses, i);
}

template <int kHeadDim, ExactPass kPass>
cudaError_t launch_pass(const Probe& probe, bool half_precision, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(ExactShared<kHeadDim>));
  auto* kernel = exact_kernel<kHeadDim, kPass>;
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (status != cudaSuccess) return status;
  Probe told = probe;
  dim3 grid(static_cast<unsigned>(probe.splits), static_cast<unsigned>(probe.query_heads));
  if (kPass == ExactPass::columns) {
    told.range_steps = kColumnSteps;
    grid.x = static_cast<unsigned>((probe.column_stride / kProbeKeys + kColumnSteps - 1) / kColumnSteps);
  }
  kernel<<<grid, kExactThreads, kBytes, stream>>>(told, half_precision);
  return cudaGetLastError();
}

template <ExactPass kPass>
cudaError_t launch(const Probe& probe, bool half_precision, cudaStream_t stream) {
  switch (probe.head_dim) {
    case 64:
      return launch_pass<64, kPass>(probe, half_precision, stream);
    case 96:
      return launch_pass<96, kPass>(probe, half_precision, stream);
    case 128:
      return launch_pass<128, kPass>(probe, half_precision, stream);
    case 256:
      return launch_pass<256, kPass>(probe, half_precision, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

int launch_exact_probe(const Probe& probe, ProbeKind kind, bool half_precision, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  cudaError_t status = cudaMemsetAsync(probe.partial, 0, static_cast<std::size_t>(exact_row_bytes(probe)), stream);
  if (status == cudaSuccess) status = launch<ExactPass::largest>(probe, half_precision, stream);
  if (status == cudaSuccess) status = launch<ExactPass::sum>(probe, half_precision, stream);
  if (status != cudaSuccess) return status;
  if (kind == ProbeKind::spread) return launch<ExactPass::spread>(probe, half_precision, stream);
  const int64_t masses = int64_t{probe.query_heads} * probe.key_rows;
  status = cudaMemsetAsync(probe.diagonal_mass, 0, sizeof(float) * static_cast<std::size_t>(masses), stream);
  if (status == cudaSuccess) status = launch<ExactPass::lines>(probe, half_precision, stream);
  if (status != cudaSuccess) return status;
  diagonals_kernel<<<static_cast<unsigned>((masses + 255) / 256), 256, 0, stream>>>(probe.diagonal_mass, masses);
  return cudaGetLastError();
}

int launch_exact_column_groups(const Probe& probe, bool half_precision, void* stream) {
  return launch<ExactPass::columns>(probe, half_precision, static_cast<cudaStream_t>(stream));
}

}  // namespace tessera::attention::cuda
