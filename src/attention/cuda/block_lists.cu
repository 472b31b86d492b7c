#include "attention/cuda/block_lists.h"
#include "attention/cuda/block_score.h"
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
  float* steps;
};

// Grid (means, heads), two channels per thread.
template <typename Element>
__global__ void means_kernel(MeanSource source) {
  __shared__ uint32_t largest_bits;
  if (threadIdx.x == 0) largest_bits = 0;
  const int channel = static_cast<int>(threadIdx.x) * 2;
  const int first = static_cast<int>(blockIdx.x) * source.mean_rows;
  const int last = min(first + source.mean_rows, source.row_count);
  const auto* rows = reinterpret_cast<const Element*>(source.rows) + blockIdx.y * source.head_stride + channel;
  float mean[2] = {};
#pragma unroll 8
  for (int row = first; row < last; ++row) {
    const uint32_t pair = *reinterpret_cast<const uint32_t*>(rows + row * source.row_stride);
    const auto* both = reinterpret_cast<const Element*>(&pair);
    mean[0] = exact_add(mean[0], static_cast<float>(both[0]));
    mean[1] = exact_add(mean[1], static_cast<float>(both[1]));
  }
  const float factor = last > first ? exact_divide(1, static_cast<float>(last - first)) : 0;
  for (float& x : mean) x = exact_multiply(x, factor);
  __syncthreads();
  atomicMax(&largest_bits, float_bits(fmaxf(fabsf(mean[0]), fabsf(mean[1]))));
  __syncthreads();
  const float largest = bits_float(largest_bits);
  const int64_t at = int64_t{blockIdx.y} * source.means + blockIdx.x;
  auto* out = reinterpret_cast<Element*>(source.out) + at * source.head_dim + channel;
  out[0] = static_cast<Element>(mean_code(mean[0], largest));
  out[1] = static_cast<Element>(mean_code(mean[1], largest));
  if (threadIdx.x == 0) source.steps[at] = mean_step(largest);
}

// The means of 16 query rows as operands: kept in registers, or read again where they would not fit.
template <int kHeadDim>
struct QueryMeans {
  static constexpr bool kKept = kHeadDim <= 128;
  const uint16_t* row[2];  // of this thread's rows; null: none
  uint32_t kept[kKept ? kHeadDim / 16 : 1][4];

  __device__ __forceinline__ void load(int step, uint32_t (&fragment)[4]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint16_t* at = row[i] + step * 16;
      fragment[i] = row[i] != nullptr ? *reinterpret_cast<const uint32_t*>(at) : 0u;
      fragment[i + 2] = row[i] != nullptr ? *reinterpret_cast<const uint32_t*>(at + 8) : 0u;
    }
  }
  __device__ __forceinline__ void keep() {
    if constexpr (kKept) {
#pragma unroll
      for (int step = 0; step < kHeadDim / 16; ++step) load(step, kept[step]);
    }
  }
  template <typename Element>
  __device__ __forceinline__ void multiply_with(float (&sum)[4], const uint16_t* key) const {
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      const uint32_t low = *reinterpret_cast<const uint32_t*>(key + step * 16);
      const uint32_t high = *reinterpret_cast<const uint32_t*>(key + step * 16 + 8);
      if constexpr (kKept) {
        multiply<Element>(sum, kept[step], low, high);
      } else {
        uint32_t fragment[4];
        load(step, fragment);
        multiply<Element>(sum, fragment, low, high);
      }
    }
  }
};

// Of the four query tiles from `first_tile` on, into scores[4][pitch]; a warp takes eight means of keys at a time.
template <typename Element, int kHeadDim>
__device__ __forceinline__ void score_tiles(const BlockLists& lists, int head, int first_tile, float* scores,
                                            int pitch) {
  const TileRule& rule = lists.choice.rule;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int parts = kQueryTile / lists.mean_rows;  // means per tile: 4 or 1
  const int64_t query_base = int64_t{head} * lists.query_means_count();
  const int64_t key_base = int64_t{head / (lists.query_heads / lists.kv_heads)} * lists.key_means_count();
  QueryMeans<kHeadDim> queries;
  int last_own[2];  // of the query mean of this thread's rows; -1: none
  float query_step[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = lane / 4 + 8 * i;
    const int mean = first_tile * parts + row;
    const int begin = mean * lists.mean_rows;
    const bool exists = row < kQueryTiles * parts && begin < rule.query_rows;
    last_own[i] = exists ? rule.own(min(begin + lists.mean_rows, rule.query_rows) - 1) : -1;
    query_step[i] = exists ? lists.query_steps[query_base + mean] : 0;
    queries.row[i] = exists ? lists.query_means + (query_base + mean) * kHeadDim + lane % 4 * 2 : nullptr;
  }
  queries.keep();
  const int last_tile = min(first_tile + kQueryTiles, (rule.query_rows + kQueryTile - 1) / kQueryTile) - 1;
  const int visible = rule.visible_tiles(last_tile);
  const int means = visible * parts;
  for (int first = static_cast<int>(threadIdx.x) / 32 * 8; first < means;
       first += static_cast<int>(blockDim.x) / 32 * 8) {
    float sum[4] = {};
    queries.template multiply_with<Element>(sum,
                                            lists.key_means + (key_base + first + lane / 4) * kHeadDim + lane % 4 * 2);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int mean = first + lane % 4 * 2 + i % 2;
      const bool seen = mean * lists.mean_rows <= last_own[i / 2];
      sum[i] = seen ? pair_score(sum[i], query_step[i / 2], lists.key_steps[key_base + mean], lists.scale) : -INFINITY;
    }
    if (parts == 1) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int tile = first + lane % 4 * 2 + e;
        if (lane / 4 < kQueryTiles && tile < visible) {
          scores[lane / 4 * pitch + tile] = exact_multiply(sum[e], 0.6931471805599453F);
        }
      }
      continue;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float top = fmaxf(sum[2 * i], sum[2 * i + 1]);
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 4));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 8));
      uint32_t all = 0;
      if (top != -INFINITY) all = pair_weight(sum[2 * i], top) + pair_weight(sum[2 * i + 1], top);
      all += __shfl_xor_sync(0xffffffffu, all, 1);
      all += __shfl_xor_sync(0xffffffffu, all, 4);
      all += __shfl_xor_sync(0xffffffffu, all, 8);
      const int tile = (first + lane % 4 * 2) / 4;
      if (lane % 2 == 0 && lane / 4 % 4 == 0 && tile < visible) {
        scores[(i * 2 + lane / 16) * pitch + tile] = top == -INFINITY ? top : tile_score(top, all);
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
    block_kernel(const __grid_constant__ BlockLists lists, int64_t list_pitch,
                 const __grid_constant__ BlockTarget target) {
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
    const int64_t list = head * list_pitch + first_tile + t;
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
                           lists.query_means,
                           lists.query_steps};
  const MeanSource keys{static_cast<const uint16_t*>(lists.keys),
                        lists.key_stride[0],
                        lists.key_stride[1],
                        rule.key_rows,
                        lists.head_dim,
                        lists.mean_rows,
                        lists.key_means_count(),
                        lists.key_means,
                        lists.key_steps};
  means_kernel<Element><<<dim3(queries.means, lists.query_heads), lists.head_dim / 2, 0, stream>>>(queries);
  means_kernel<Element><<<dim3(keys.means, lists.kv_heads), lists.head_dim / 2, 0, stream>>>(keys);
}

std::size_t block_shared_bytes(int32_t key_tiles, int32_t top_k) {
  return sizeof(BlockListShared) + sizeof(float) * static_cast<std::size_t>(kQueryTiles * key_tiles) +
         4 * static_cast<std::size_t>((key_tiles + 31) / 32 + top_k);
}

template <typename Element, int kHeadDim>
cudaError_t launch_lists(const BlockLists& arguments, const LineLists& lists, const BlockTarget& target,
                         cudaStream_t stream) {
  const TileRule& rule = arguments.choice.rule;
  const int query_tiles = (rule.query_rows + kQueryTile - 1) / kQueryTile;
  const std::size_t bytes = block_shared_bytes((rule.key_rows + rule.key_tile - 1) / rule.key_tile, arguments.choice.top_k);
  auto* kernel = block_kernel<Element, kHeadDim>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (status != cudaSuccess) return status;
  const dim3 grid((query_tiles + kQueryTiles - 1) / kQueryTiles, arguments.query_heads);
  kernel<<<grid, kSearchThreads, bytes, stream>>>(arguments, lists.list_pitch > 0 ? lists.list_pitch : query_tiles,
                                                  target);
  return cudaGetLastError();
}

template <typename Element>
cudaError_t launch_element(const BlockLists& arguments, const LineLists& lists, const BlockTarget& target,
                           cudaStream_t stream) {
  switch (arguments.head_dim) {
    case 64:
      return launch_lists<Element, 64>(arguments, lists, target, stream);
    case 96:
      return launch_lists<Element, 96>(arguments, lists, target, stream);
    case 128:
      return launch_lists<Element, 128>(arguments, lists, target, stream);
    case 256:
      return launch_lists<Element, 256>(arguments, lists, target, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t launch(const BlockLists& arguments, const LineLists& lists, const BlockTarget& target,
                   cudaStream_t stream) {
  return arguments.half_precision ? launch_element<__half>(arguments, lists, target, stream)
                                  : launch_element<__nv_bfloat16>(arguments, lists, target, stream);
}

}  // namespace

int32_t most_block_key_rows(int32_t top_k) {
  int32_t tiles = 227 * 1024 / (4 * kQueryTiles);
  while (tiles > 0 && block_shared_bytes(tiles, top_k) > 227 * 1024) --tiles;
  return tiles * kQueryTile;
}

int count_block_lists(const BlockLists& arguments, const LineLists& lists, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  if (arguments.half_precision) {
    launch_means<__half>(arguments, stream);
  } else {
    launch_means<__nv_bfloat16>(arguments, stream);
  }
  return launch(arguments, lists, {.counts = lists.counts}, stream);
}

int write_block_lists(const BlockLists& arguments, const LineLists& lists, void* stream) {
  return launch(arguments, lists,
                {.begin = lists.tile_begin,
                 .counts = lists.counts,
                 .tiles = lists.tiles,
                 .capacity = lists.tile_capacity,
                 .overflow = lists.overflow},
                static_cast<cudaStream_t>(stream));
}

}  // namespace tessera::attention::cuda
