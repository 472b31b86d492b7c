#include "attention/cuda/probe_hopper.cuh"
#include "attention/cuda/probe_hopper.h"

namespace tessera::attention::cuda {
namespace {

struct HopperProbeLaunch {
  const Probe& probe;
  const CUtensorMap& map;
  cudaStream_t stream;
};

template <typename Element, int kHeadDim, Pass kPass>
cudaError_t launch_pass(const HopperProbeLaunch& launch) {
  const Probe& probe = launch.probe;
  const int group = probe.query_heads / probe.kv_heads;
  const int heads = min(group, kProbeHeadsPerBlock);
  constexpr size_t bytes = sizeof(HopperProbeShared<kHeadDim, kPass>) + 1024;
  auto* kernel = hopper_probe_kernel<Element, kHeadDim, kPass>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (status != cudaSuccess) return status;
  const dim3 grid(probe.splits, probe.kv_heads * ((group + heads - 1) / heads));
  kernel<<<grid, heads * kHeadThreads + kProducerThreads, bytes, launch.stream>>>(probe, launch.map);
  return cudaGetLastError();
}

template <typename Element, Pass kPass>
cudaError_t launch_head_dim(const HopperProbeLaunch& launch) {
  switch (launch.probe.head_dim) {
    case 64:
      return launch_pass<Element, 64, kPass>(launch);
    case 96:
      return launch_pass<Element, 96, kPass>(launch);
    case 128:
      return launch_pass<Element, 128, kPass>(launch);
    default:
      return cudaErrorInvalidValue;
  }
}

template <Pass kPass>
cudaError_t launch_element(const HopperProbeLaunch& launch, bool half_precision) {
  return half_precision ? launch_head_dim<__half, kPass>(launch) : launch_head_dim<__nv_bfloat16, kPass>(launch);
}

}  // namespace

int launch_hopper_probe(const Probe& probe, const CUtensorMap& keys, ProbeKind kind, const ProbeFormat& format) {
  const auto stream = static_cast<cudaStream_t>(format.stream);
  const HopperProbeLaunch launch{probe, keys, stream};
  return launch_passes(probe, kind, stream,
                       [&]<Pass kPass>() { return launch_element<kPass>(launch, format.half_precision); });
}

}  // namespace tessera::attention::cuda
