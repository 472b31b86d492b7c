#include "attention/cuda/block_lists.h"
#include "attention/cuda/list_ends.cuh"
#include "attention/cuda/mma_sync.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace tessera::attention::cuda {
namespace {

constexpr int kQueryTiles = 4;  // of one block: 16 rows of means

struct MeanSource {
  const uint16_t* rows;
  int64_t row_stride, head_stride;
  int32_t row_count, head_dim, mean_rows, means;
  uint16_t* out;
};

// Grid (means, heads), two channels per thread.
template <typename Element>
__global__ void means_kernel(MeanSource source) {
  const int channel = static_cast<int>(threadIdx.x) * 2;
  const int first = static_cast<int>(blockIdx.x) * source.mean_rows;
  const int last = min(first + source.mean_rows, source.row_count);
  const auto* rows = reinterpret_cast<const Element*>(source.rows) + blockIdx.y * source.head_stride + channel;
  float sum[2] = {};
#pragma unroll 8
  for (int row = first; row < last; ++row) {
    const uint32_t pair = *reinterpret_cast<const uint32_t*>(rows + row * source.row_stride);
    const auto* both = reinterpret_cast<const Element*>(&pair);
    sum[0] += static_cast<float>(both[0]);
    sum[1] += static_cast<float>(both[1]);
  }
  const float factor = last > first ? 1.0F / static_cast<float>(last - first) : 0;
  auto* out = reinterpret_cast<Element*>(source.out) +
              (int64_t{blockIdx.y} * source.means + blockIdx.x) * source.head_dim + channel;
  out[0] = static_cast<Element>(sum[0] * factor);
  out[1] = static_cast<Element>(sum[1] * factor);
}

// Of the four query tiles from `first_tile` on, into scores[4][pitch]; a warp takes eight means of keys at a time.
template <typename Element, int kHeadDim>
__device__ __forceinline__ void score_tiles(const BlockLists& lists, int head, int first_tile, float* scores,
                                            int pitch) {
  const TileRule& rule = lists.choice.rule;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int parts = kQueryTile / lists.mean_rows;  // means per tile: 4 or 1
  const auto* queries = lists.query_means + int64_t{head} * lists.query_means_count() * kHeadDim;
  const auto* keys =
      lists.key_means + int64_t{head / (lists.query_heads / lists.kv_heads)} * lists.key_means_count() * kHeadDim;
  uint32_t fragments[kHeadDim / 16][4];
  int last_own[2];  // of the query mean of this thread's rows; -1: none
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = lane / 4 + 8 * i;
    const int mean = first_tile * parts + row;
    const int begin = mean * lists.mean_rows;
    const bool exists = row < kQueryTiles * parts && begin < rule.query_rows;
    last_own[i] = exists ? rule.own(min(begin + lists.mean_rows, rule.query_rows) - 1) : -1;
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      const uint16_t* at = queries + int64_t{exists ? mean : 0} * kHeadDim + step * 16 + lane % 4 * 2;
      fragments[step][i] = exists ? *reinterpret_cast<const uint32_t*>(at) : 0u;
      fragments[step][i + 2] = exists ? *reinterpret_cast<const uint32_t*>(at + 8) : 0u;
    }
  }
  const int last_tile = min(first_tile + kQueryTiles, (rule.query_rows + kQueryTile - 1) / kQueryTile) - 1;
  const int visible = rule.visible_tiles(last_tile);
  const int means = visible * parts;
  const float scale = lists.scale * 1.4426950408889634F;
  for (int first = static_cast<int>(threadIdx.x) / 32 * 8; first < means;
       first += static_cast<int>(blockDim.x) / 32 * 8) {
    float sum[4] = {};
    const uint16_t* at = keys + int64_t{first + lane / 4} * kHeadDim + lane % 4 * 2;
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      multiply<Element>(sum, fragments[step], *reinterpret_cast<const uint32_t*>(at + step * 16),
                        *reinterpret_cast<const uint32_t*>(at + step * 16 + 8));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int begin = (first + lane % 4 * 2 + i % 2) * lists.mean_rows;
      sum[i] = begin <= last_own[i / 2] ? sum[i] * scale : -INFINITY;
    }
    if (parts == 1) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int tile = first + lane % 4 * 2 + e;
        if (lane / 4 < kQueryTiles && tile < visible) scores[lane / 4 * pitch + tile] = sum[e] * 0.6931471805599453F;
      }
      continue;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float top = fmaxf(sum[2 * i], sum[2 * i + 1]);
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 4));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 8));
      const float base = top == -INFINITY ? 0 : top;
      float all = exp2f(sum[2 * i] - base) + exp2f(sum[2 * i + 1] - base);
      all += __shfl_xor_sync(0xffffffffu, all, 1);
      all += __shfl_xor_sync(0xffffffffu, all, 4);
      all += __shfl_xor_sync(0xffffffffu, all, 8);
      const int tile = (first + lane % 4 * 2) / 4;
      if (lane % 2 == 0 && lane / 4 % 4 == 0 && tile < visible) {
        scores[(i * 2 + lane / 16) * pitch + tile] = (base + log2f(all)) * 0.6931471805599453F;
      }
    }
  }
}

struct BlockTarget {
  const int32_t* begin = nullptr;  // null: count only
  int32_t* counts = nullptr;
  uint32_t* tiles = nullptr;
  int64_t capacity = 0;
  uint32_t* overflow = nullptr;
};

// Grid (groups of four query tiles, longest first; heads).
template <typename Element, int kHeadDim>
__global__ void __launch_bounds__(kSearchThreads, 1)
    block_kernel(const __grid_constant__ BlockLists lists, const __grid_constant__ BlockTarget target) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  const TileRule& rule = lists.choice.rule;
  const int query_tiles = (rule.query_rows + kQueryTile - 1) / kQueryTile;
  const int pitch = (rule.key_rows + rule.key_tile - 1) / rule.key_tile;
  auto& shared = *reinterpret_cast<BlockListShared*>(shared_bytes);
  auto* scores = reinterpret_cast<float*>(shared_bytes + sizeof(BlockListShared));
  auto* marks = reinterpret_cast<uint32_t*>(scores + kQueryTiles * pitch);
  auto* chosen = reinterpret_cast<int32_t*>(marks + (pitch + 31) / 32);
  const int first_tile = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kQueryTiles;
  const int head = static_cast<int>(blockIdx.y);
  score_tiles<Element, kHeadDim>(lists, head, first_tile, scores, pitch);
  __syncthreads();
  for (int t = 0; t < kQueryTiles && first_tile + t < query_tiles; ++t) {
    const int64_t list = int64_t{head} * query_tiles + first_tile + t;
    const bool fits = target.begin == nullptr || target.begin[list + 1] <= target.capacity;
    if (!fits) {
      if (threadIdx.x == 0) *target.overflow = 1;
      continue;
    }
    const uint32_t count =
        write_block_list(SearchBlock{}, lists.choice, first_tile + t, scores + t * pitch, marks, chosen,
                         target.begin == nullptr ? nullptr : target.tiles + target.begin[list], shared);
    if (target.begin == nullptr && threadIdx.x == 0) target.counts[list] = static_cast<int32_t>(count);
    __syncthreads();
  }
}

template <typename Element>
void launch_means(const BlockLists& lists, cudaStream_t stream) {
  const TileRule& rule = lists.choice.rule;
  const MeanSource queries{static_cast<const uint16_t*>(lists.queries) + lists.query_begin * lists.query_stride[0],
                           lists.query_stride[0],
                           lists.query_stride[1],
                           rule.query_rows,
                           lists.head_dim,
                           lists.mean_rows,
                           lists.query_means_count(),
                           lists.query_means};
  const MeanSource keys{static_cast<const uint16_t*>(lists.keys),
                        lists.key_stride[0],
                        lists.key_stride[1],
                        rule.key_rows,
                        lists.head_dim,
                        lists.mean_rows,
                        lists.key_means_count(),
                        lists.key_means};
  means_kernel<Element><<<dim3(queries.means, lists.query_heads), lists.head_dim / 2, 0, stream>>>(queries);
  means_kernel<Element><<<dim3(keys.means, lists.kv_heads), lists.head_dim / 2, 0, stream>>>(keys);
}

template <typename Element, int kHeadDim>
cudaError_t build(const BlockLists& arguments, const LineLists& lists, cudaStream_t stream) {
  const TileRule& rule = arguments.choice.rule;
  const int query_tiles = (rule.query_rows + kQueryTile - 1) / kQueryTile;
  const int key_tiles = (rule.key_rows + rule.key_tile - 1) / rule.key_tile;
  const int64_t all = int64_t{arguments.query_heads} * query_tiles;
  const size_t bytes = sizeof(BlockListShared) + sizeof(float) * (kQueryTiles * key_tiles) +
                       4 * static_cast<size_t>((key_tiles + 31) / 32 + arguments.choice.top_k);
  auto* kernel = block_kernel<Element, kHeadDim>;
  cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (status != cudaSuccess) return status;
  cudaMemsetAsync(lists.overflow, 0, sizeof(uint32_t), stream);
  cudaMemsetAsync(lists.counts + all, 0, sizeof(int32_t), stream);
  launch_means<Element>(arguments, stream);
  const dim3 grid((query_tiles + kQueryTiles - 1) / kQueryTiles, arguments.query_heads);
  kernel<<<grid, kSearchThreads, bytes, stream>>>(arguments, {.counts = lists.counts});
  status = scan_counts(lists, all, stream);
  if (status != cudaSuccess) return status;
  kernel<<<grid, kSearchThreads, bytes, stream>>>(arguments, {.begin = lists.tile_begin,
                                                              .counts = lists.counts,
                                                              .tiles = lists.tiles,
                                                              .capacity = lists.tile_capacity,
                                                              .overflow = lists.overflow});
  return clamp_ends(lists, all, stream);
}

template <typename Element>
cudaError_t build_element(const BlockLists& arguments, const LineLists& lists, cudaStream_t stream) {
  switch (arguments.head_dim) {
    case 64:
      return build<Element, 64>(arguments, lists, stream);
    case 96:
      return build<Element, 96>(arguments, lists, stream);
    case 128:
      return build<Element, 128>(arguments, lists, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

int build_block_lists(const BlockLists& arguments, const LineLists& lists, bool half_precision, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  return half_precision ? build_element<__half>(arguments, lists, stream)
                        : build_element<__nv_bfloat16>(arguments, lists, stream);
}

}  // namespace tessera::attention::cuda
