#include "attention/cuda/correction.cuh"

namespace tessera::attention::cuda {
namespace {

template <typename Element, int kHeadDim>
cudaError_t launch_means(const CorrectionLaunch& launch) {
  constexpr int kBytes = static_cast<int>(sizeof(CorrectionMemory<kHeadDim>));
  auto* kernel = attend_means<Element, kHeadDim>;
  cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (status != cudaSuccess) return status;
  dim3 grid(static_cast<unsigned>(launch.problem.query_tiles), static_cast<unsigned>(launch.problem.query_heads));
  kernel<<<grid, kMmaThreads, kBytes, static_cast<cudaStream_t>(launch.stream)>>>(launch.problem, launch.work,
                                                                                  launch.pooled);
  return cudaGetLastError();
}

template <typename Element>
cudaError_t launch_element(const CorrectionLaunch& launch) {
  auto stream = static_cast<cudaStream_t>(launch.stream);
  auto rows = static_cast<unsigned>(launch.pooled.rows);
  auto threads = static_cast<unsigned>(launch.problem.head_dim / 2);
  pool_tiles<Element><<<dim3(rows, static_cast<unsigned>(launch.problem.kv_heads)), threads, 0, stream>>>(
      launch.problem, launch.work, launch.pooled);
  if (launch.pooled.levels == 2) {
    pool_groups<Element><<<dim3(rows, static_cast<unsigned>(launch.work.list_heads)), threads, 0, stream>>>(
        launch.problem, launch.work, launch.pooled);
  }
  switch (launch.problem.head_dim) {
    case 64:
      return launch_means<Element, 64>(launch);
    case 96:
      return launch_means<Element, 96>(launch);
    case 128:
      return launch_means<Element, 128>(launch);
    case 256:
      return launch_means<Element, 256>(launch);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

int launch_correction(const CorrectionLaunch& launch) {
  if (launch.pooled.rows == 0) return cudaSuccess;
  return launch.half_precision ? launch_element<__half>(launch) : launch_element<__nv_bfloat16>(launch);
}

}  // namespace tessera::attention::cuda
