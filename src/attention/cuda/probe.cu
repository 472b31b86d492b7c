// A warp keeps 16 query rows in registers and reads every key of its block's range through ldmatrix; four warps are the
// 64 rows of one query head. Diagonals: threads 2 t and 2 t + 1 of a head sum the weights w[r][(r - t) mod 64], of even
// and of odd r; those with r >= t lie on distance own(0) + t - first key of the step, the others 64 below, where the
// next step continues. So only the seam between two ranges is added by two blocks, to a zero, and the order does not
// matter.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "attention/cuda/mma_sync.cuh"
#include "attention/cuda/probe.h"
#include "attention/cuda/ptx.cuh"

namespace tessera::attention::cuda {
namespace {

enum class Pass { statistics, lines, spread, columns };

constexpr int kWarpRows = 16;
constexpr int kHeadWarps = kProbeRows / kWarpRows;
constexpr int kHeadThreads = 32 * kHeadWarps;
constexpr int kWeightPitch = kProbeKeys + 8;

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

// Where this thread stands.
struct Place {
  int head;  // query head
  int slot;  // head within the block
  int part;  // which 16 of the 64 rows its warp has
  int lane;
  int in_head;  // thread within those of the head
  bool active;  // the head exists
  int kv_head;
  int split;
};

template <Pass kPass>
__device__ __forceinline__ Place find_place(const Probe& probe) {
  Place at;
  const int thread = static_cast<int>(threadIdx.x);
  const int group = probe.query_heads / probe.kv_heads;
  const int per_block = static_cast<int>(blockDim.x) / kHeadThreads;
  const int blocks_per_group = (group + per_block - 1) / per_block;
  at.slot = thread / kHeadThreads;
  at.in_head = thread % kHeadThreads;
  at.part = at.in_head / 32;
  at.lane = thread % 32;
  at.split = static_cast<int>(blockIdx.x);
  at.kv_head = static_cast<int>(blockIdx.y) / blocks_per_group;
  const int member = static_cast<int>(blockIdx.y) % blocks_per_group * per_block + at.slot;
  at.active = member < group;
  at.head = at.kv_head * group + (at.active ? member : 0);
  return at;
}

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

template <int kHeadDim>
struct Queries {
  uint32_t fragments[kHeadDim / 16][4];
  int own[2];  // of rows lane / 4 + 8 i of the warp
};

template <int kHeadDim>
__device__ __forceinline__ void load_queries(Queries<kHeadDim>& queries, const Probe& probe, const Place& at) {
  const uint16_t* base = static_cast<const uint16_t*>(probe.queries) + at.head * probe.query_stride[1];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int slot = at.part * kWarpRows + i * 8 + at.lane / 4;
    const bool exists = slot < probe.row_count && at.active;
    queries.own[i] = exists ? probe.own[slot] : -1;
    const uint16_t* row = base + int64_t{probe.rows[slot]} * probe.query_stride[0] + at.lane % 4 * 2;
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      queries.fragments[step][i] = exists ? *reinterpret_cast<const uint32_t*>(row + step * 16) : 0u;
      queries.fragments[step][i + 2] = exists ? *reinterpret_cast<const uint32_t*>(row + step * 16 + 8) : 0u;
    }
  }
}

using Scores = float[8][4];  // [8 keys][row lane / 4 + 8 (i / 2), key lane % 4 * 2 + i % 2]

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

// 16 values per lane -> the totals of values 2 * (lane / 4) and the next one over the 8 lanes of equal lane % 4.
template <typename Combine>
__device__ __forceinline__ float2 fold(float (&values)[8][2], int lane, const Combine& combine) {
#pragma unroll
  for (int bit = 4; bit >= 1; bit /= 2) {
    const bool upper = (lane / 4 & bit) != 0;
#pragma unroll
    for (int n = 0; n < bit; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float send = upper ? values[n][e] : values[n + bit][e];
        const float keep = upper ? values[n + bit][e] : values[n][e];
        values[n][e] = combine(keep, __shfl_xor_sync(0xffffffffu, send, bit * 4));
      }
    }
  }
  return {values[0][0], values[0][1]};
}

// 16 values per lane -> those of keys 8 n + 2 * (lane % 4) + e, n = 2 * (lane / 4 % 4) and the next, over the four rows
// of the lane's group.
template <typename Combine>
__device__ __forceinline__ void fold_group(float (&values)[8][2], int lane, const Combine& combine) {
#pragma unroll
  for (int bit = 4; bit >= 2; bit /= 2) {
    const bool upper = (lane / 4 & bit / 2) != 0;
#pragma unroll
    for (int n = 0; n < bit; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float send = upper ? values[n][e] : values[n + bit][e];
        const float keep = upper ? values[n + bit][e] : values[n][e];
        values[n][e] = combine(keep, __shfl_xor_sync(0xffffffffu, send, bit * 2));
      }
    }
  }
}

template <int kHeadDim>
struct ProbeMemory {
  StepKeys<kHeadDim> keys[2];
  float normaliser[kProbeHeadsPerBlock][kProbeRows];
  float column_sum[kProbeHeadsPerBlock][kHeadWarps][kProbeKeys];
  // Spread: sums of the even and of the odd groups, and the even rows' largest.
  float group_sum[kProbeHeadsPerBlock][kHeadWarps][2][kProbeKeys];
  float group_top[kProbeHeadsPerBlock][kHeadWarps][kProbeKeys];
};
// The lines pass appends float weights[heads][kProbeRows][kWeightPitch].

// log2 of the sum of exponentials of each of the head's rows.
template <int kHeadDim>
__device__ __forceinline__ void merge_statistics(ProbeMemory<kHeadDim>& memory, const Probe& probe, const Place& at) {
  if (at.in_head >= kProbeRows) return;
  const float2* parts = reinterpret_cast<const float2*>(probe.partial) + int64_t{at.head} * probe.splits * kProbeRows;
  float top = -INFINITY;
  for (int s = 0; s < probe.splits; ++s) top = fmaxf(top, parts[s * kProbeRows + at.in_head].x);
  float sum = 0;
  for (int s = 0; s < probe.splits; ++s) {
    const float2 part = parts[s * kProbeRows + at.in_head];
    sum += part.y > 0 ? part.y * exp2f(part.x - top) : 0;
  }
  memory.normaliser[at.slot][at.in_head] = sum > 0 ? top + log2f(sum) : 0;
}

struct RowStatistics {
  float top[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};
};

__device__ __forceinline__ void observe(RowStatistics& rows, const Scores& scores, float scale) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float largest = -INFINITY;
#pragma unroll
    for (int n = 0; n < 8; ++n) largest = fmaxf(largest, fmaxf(scores[n][2 * i], scores[n][2 * i + 1]));
    const float top = fmaxf(rows.top[i], largest * scale);
    const float base = top == -INFINITY ? 0 : top;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      sum += ptx::exp2_approximate(fmaf(scores[n][2 * i], scale, -base)) +
             ptx::exp2_approximate(fmaf(scores[n][2 * i + 1], scale, -base));
    }
    rows.sum[i] = rows.sum[i] * ptx::exp2_approximate(rows.top[i] - base) + sum;
    rows.top[i] = top;
  }
}

__device__ __forceinline__ void store_statistics(const RowStatistics& rows, const Probe& probe, const Place& at) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float top = rows.top[i];
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    const float base = top == -INFINITY ? 0 : top;
    float sum = rows.sum[i] * exp2f(rows.top[i] - base);
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (at.lane % 4 != 0 || !at.active) continue;
    const int slot = at.part * kWarpRows + i * 8 + at.lane / 4;
    float2* to = reinterpret_cast<float2*>(probe.partial);
    to[(int64_t{at.head} * probe.splits + at.split) * kProbeRows + slot] = {top, sum};
  }
}

// Scores become weights.
__device__ __forceinline__ void weigh(Scores& scores, float scale, const float (&normaliser)[2]) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores[n][i] = ptx::exp2_approximate(fmaf(scores[n][i], scale, -normaliser[i / 2]));
    }
  }
}

// Of the warp's rows, into shared memory.
template <int kHeadDim>
__device__ __forceinline__ void sum_columns(ProbeMemory<kHeadDim>& memory, const Scores& weights, const Place& at) {
  float sums[8][2];
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) sums[n][e] = weights[n][e] + weights[n][e + 2];
  }
  // Lane l ends with keys 8 * (l / 4) + 2 * (l % 4) and the next: 2 l and 2 l + 1.
  const float2 sum = fold(sums, at.lane, [](float a, float b) { return a + b; });
  *reinterpret_cast<float2*>(&memory.column_sum[at.slot][at.part][2 * at.lane]) = sum;
}

// Lanes 0..15 have the rows of even groups, the others those of odd ones.
template <int kHeadDim>
__device__ __forceinline__ void sum_halves(ProbeMemory<kHeadDim>& memory, const Scores& weights, const Place& at) {
  float sums[8][2];
  float tops[8][2];
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      sums[n][e] = weights[n][e] + weights[n][e + 2];
      tops[n][e] = fmaxf(weights[n][e], weights[n][e + 2]);
    }
  }
  fold_group(sums, at.lane, [](float a, float b) { return a + b; });
  fold_group(tops, at.lane, [](float a, float b) { return fmaxf(a, b); });
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const int key = (2 * (at.lane / 4 % 4) + n) * 8 + at.lane % 4 * 2;
    *reinterpret_cast<float2*>(&memory.group_sum[at.slot][at.part][at.lane / 16][key]) = {sums[n][0], sums[n][1]};
    if (at.lane < 16) {
      *reinterpret_cast<float2*>(&memory.group_top[at.slot][at.part][key]) = {tops[n][0], tops[n][1]};
    }
  }
}

template <int kHeadDim, bool kHalves>
__device__ __forceinline__ void store_columns(const ProbeMemory<kHeadDim>& memory, const Probe& probe, const Place& at,
                                              int step) {
  const int k = at.in_head;
  const int key = step * kProbeKeys + k;
  if (!at.active || k >= kProbeKeys || key >= probe.key_rows) return;
  const int64_t to = int64_t{at.head} * probe.key_rows + key;
  if constexpr (kHalves) {
    const auto& sums = memory.group_sum[at.slot];
    const auto& tops = memory.group_top[at.slot];
    const float top = fmaxf(fmaxf(tops[0][k], tops[1][k]), fmaxf(tops[2][k], tops[3][k]));
    probe.column_mass[to] = (sums[0][1][k] + sums[1][1][k]) + (sums[2][1][k] + sums[3][1][k]);
    probe.column_gain[to] = (sums[0][0][k] + sums[1][0][k]) + (sums[2][0][k] + sums[3][0][k]) - top;
  } else {
    const auto& sums = memory.column_sum[at.slot];
    probe.column_mass[to] = (sums[0][k] + sums[1][k]) + (sums[2][k] + sums[3][k]);
  }
}

// Mass of each group of four rows; lanes 0..15 receive group 2 i of the warp, the others the next.
__device__ __forceinline__ void add_group_mass(float (&mass)[2], const Scores& weights) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float sum = 0;
#pragma unroll
    for (int n = 0; n < 8; ++n) sum += weights[n][2 * i] + weights[n][2 * i + 1];
#pragma unroll
    for (int step = 1; step <= 8; step *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    mass[i] += sum;
  }
}

__device__ __forceinline__ void store_group_mass(float (&mass)[2], const Probe& probe, const Place& at, int step) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int group = at.part * 4 + i * 2 + at.lane / 16;
    if (at.lane % 16 == 0 && at.active) {
      probe.tile_mass[(int64_t{at.head} * kProbeGroups + group) * probe.key_tiles() + step / 2] = mass[i];
    }
    mass[i] = 0;
  }
}

__device__ __forceinline__ void store_column_groups(const Probe& probe, const Scores& weights, const Place& at,
                                                    int step) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float sum = weights[n][i];
      sum += __shfl_xor_sync(0xffffffffu, sum, 4);
      sum += __shfl_xor_sync(0xffffffffu, sum, 8);
      if (at.lane / 4 % 4 != 0) continue;
      const int column = step * kProbeKeys + n * 8 + at.lane % 4 * 2 + i % 2;
      const int group = at.part * 4 + i / 2 * 2 + at.lane / 16;
      probe.column_groups[(int64_t{at.head} * probe.column_stride + column) * kProbeGroups + group] = sum;
    }
  }
}

// Scores of keys that a row does not see become -infinity.
template <Pass kPass>
__device__ __forceinline__ void hide(Scores& scores, const int (&own)[2], const Probe& probe, const Place& at,
                                     int step) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      int key = step * kProbeKeys + n * 8 + at.lane % 4 * 2 + e;
      if constexpr (kPass == Pass::columns) {
        key = key < probe.column_count[at.head] ? probe.columns[int64_t{at.head} * probe.column_stride + key]
                                                : 0x7fffffff;
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (key > own[i]) scores[n][2 * i + e] = -INFINITY;
      }
    }
  }
}

__device__ __forceinline__ void store_weights(float* head_weights, const Scores& weights, const Place& at) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = at.part * kWarpRows + i * 8 + at.lane / 4;
      *reinterpret_cast<float2*>(head_weights + row * kWeightPitch + n * 8 + at.lane % 4 * 2) = {weights[n][2 * i],
                                                                                                 weights[n][2 * i + 1]};
    }
  }
}

struct Diagonal {
  float here;   // distance own[0] + in_head / 2 - first key of the step
  float below;  // 64 less
};

__device__ __forceinline__ Diagonal sum_diagonal(const float* head_weights, int in_head) {
  Diagonal sum = {};
  const int t = in_head / 2;
#pragma unroll 16
  for (int r = in_head % 2; r < kProbeRows; r += 2) {
    const float weight = head_weights[r * kWeightPitch + ((r - t) & (kProbeKeys - 1))];
    sum.here += r >= t ? weight : 0;
    sum.below += r >= t ? 0 : weight;
  }
  sum.here += __shfl_xor_sync(0xffffffffu, sum.here, 1);
  sum.below += __shfl_xor_sync(0xffffffffu, sum.below, 1);
  return sum;
}

// At a seam two blocks add to a zero.
__device__ __forceinline__ void store_diagonal(const Probe& probe, const Place& at, int step, float mass, bool seam) {
  const int distance = probe.own[0] + at.in_head / 2 - step * kProbeKeys;
  if (!at.active || at.in_head % 2 != 0 || distance < 0 || distance >= probe.key_rows) return;
  float* to = probe.diagonal_mass + int64_t{at.head} * probe.key_rows + distance;
  if (seam) {
    atomicAdd(to, mass);
  } else {
    *to = mass;
  }
}

template <typename Element, int kHeadDim, Pass kPass>
__global__ void __launch_bounds__(kProbeHeadsPerBlock* kHeadThreads, 1)
    probe_kernel(const __grid_constant__ Probe probe) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& memory = *reinterpret_cast<ProbeMemory<kHeadDim>*>(shared_bytes);
  const Place at = find_place<kPass>(probe);
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
    merge_statistics(memory, probe, at);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      normaliser[i] = memory.normaliser[at.slot][at.part * kWarpRows + i * 8 + at.lane / 4];
    }
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
      sum_halves(memory, scores, at);
      add_group_mass(group_mass, scores);
      if (step % 2 == 1 || step + 1 == last) store_group_mass(group_mass, probe, at, step);
    } else {
      sum_columns(memory, scores, at);
      store_weights(head_weights, scores, at);
    }
    __syncthreads();
    store_columns<kHeadDim, kPass == Pass::spread>(memory, probe, at, step);
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
  cudaError_t status = launch_element<Pass::statistics>(probe, half_precision, stream);
  if (status != cudaSuccess) return status;
  if (kind == ProbeKind::spread) return launch_element<Pass::spread>(probe, half_precision, stream);
  status = cudaMemsetAsync(probe.diagonal_mass, 0,
                           sizeof(float) * probe.query_heads * static_cast<size_t>(probe.key_rows), stream);
  return status != cudaSuccess ? status : launch_element<Pass::lines>(probe, half_precision, stream);
}

int launch_column_groups(const Probe& probe, bool half_precision, void* stream) {
  return launch_element<Pass::columns>(probe, half_precision, static_cast<cudaStream_t>(stream));
}

}  // namespace tessera::attention::cuda
