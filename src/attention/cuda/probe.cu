// The probe on mma.sync, for every GPU from compute capability 8.0 on, and the masses of chosen columns everywhere.
//
// A warp reads every key of its block's range through ldmatrix. Diagonals: threads 2 t and 2 t + 1 of a head sum the
// weights w[r][(r - t) mod 64], of even and of odd r; those with r >= t lie on distance own(0) + t - first key of the
// step, the others 64 below, where the next step continues. So only the seam between two ranges is added by two blocks,
// to a zero, and the order does not matter.
#include "attention/cuda/mma_sync.cuh"
#include "attention/cuda/probe_parts.cuh"

namespace tessera::attention::cuda {
namespace {

__device__ __forceinline__ void load_matrices(uint32_t (&b)[4], const uint16_t* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(ptx::shared_address(row)));
}

// 16 bytes, zeros when `exists` is false.
__device__ __forceinline__ void copy_async(uint16_t* to, const uint16_t* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(ptx::shared_address(to)), "l"(from),
               "r"(exists ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ void copies_wait() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }

template <int kHeadDim>
struct StepKeys {
  uint16_t rows[kProbeKeys][kHeadDim + 8];  // 16 bytes of padding: rows fall into different banks
};

template <int kHeadDim, Pass kPass>
__device__ __forceinline__ void load_step(StepKeys<kHeadDim>& memory, const Probe& probe, const Place& at, int step) {
  constexpr int kChunks = kHeadDim / 8;
  const uint16_t* base = static_cast<const uint16_t*>(probe.keys) + at.kv_head * probe.key_stride[1];
  for (int i = static_cast<int>(threadIdx.x); i < kProbeKeys * kChunks; i += static_cast<int>(blockDim.x)) {
    const int r = i / kChunks;
    const int channel = i % kChunks * 8;
    int row = step * kProbeKeys + r;
    bool exists = row < probe.key_rows;
    if constexpr (kPass == Pass::columns) {
      exists = row < probe.column_count[at.head];
      row = exists ? probe.columns[int64_t{at.head} * probe.column_stride + row] : 0;
    }
    copy_async(&memory.rows[r][channel], base + (exists ? row : 0) * probe.key_stride[0] + channel, exists);
  }
  copies_commit();
}

template <typename Element, int kHeadDim>
__device__ __forceinline__ void multiply_step(Scores& scores, const Queries<kHeadDim>& queries,
                                              const StepKeys<kHeadDim>& memory, int lane) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[n][i] = 0;
  }
  const int row = lane / 16 * 8 + lane % 8;
  const int channel = lane / 8 % 2 * 8;
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
#pragma unroll
    for (int n = 0; n < 8; n += 2) {
      uint32_t b[4];
      load_matrices(b, &memory.rows[n * 8 + row][step * 16 + channel]);
      multiply<Element>(scores[n], queries.fragments[step], b[0], b[1]);
      multiply<Element>(scores[n + 1], queries.fragments[step], b[2], b[3]);
    }
  }
}

template <int kHeadDim>
struct ProbeMemory {
  StepKeys<kHeadDim> keys[2];
  float normaliser[kProbeHeadsPerBlock][kProbeRows];
  HeadSums sums[kProbeHeadsPerBlock];
};
// The lines pass appends float weights[heads][kProbeRows][kWeightPitch].

template <typename Element, int kHeadDim, Pass kPass>
__global__ void __launch_bounds__(kProbeHeadsPerBlock* kHeadThreads, 1)
    probe_kernel(const __grid_constant__ Probe probe) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& memory = *reinterpret_cast<ProbeMemory<kHeadDim>*>(shared_bytes);
  const Place at = find_place(probe, static_cast<int>(blockDim.x) / kHeadThreads);
  float* head_weights =
      reinterpret_cast<float*>(shared_bytes + sizeof(ProbeMemory<kHeadDim>)) + at.slot * kProbeRows * kWeightPitch;
  const int rows = kPass == Pass::columns ? probe.column_count[at.head] : probe.key_rows;
  const int first = at.split * probe.range_steps;
  const int last = min(first + probe.range_steps, (rows + kProbeKeys - 1) / kProbeKeys);
  if (first >= last) return;

  Queries<kHeadDim> queries;
  load_queries(queries, probe, at);
  load_step<kHeadDim, kPass>(memory.keys[0], probe, at, first);
  float normaliser[2] = {};
  if constexpr (kPass != Pass::statistics) {
    merge_statistics(memory.normaliser[at.slot], probe, at);
    __syncthreads();
    load_normaliser(normaliser, memory.normaliser[at.slot], at);
  }
  RowStatistics statistics;
  float group_mass[2] = {};
  float carried = 0;  // what the step before left for the diagonals of this one
  const float scale = probe.scale * 1.4426950408889634f;

  for (int step = first; step < last; ++step) {
    const int stage = (step - first) % 2;
    copies_wait();
    __syncthreads();
    if (step + 1 < last) load_step<kHeadDim, kPass>(memory.keys[1 - stage], probe, at, step + 1);
    Scores scores;
    multiply_step<Element>(scores, queries, memory.keys[stage], at.lane);
    const bool hidden = kPass == Pass::columns || (step + 1) * kProbeKeys - 1 > min(queries.own[0], queries.own[1]);
    if (hidden) hide<kPass>(scores, queries.own, probe, at, step);
    if constexpr (kPass == Pass::statistics) {
      observe(statistics, scores, scale);
      continue;
    }
    weigh(scores, scale, normaliser);
    if constexpr (kPass == Pass::columns) {
      store_column_groups(probe, scores, at, step);
      continue;
    }
    if constexpr (kPass == Pass::spread) {
      sum_halves(memory.sums[at.slot], scores, at);
      add_group_mass(group_mass, scores);
      if (step % 2 == 1 || step + 1 == last) store_group_mass(group_mass, probe, at, step);
    } else {
      sum_columns(memory.sums[at.slot], scores, at);
      store_weights(head_weights, scores, at);
    }
    __syncthreads();
    store_columns<kPass == Pass::spread>(memory.sums[at.slot], probe, at, step);
    if constexpr (kPass == Pass::lines) {
      const Diagonal sum = sum_diagonal(head_weights, at.in_head);
      store_diagonal(probe, at, step, carried + sum.here, step == first);
      carried = sum.below;
    }
  }
  if constexpr (kPass == Pass::statistics) store_statistics(statistics, probe, at);
  if constexpr (kPass == Pass::lines) store_diagonal(probe, at, last, carried, true);
}

template <typename Element, int kHeadDim, Pass kPass>
cudaError_t launch_pass(const Probe& probe, cudaStream_t stream) {
  const int group = probe.query_heads / probe.kv_heads;
  const int heads = kPass == Pass::columns ? 1 : min(group, kProbeHeadsPerBlock);
  size_t bytes = sizeof(ProbeMemory<kHeadDim>);
  if (kPass == Pass::lines) bytes += sizeof(float) * heads * kProbeRows * kWeightPitch;
  auto* kernel = probe_kernel<Element, kHeadDim, kPass>;
  cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (status != cudaSuccess) return status;
  const int blocks_per_group = (group + heads - 1) / heads;
  dim3 grid(probe.splits, probe.kv_heads * blocks_per_group);
  Probe told = probe;
  if (kPass == Pass::columns) {
    told.range_steps = 4;
    grid.x = (probe.column_stride / kProbeKeys + told.range_steps - 1) / told.range_steps;
  }
  kernel<<<grid, heads * kHeadThreads, bytes, stream>>>(told);
  return cudaGetLastError();
}

template <typename Element, Pass kPass>
cudaError_t launch_head_dim(const Probe& probe, cudaStream_t stream) {
  switch (probe.head_dim) {
    case 64:
      return launch_pass<Element, 64, kPass>(probe, stream);
    case 96:
      return launch_pass<Element, 96, kPass>(probe, stream);
    case 128:
      return launch_pass<Element, 128, kPass>(probe, stream);
    case 256:
      return launch_pass<Element, 256, kPass>(probe, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <Pass kPass>
cudaError_t launch_element(const Probe& probe, bool half_precision, cudaStream_t stream) {
  return half_precision ? launch_head_dim<__half, kPass>(probe, stream)
                        : launch_head_dim<__nv_bfloat16, kPass>(probe, stream);
}

}  // namespace

int launch_probe(const Probe& probe, ProbeKind kind, bool half_precision, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  return launch_passes(probe, kind, stream,
                       [&]<Pass kPass>() { return launch_element<kPass>(probe, half_precision, stream); });
}

int launch_column_groups(const Probe& probe, bool half_precision, void* stream) {
  return launch_element<Pass::columns>(probe, half_precision, static_cast<cudaStream_t>(stream));
}

}  // namespace tessera::attention::cuda
