// mma.sync m16n8k16: 8 warps of 16 query rows, keys and values in groups of 32 rows through shared memory. One block
// per query tile and head; every pair is masked by comparing positions. Correct first: no pipeline, no splitting of
// lists.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <climits>

#include "attention/cuda/fallback_launch.h"
#include "attention/cuda/mma_sync.cuh"
#include "attention/cuda/ptx.cuh"

namespace tessera::attention::cuda {
namespace {

constexpr int kFallbackThreads = 256;
constexpr int kGroup = 32;  // key rows per step

template <int kHeadDim>
struct GroupMemory {
  static constexpr int kPitch = kHeadDim + 8;  // 16 bytes of padding: rows fall into different banks
  uint16_t keys[kGroup][kPitch];
  uint16_t values[kGroup][kPitch];
  int32_t positions[kGroup];  // INT_MAX: not computed
};

template <typename Element, int kHeadDim>
struct FallbackState {
  uint32_t queries[kHeadDim / 16][4];
  float output[kHeadDim / 8][4];
  float maximum[2];
  float sum[2];
};

template <typename Element, int kHeadDim>
__device__ __forceinline__ void load_query_fragments(FallbackState<Element, kHeadDim>& state, const Problem& problem,
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

// Where the rows of a group come from.
struct GroupSource {
  const int32_t* columns;  // null: rows first, first + 1, ...
  const uint32_t* keep;    // bit per column
  int first;
  int count;  // rows of the group that exist
};

template <int kHeadDim>
__device__ __forceinline__ void load_group(GroupMemory<kHeadDim>& memory, const Problem& problem,
                                           const SequenceRange& range, int kv_head, const GroupSource& source) {
  constexpr int kChunks = kHeadDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kGroup * kChunks; i += kFallbackThreads) {
    int r = i / kChunks;
    int channel = i % kChunks * 8;
    uint4 key = {};
    uint4 value = {};
    int32_t position = INT_MAX;
    if (r < source.count) {
      int index = source.first + r;
      bool kept = !source.columns || (source.keep[index / 32] >> (index % 32) & 1);
      int row = source.columns ? source.columns[index] : index;
      if (kept) {
        position = row;
        int64_t at = int64_t{range.key_begin} + row;
        key = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(problem.keys) + at * problem.key_stride[0] +
                                              kv_head * problem.key_stride[1] + channel);
        value =
            *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(problem.values) +
                                            at * problem.value_stride[0] + kv_head * problem.value_stride[1] + channel);
      }
    }
    *reinterpret_cast<uint4*>(&memory.keys[r][channel]) = key;
    *reinterpret_cast<uint4*>(&memory.values[r][channel]) = value;
    if (channel == 0) memory.positions[r] = position;
  }
}

template <typename Element, int kHeadDim>
__device__ __forceinline__ void attend_group(FallbackState<Element, kHeadDim>& state,
                                             const GroupMemory<kHeadDim>& memory, float scale, int position) {
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
      bool seen = memory.positions[n * 8 + lane % 4 * 2 + i % 2] <= position + i / 2 * 8;
      scores[n][i] = seen ? scores[n][i] * scale : -INFINITY;
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

template <typename Element, int kHeadDim>
__device__ __forceinline__ void store_rows(const FallbackState<Element, kHeadDim>& state, const Problem& problem,
                                           const QueryTile& tile, int head, int row) {
  int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = state.sum[half];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    int r = row + half * 8;
    if (r >= tile.rows) continue;
    float factor = sum > 0 ? 1 / sum : 0;
    int64_t at = int64_t{tile.first_row} + r;
    if (lane % 4 == 0) {
      problem.lse[at * problem.lse_stride + head] =
          sum > 0 ? state.maximum[half] * 0.6931471805599453f + logf(sum) : -INFINITY;
    }
    Element* out = static_cast<Element*>(problem.out) + at * problem.out_stride[0] + head * problem.out_stride[1];
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      *reinterpret_cast<uint32_t*>(out + n * 8 + lane % 4 * 2) =
          ptx::pack<Element>(state.output[n][2 * half] * factor, state.output[n][2 * half + 1] * factor);
    }
  }
}

template <typename Element, int kHeadDim, bool kList>
__global__ void __launch_bounds__(kFallbackThreads, 1)
    fallback_attention(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work) {
  __shared__ alignas(16) GroupMemory<kHeadDim> memory;
  int tile_index = problem.query_tiles - 1 - static_cast<int>(blockIdx.x);  // longest first
  int head = static_cast<int>(blockIdx.y);
  QueryTile tile = query_tile(problem, tile_index);
  const SequenceRange& range = problem.sequence[tile.sequence];
  int kv_head = head / (problem.query_heads / problem.kv_heads);
  int row = static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
  float scale = problem.scale * 1.4426950408889634f;

  FallbackState<Element, kHeadDim> state = {};
  state.maximum[0] = state.maximum[1] = -INFINITY;
  load_query_fragments(state, problem, tile, head, row);

  auto visit = [&](const GroupSource& source) {
    __syncthreads();
    load_group(memory, problem, range, kv_head, source);
    __syncthreads();
    attend_group(state, memory, scale, tile.position + row);
  };
  auto visit_rows = [&](int first, int rows) {
    for (int begin = first; begin < min(first + rows, range.key_rows); begin += kGroup) {
      visit({nullptr, nullptr, begin, min(kGroup, min(first + rows, range.key_rows) - begin)});
    }
  };
  if constexpr (kList) {
    if (!lists_fit(problem, work)) return;
    int list = list_of(problem, work.list_heads, head * problem.query_tiles + tile_index);
    for (int i = work.tile_begin[list]; i < work.tile_begin[list + 1]; ++i) {
      visit_rows(static_cast<int>(work.tiles[i] & kTileIndex) * work.key_tile, work.key_tile);
    }
    if (work.column_cut) {
      int owner = tile.sequence * work.list_heads + list / problem.query_tiles;
      const int32_t* columns = work.columns + int64_t{owner} * work.column_stride;
      const uint32_t* keep = work.column_keep + int64_t{list} * (work.column_stride / 32);
      int cut = work.column_cut[list];
      for (int begin = 0; begin < cut; begin += kGroup) visit({columns, keep, begin, min(kGroup, cut - begin)});
    }
  } else {
    visit_rows(0, tile.position + tile.rows);
  }
  store_rows(state, problem, tile, head, row);
}

template <typename Element, int kHeadDim>
cudaError_t launch_head_dim(const FallbackLaunch& launch) {
  dim3 grid(launch.problem.query_tiles, launch.problem.query_heads);
  if (launch.list) {
    fallback_attention<Element, kHeadDim, true>
        <<<grid, kFallbackThreads, 0, launch.stream>>>(launch.problem, launch.work);
  } else {
    fallback_attention<Element, kHeadDim, false>
        <<<grid, kFallbackThreads, 0, launch.stream>>>(launch.problem, launch.work);
  }
  return cudaGetLastError();
}

template <typename Element>
cudaError_t launch_element(const FallbackLaunch& launch) {
  switch (launch.problem.head_dim) {
    case 64:
      return launch_head_dim<Element, 64>(launch);
    case 96:
      return launch_head_dim<Element, 96>(launch);
    case 128:
      return launch_head_dim<Element, 128>(launch);
    case 256:
      return launch_head_dim<Element, 256>(launch);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t launch_fallback(const FallbackLaunch& launch) {
  return launch.half_precision ? launch_element<__half>(launch) : launch_element<__nv_bfloat16>(launch);
}

}  // namespace tessera::attention::cuda
