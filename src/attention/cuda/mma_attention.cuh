// Attention of a block of 128 query rows on mma.sync m16n8k16, one group of 32 keys at a time, for the kernels that
// share it: the online softmax in registers, keys and values in shared memory.
#pragma once

#include "attention/cuda/mma_sync.cuh"
#include "attention/cuda/problem.h"
#include "attention/cuda/ptx.cuh"

namespace tessera::attention::cuda {

constexpr int kMmaThreads = 256;  // 8 warps of 16 query rows
constexpr int kGroup = 32;        // key rows per step

// Tag: what a key brings along for its scores.
template <int kHeadDim, typename Tag>
struct GroupMemory {
  static constexpr int kPitch = kHeadDim + 8;  // 16 bytes of padding: rows fall into different banks
  uint16_t keys[kGroup][kPitch];
  uint16_t values[kGroup][kPitch];
  Tag tags[kGroup];
};

template <typename Element, int kHeadDim>
struct MmaState {
  uint32_t queries[kHeadDim / 16][4];
  float output[kHeadDim / 8][4];
  float maximum[2];
  float sum[2];
};

template <typename Element, int kHeadDim>
__device__ __forceinline__ void load_query_fragments(MmaState<Element, kHeadDim>& state, const Problem& problem,
                                                     const QueryTile& tile, int head, int row) {
  const uint16_t* base = static_cast<const uint16_t*>(problem.queries) + int64_t{head} * problem.query_stride[1];
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int r = row + i % 2 * 8;
      int channel = step * 16 + i / 2 * 8 + static_cast<int>(threadIdx.x) % 4 * 2;
      state.queries[step][i] = r < tile.rows
                                   ? *reinterpret_cast<const uint32_t*>(
                                         base + (int64_t{tile.first_row} + r) * problem.query_stride[0] + channel)
                                   : 0u;
    }
  }
}

// The sum of the weights of the thread's row `half` * 8, which four lanes share.
template <typename Element, int kHeadDim>
__device__ __forceinline__ float row_sum(const MmaState<Element, kHeadDim>& state, int half) {
  float sum = state.sum[half];
  sum += __shfl_xor_sync(0xffffffffu, sum, 1);
  sum += __shfl_xor_sync(0xffffffffu, sum, 2);
  return sum;
}

// Scores of a group become weights, and its values join the output. score_of(product, tag, half): the score in bits of
// query row `half` * 8 of the thread; -infinity: not computed.
template <typename Element, int kHeadDim, typename Tag, typename ScoreOf>
__device__ __forceinline__ void attend_group(MmaState<Element, kHeadDim>& state,
                                             const GroupMemory<kHeadDim, Tag>& memory, const ScoreOf& score_of) {
  int lane = static_cast<int>(threadIdx.x) % 32;
  float scores[kGroup / 8][4] = {};
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
#pragma unroll
    for (int n = 0; n < kGroup / 8; ++n) {
      const uint16_t* key = &memory.keys[n * 8 + lane / 4][step * 16 + lane % 4 * 2];
      multiply<Element>(scores[n], state.queries[step], *reinterpret_cast<const uint32_t*>(key),
                        *reinterpret_cast<const uint32_t*>(key + 8));
    }
  }
#pragma unroll
  for (int n = 0; n < kGroup / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores[n][i] = score_of(scores[n][i], memory.tags[n * 8 + lane % 4 * 2 + i % 2], i / 2);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = state.maximum[half];
#pragma unroll
    for (int n = 0; n < kGroup / 8; ++n) top = fmaxf(top, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    float base = top == -INFINITY ? 0 : top;
    float rescale = ptx::exp2_approximate(state.maximum[half] - base);
    state.maximum[half] = top;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kGroup / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& score = scores[n][2 * half + e];
        score = ptx::exp2_approximate(score - base);
        sum += score;
      }
    }
    state.sum[half] = state.sum[half] * rescale + sum;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      state.output[n][2 * half] *= rescale;
      state.output[n][2 * half + 1] *= rescale;
    }
  }
#pragma unroll
  for (int step = 0; step < kGroup / 16; ++step) {
    uint32_t weights[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&pair)[4] = scores[2 * step + i / 2];
      weights[i] = ptx::pack<Element>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
    }
    int row = step * 16 + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      int channel = n * 8 + lane / 4;
      uint32_t low = memory.values[row][channel] | static_cast<uint32_t>(memory.values[row + 1][channel]) << 16;
      uint32_t high = memory.values[row + 8][channel] | static_cast<uint32_t>(memory.values[row + 9][channel]) << 16;
      multiply<Element>(state.output[n], weights, low, high);
    }
  }
}

}  // namespace tessera::attention::cuda
