// mma.sync m16n8k16: 8 warps of 16 query rows, keys and values in groups of 32 rows through shared memory. One block
// per query tile and head; every pair is masked by comparing positions. Correct first: no pipeline, no splitting of
// lists.
#include <climits>

#include "attention/cuda/fallback_launch.h"
#include "attention/cuda/mma_attention.cuh"

namespace tessera::attention::cuda {
namespace {

// Where the rows of a group come from.
struct GroupSource {
  const int32_t* columns;  // null: rows first, first + 1, ...
  const uint32_t* keep;    // bit per column
  int first;
  int count;  // rows of the group that exist
};

template <int kHeadDim>
__device__ __forceinline__ void load_group(GroupMemory<kHeadDim, int32_t>& memory, const Problem& problem,
                                           const SequenceRange& range, int kv_head, const GroupSource& source) {
  constexpr int kChunks = kHeadDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kGroup * kChunks; i += kMmaThreads) {
    int r = i / kChunks;
    int channel = i % kChunks * 8;
    uint4 key = {};
    uint4 value = {};
    int32_t position = INT_MAX;  // not computed
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
    if (channel == 0) memory.tags[r] = position;
  }
}

template <typename Element, int kHeadDim>
__device__ __forceinline__ void store_rows(const MmaState<Element, kHeadDim>& state, const Problem& problem,
                                           const QueryTile& tile, int head, int row) {
  int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = row_sum(state, half);
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
__global__ void __launch_bounds__(kMmaThreads, 1)
    fallback_attention(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work) {
  __shared__ alignas(16) GroupMemory<kHeadDim, int32_t> memory;
  int tile_index = problem.query_tiles - 1 - static_cast<int>(blockIdx.x);  // longest first
  int head = static_cast<int>(blockIdx.y);
  QueryTile tile = query_tile(problem, tile_index);
  const SequenceRange& range = problem.sequence[tile.sequence];
  int kv_head = head / (problem.query_heads / problem.kv_heads);
  int row = static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
  float scale = problem.scale * 1.4426950408889634f;

  MmaState<Element, kHeadDim> state = {};
  state.maximum[0] = state.maximum[1] = -INFINITY;
  load_query_fragments(state, problem, tile, head, row);

  auto visit = [&](const GroupSource& source) {
    __syncthreads();
    load_group(memory, problem, range, kv_head, source);
    __syncthreads();
    attend_group(state, memory, [&](float product, int32_t position, int half) {
      return position <= tile.position + row + half * 8 ? product * scale : -INFINITY;
    });
  };
  auto visit_rows = [&](int first, int rows) {
    for (int begin = first; begin < min(first + rows, range.key_rows); begin += kGroup) {
      visit({nullptr, nullptr, begin, min(kGroup, min(first + rows, range.key_rows) - begin)});
    }
  };
  if constexpr (kList) {
    if (!lists_fit(problem, work)) return;
    int list = list_of(problem, work.list_heads, head * problem.query_tiles + tile_index);
    for (int i = 0; i < listed_tiles(work, list); ++i) {
      if (work.bands) {
        int end = band_end(tile.position, work.bands[band_begin(problem, work, list, tile.sequence) + i]);
        int first = max(end - kBandTile + 1, 0);
        visit_rows(first, end - first + 1);
      } else {
        visit_rows(static_cast<int>(work.tiles[work.tile_begin[list] + i] & kTileIndex) * work.key_tile, work.key_tile);
      }
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
    fallback_attention<Element, kHeadDim, true><<<grid, kMmaThreads, 0, launch.stream>>>(launch.problem, launch.work);
  } else {
    fallback_attention<Element, kHeadDim, false><<<grid, kMmaThreads, 0, launch.stream>>>(launch.problem, launch.work);
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
