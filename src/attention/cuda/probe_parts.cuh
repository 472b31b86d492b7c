// What the kernels of the probe are made of. A warp keeps 16 query rows in registers; four warps are the 64 rows of one
// query head. Scores lie in a warp's registers as mma.m16n8k16 and wgmma.m64nNk16 leave them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "attention/cuda/probe.h"
#include "attention/cuda/ptx.cuh"

namespace tessera::attention::cuda {

enum class Pass { statistics, lines, spread, columns };

constexpr int kWarpRows = 16;
constexpr int kHeadWarps = kProbeRows / kWarpRows;
constexpr int kHeadThreads = 32 * kHeadWarps;
constexpr int kWeightPitch = kProbeKeys + 8;

// Where this thread stands.
struct Place {
  int head;   // query head
  int slot;   // head within the block
  int heads;  // of a block
  int part;   // which 16 of the 64 rows its warp has
  int lane;
  int in_head;  // thread within those of the head
  bool active;  // the head exists
  int kv_head;
  int split;
};

// heads: query heads per block; further threads get slot `heads`.
__device__ __forceinline__ Place find_place(const Probe& probe, int heads) {
  Place at;
  at.heads = heads;
  const int thread = static_cast<int>(threadIdx.x);
  const int group = probe.query_heads / probe.kv_heads;
  const int blocks_per_group = (group + heads - 1) / heads;
  at.slot = thread / kHeadThreads;
  at.in_head = thread % kHeadThreads;
  at.part = at.in_head / 32;
  at.lane = thread % 32;
  at.split = static_cast<int>(blockIdx.x);
  at.kv_head = static_cast<int>(blockIdx.y) / blocks_per_group;
  const int member = static_cast<int>(blockIdx.y) % blocks_per_group * heads + at.slot;
  at.active = member < group;
  at.head = at.kv_head * group + (at.active ? member : 0);
  return at;
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

// One step of a fold between lanes `distance` apart: those that are `upper` keep values[bit ..], the others values[0
// ..], of which there are `bit`; both end in values[0 ..].
template <typename Combine>
__device__ __forceinline__ void fold_step(float (&values)[8][2], int bit, bool upper, int distance,
                                          const Combine& combine) {
#pragma unroll
  for (int n = 0; n < bit; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float send = upper ? values[n][e] : values[n + bit][e];
      const float keep = upper ? values[n + bit][e] : values[n][e];
      values[n][e] = combine(keep, __shfl_xor_sync(0xffffffffu, send, distance));
    }
  }
}

// 16 values per lane -> the totals of values 2 * (lane / 4) and the next one over the 8 lanes of equal lane % 4.
template <typename Combine>
__device__ __forceinline__ float2 fold(float (&values)[8][2], int lane, const Combine& combine) {
#pragma unroll
  for (int bit = 4; bit >= 1; bit /= 2) fold_step(values, bit, (lane / 4 & bit) != 0, bit * 4, combine);
  return {values[0][0], values[0][1]};
}

// 16 values per lane -> those of keys 8 n + 2 * (lane % 4) + e, n = 2 * (lane / 4 % 4) and the next, over the four rows
// of the lane's group.
template <typename Combine>
__device__ __forceinline__ void fold_group(float (&values)[8][2], int lane, const Combine& combine) {
#pragma unroll
  for (int bit = 4; bit >= 2; bit /= 2) fold_step(values, bit, (lane / 4 & bit / 2) != 0, bit * 2, combine);
}

// Of one head and step, warp by warp. Lines: [0] sums over all rows. Spread: sums of the even and of the odd groups,
// and the even rows' largest.
struct HeadSums {
  float sum[kHeadWarps][2][kProbeKeys];
  float top[kHeadWarps][kProbeKeys];
};

// log2 of the sum of exponentials of each of the head's rows.
__device__ __forceinline__ void merge_statistics(float (&normaliser)[kProbeRows], const Probe& probe, const Place& at) {
  if (at.in_head >= kProbeRows) return;
  const float2* parts = reinterpret_cast<const float2*>(probe.partial) + int64_t{at.head} * probe.splits * kProbeRows;
  float top = -INFINITY;
  for (int s = 0; s < probe.splits; ++s) top = fmaxf(top, parts[s * kProbeRows + at.in_head].x);
  float sum = 0;
  for (int s = 0; s < probe.splits; ++s) {
    const float2 part = parts[s * kProbeRows + at.in_head];
    sum += part.y > 0 ? part.y * exp2f(part.x - top) : 0;
  }
  normaliser[at.in_head] = sum > 0 ? top + log2f(sum) : 0;
}

// Of the thread's rows, once merge_statistics() of the whole head has been met.
__device__ __forceinline__ void load_normaliser(float (&normaliser)[2], const float (&head)[kProbeRows],
                                                const Place& at) {
#pragma unroll
  for (int i = 0; i < 2; ++i) normaliser[i] = head[at.part * kWarpRows + i * 8 + at.lane / 4];
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
__device__ __forceinline__ void sum_columns(HeadSums& memory, const Scores& weights, const Place& at) {
  float sums[8][2];
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) sums[n][e] = weights[n][e] + weights[n][e + 2];
  }
  // Lane l ends with keys 8 * (l / 4) + 2 * (l % 4) and the next: 2 l and 2 l + 1.
  const float2 sum = fold(sums, at.lane, [](float a, float b) { return a + b; });
  *reinterpret_cast<float2*>(&memory.sum[at.part][0][2 * at.lane]) = sum;
}

// Lanes 0..15 have the rows of even groups, the others those of odd ones.
__device__ __forceinline__ void sum_halves(HeadSums& memory, const Scores& weights, const Place& at) {
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
    *reinterpret_cast<float2*>(&memory.sum[at.part][at.lane / 16][key]) = {sums[n][0], sums[n][1]};
    if (at.lane < 16) {
      *reinterpret_cast<float2*>(&memory.top[at.part][key]) = {tops[n][0], tops[n][1]};
    }
  }
}

// Of a warp whose rows see none of the keys.
__device__ __forceinline__ void clear_sums(HeadSums& memory, const Place& at) {
  const float2 none = {0, 0};
  *reinterpret_cast<float2*>(&memory.sum[at.part][0][2 * at.lane]) = none;
  *reinterpret_cast<float2*>(&memory.sum[at.part][1][2 * at.lane]) = none;
  *reinterpret_cast<float2*>(&memory.top[at.part][2 * at.lane]) = none;
}

template <bool kHalves>
__device__ __forceinline__ void store_columns(const HeadSums& memory, const Probe& probe, const Place& at, int step) {
  const int k = at.in_head;
  const int key = step * kProbeKeys + k;
  if (!at.active || k >= kProbeKeys || key >= probe.key_rows) return;
  const int64_t to = int64_t{at.head} * probe.key_rows + key;
  if constexpr (kHalves) {
    const auto& sums = memory.sum;
    const auto& tops = memory.top;
    const float top = fmaxf(fmaxf(tops[0][k], tops[1][k]), fmaxf(tops[2][k], tops[3][k]));
    probe.column_mass[to] = (sums[0][1][k] + sums[1][1][k]) + (sums[2][1][k] + sums[3][1][k]);
    probe.column_gain[to] = (sums[0][0][k] + sums[1][0][k]) + (sums[2][0][k] + sums[3][0][k]) - top;
  } else {
    const auto& sums = memory.sum;
    probe.column_mass[to] = (sums[0][0][k] + sums[1][0][k]) + (sums[2][0][k] + sums[3][0][k]);
  }
}

// What a lane sees of the masses of the groups of its rows lane / 4 + 8 i.
__device__ __forceinline__ void add_group_mass(float (&mass)[2], const Scores& weights) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int n = 0; n < 8; ++n) mass[i] += weights[n][2 * i] + weights[n][2 * i + 1];
  }
}

// Of each group of four rows; lanes 0..15 have group 2 i of the warp, the others the next.
__device__ __forceinline__ void store_group_mass(float (&mass)[2], const Probe& probe, const Place& at, int step) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int lanes = 1; lanes <= 8; lanes *= 2) mass[i] += __shfl_xor_sync(0xffffffffu, mass[i], lanes);
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

// The passes of a kind of probe one after the other: launch.operator()<pass>() launches one.
template <typename Launch>
cudaError_t launch_passes(const Probe& probe, ProbeKind kind, cudaStream_t stream, const Launch& launch) {
  cudaError_t status = launch.template operator()<Pass::statistics>();
  if (status != cudaSuccess) return status;
  if (kind == ProbeKind::spread) return launch.template operator()<Pass::spread>();
  status = cudaMemsetAsync(probe.diagonal_mass, 0,
                           sizeof(float) * probe.query_heads * static_cast<size_t>(probe.key_rows), stream);
  return status != cudaSuccess ? status : launch.template operator()<Pass::lines>();
}

}  // namespace tessera::attention::cuda
