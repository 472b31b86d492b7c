// Kernels that choose the pages of every KV head. On sm_90 a cluster of blocks has a list: all compute bounds, the
// first one chooses. Before, a kernel each.
#include "attention/cuda/decode_cluster.h"
#include "attention/cuda/decode_list.cuh"

namespace tessera::attention::cuda {
namespace {

constexpr int kCachedHeads = 16;  // of a group, kept in shared memory

struct GroupQueries {
  const uint16_t* rows;
  int64_t stride;
};

// The group's queries, as a rule copied into `cached`. All threads of the block; __syncthreads() must follow.
template <int kDim>
__device__ __forceinline__ GroupQueries cache_queries(const List& list, uint16_t* cached) {
  const DecodeProblem& problem = list.problem;
  const int64_t stride = problem.query_stride[1];
  const uint16_t* from = problem.queries + list.sequence * problem.query_stride[0] + list.head * problem.group * stride;
  if (problem.group > kCachedHeads) return {from, stride};
  for (int i = static_cast<int>(threadIdx.x); i < problem.group * kDim / 8; i += static_cast<int>(blockDim.x)) {
    reinterpret_cast<uint4*>(cached)[i] = *reinterpret_cast<const uint4*>(from + i * 8 / kDim * stride + i * 8 % kDim);
  }
  return {cached, kDim};
}

// Upper bound of the page of this eight threads; infinite without `bounds`. All threads of the warp.
template <int kDim>
__device__ __forceinline__ float score(const GroupQueries& queries, int32_t heads, const uint8_t* bounds) {
  const auto lane = static_cast<int>(threadIdx.x) % kWarp;
  Lanes<const uint8_t*> from;
  Lanes<float> best;
  from[lane] = bounds;
  page_bounds<kDim>(queries.rows, queries.stride, heads, from, best);
  return bounds != nullptr ? best[lane] : INFINITY;
}

// The choice of a list by a block of kSelectThreads threads.
__device__ __forceinline__ void choose_pages(const DecodeProblem& problem, int32_t list, const float* scores,
                                             SelectShared& shared) {
  const int32_t pages = pages_of(problem, list / problem.kv_heads);
  int32_t* selected = problem.selection + int64_t{list} * problem.budget;
  select_largest(SelectBlock{}, scores, pages, problem.budget, selected, shared);
  for (int32_t i = pages + static_cast<int32_t>(threadIdx.x); i < problem.budget; i += kSelectThreads) selected[i] = -1;
}

constexpr int kChooseThreads = 512;  // two blocks share a multiprocessor, so that all clusters start at once
static_assert(kChooseThreads == kSelectThreads);
constexpr int kCachedScores = 4096;  // of a list, kept in shared memory of the block that chooses
constexpr int kOwnPages = kCachedScores / kClusterBlocks;

// What a block knows of its own pages before anyone knows the threshold.
struct OwnPages {
  float score[kOwnPages];
  int64_t page[kOwnPages];
};

// Asks for the block's share of the best of its own pages: most of them will be chosen, and while the choice is made
// they come into the L2 cache. All threads of the block.
__device__ __forceinline__ void prefetch_best(const DecodeProblem& problem, const OwnPages& own, int32_t count) {
  if (problem.prefetch_bytes[0] == 0) return;
  const int32_t share = (problem.budget + kClusterBlocks - 1) / kClusterBlocks;
  constexpr int32_t kLanes = 4;  // that share a page's comparisons
  const auto part = static_cast<int32_t>(threadIdx.x) % kLanes;
  for (int32_t base = 0; base < count; base += kChooseThreads / kLanes) {
    const int32_t i = base + static_cast<int32_t>(threadIdx.x) / kLanes;
    const float mine = i < count ? own.score[i] : INFINITY;
    int32_t better = 0;
#pragma unroll 8
    for (int32_t j = part; j < count; j += kLanes) better += own.score[j] > mine || (own.score[j] == mine && j < i);
    better += __shfl_xor_sync(0xffffffffu, better, 1);
    better += __shfl_xor_sync(0xffffffffu, better, 2);
    if (i >= count || better >= share || part > 1) continue;
    const int32_t bytes = problem.prefetch_bytes[part];
    prefetch((part == 0 ? problem.keys : problem.values) + own.page[i] * bytes, bytes);
  }
}

// Grid [kClusterBlocks, lists]; page i of block b is page i * kClusterBlocks + b of the list.
template <int kDim>
__global__ void __launch_bounds__(kChooseThreads) choose_kernel(const DecodeProblem problem) {
  __shared__ SelectShared shared;
  __shared__ __align__(16) float cached[kCachedScores];
  __shared__ OwnPages own;
  __shared__ __align__(16) uint16_t cached_queries[kCachedHeads * kDim];
  cluster_arrive();
  wait_for_previous();
  allow_next();  // what starts now may read all but what this kernel writes
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto block = static_cast<int32_t>(blockIdx.x);
  const auto number = static_cast<int32_t>(blockIdx.y);
  const List list(problem, number);
  constexpr int32_t kStep = kChooseThreads / kBoundLanes * kClusterBlocks;
  int32_t page = thread / kBoundLanes * kClusterBlocks + block;
  int32_t entry = list.entry(page);
  const GroupQueries queries = cache_queries<kDim>(list, cached_queries);
  float* scores = problem.page_scores + int64_t{number} * problem.table_stride;
  const bool fits = problem.table_stride <= kCachedScores;
  __syncthreads();
  cluster_wait();  // the first block is there and can be written to
  // All threads of a block go on while one of its pages is there.
  for (int32_t base = block; base < list.pages; base += kStep, page += kStep) {
    const int64_t from = list.in_pools(entry);
    entry = list.entry(page + kStep);
    const float bound =
        score<kDim>(queries, problem.group, list.has_bound(page) ? problem.bounds + from * 4 * kDim : nullptr);
    if (page >= list.pages || thread % kBoundLanes != 0) continue;
    if (fits) {
      store_in_block(0, cached + page, bound);
      own.score[page / kClusterBlocks] = bound;
      own.page[page / kClusterBlocks] = from;
    } else {
      scores[page] = bound;
    }
  }
  __syncthreads();
  cluster_arrive();
  if (fits && list.pages > problem.budget) {
    prefetch_best(problem, own, (list.pages - block + kClusterBlocks - 1) / kClusterBlocks);
  }
  if (block != 0) return;
  if (problem.arrivals != nullptr && thread < problem.passes) problem.arrivals[number * problem.passes + thread] = 0;
  if (list.pages == 0) {
    for (int32_t i = thread; i < problem.group * kDim; i += kSelectThreads) {
      merge_head(problem, list.sequence, list.head * problem.group + i / kDim, i % kDim);
    }
  }
  cluster_wait();
  choose_pages(problem, number, fits ? cached : scores, shared);
}

constexpr int kBoundThreads = 256;

template <int kDim>
__global__ void __launch_bounds__(kBoundThreads) bounds_kernel(const DecodeProblem problem) {
  __shared__ __align__(16) uint16_t queries[kCachedHeads * kDim];
  constexpr int32_t kPages = kBoundThreads / kBoundLanes;
  const List list(problem, static_cast<int32_t>(blockIdx.y));
  const GroupQueries group = cache_queries<kDim>(list, queries);
  __syncthreads();
  float* scores = problem.page_scores + int64_t{blockIdx.y} * problem.table_stride;
  // All threads of a block go on while one of its pages is there.
  for (auto base = static_cast<int32_t>(blockIdx.x) * kPages; base < list.pages;
       base += static_cast<int32_t>(gridDim.x) * kPages) {
    const int32_t page = base + static_cast<int32_t>(threadIdx.x) / kBoundLanes;
    const uint8_t* bounds =
        list.has_bound(page) ? problem.bounds + list.in_pools(list.entry(page)) * 4 * kDim : nullptr;
    const float bound = score<kDim>(group, problem.group, bounds);
    if (page < list.pages && threadIdx.x % kBoundLanes == 0) scores[page] = bound;
  }
}

__global__ void __launch_bounds__(kSelectThreads) select_kernel(const DecodeProblem problem) {
  __shared__ SelectShared shared;
  const auto list = static_cast<int32_t>(blockIdx.x);
  choose_pages(problem, list, problem.page_scores + int64_t{list} * problem.table_stride, shared);
}

template <int kDim>
cudaError_t run(const DecodeProblem& problem, const Device& device, cudaStream_t stream) {
  const auto lists = static_cast<unsigned>(problem.sequences * problem.kv_heads);
  if (device.capability >= 9) {
    return launch(choose_kernel<kDim>, problem, {{kClusterBlocks, lists}, kChooseThreads, 0, true, kClusterBlocks},
                  stream);
  }
  constexpr int kPages = kBoundThreads / kBoundLanes;
  const unsigned room = (static_cast<unsigned>(problem.table_stride) + kPages - 1) / kPages;
  const unsigned wanted = (static_cast<unsigned>(device.multiprocessors) * 8 + lists - 1) / lists;
  const cudaError_t status =
      launch(bounds_kernel<kDim>, problem, {{room < wanted ? room : wanted, lists}, kBoundThreads}, stream);
  if (status != cudaSuccess) return status;
  return launch(select_kernel, problem, {{lists}, kSelectThreads}, stream);
}

}  // namespace

cudaError_t launch_choose(const DecodeProblem& problem, const Device& device, cudaStream_t stream) {
  return with_head_dim(problem.head_dim, [&]<int kDim>() { return run<kDim>(problem, device, stream); });
}

}  // namespace tessera::attention::cuda
