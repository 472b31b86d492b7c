// Kernels that choose the pages of every KV head. On sm_90 a cluster of blocks has a list: all compute bounds, the
// first one chooses. Before, a kernel each.
#include "attention/cuda/decode_kernel.cuh"
#include "attention/cuda/decode_select.h"

namespace tessera::attention::cuda {
namespace {

constexpr int kCachedHeads = 16;  // of a group, kept in shared memory

// Upper bounds of pages `start`, `start` + step and so on of a list; eight threads a page. All threads of the block.
template <int kDim>
__device__ __forceinline__ void score_pages(const DecodeProblem& problem, int32_t list, int32_t start, int32_t step,
                                            uint16_t* cached_queries) {
  const int32_t sequence = list / problem.kv_heads;
  const int32_t head = list % problem.kv_heads;
  const int32_t pages = pages_of(problem, sequence);
  const int32_t* table = problem.table + (problem.table_heads == 1 ? sequence : list) * int64_t{problem.table_stride};
  const uint16_t* queries =
      problem.queries + sequence * problem.query_stride[0] + head * problem.group * problem.query_stride[1];
  const auto offset = static_cast<int32_t>(threadIdx.x) / kBoundLanes;
  const auto lane = static_cast<int>(threadIdx.x) % kWarp;
  const auto bounds_of = [&](int32_t page) -> const uint8_t* {
    if (page >= pages || is_forced(problem, page, pages)) return nullptr;
    const int64_t at = problem.table_heads == 1 ? int64_t{table[page]} * problem.kv_heads + head : table[page];
    return problem.bounds + at * 4 * kDim;
  };
  Lanes<const uint8_t*> bounds;
  bounds[lane] = bounds_of(start + offset);
  int64_t head_stride = problem.query_stride[1];
  if (problem.group <= kCachedHeads) {
    for (int i = static_cast<int>(threadIdx.x); i < problem.group * kDim / 8; i += static_cast<int>(blockDim.x)) {
      reinterpret_cast<uint4*>(cached_queries)[i] =
          *reinterpret_cast<const uint4*>(queries + i * 8 / kDim * head_stride + i * 8 % kDim);
    }
    __syncthreads();
    queries = cached_queries;
    head_stride = kDim;
  }
  for (; start < pages; start += step) {
    const int32_t page = start + offset;
    const uint8_t* next = bounds_of(page + step);
    Lanes<float> best;
    page_bounds<kDim>(queries, head_stride, problem.group, bounds, best);
    if (page < pages && threadIdx.x % kBoundLanes == 0) {
      problem.page_scores[list * int64_t{problem.table_stride} + page] =
          bounds[lane] != nullptr ? best[lane] : INFINITY;
    }
    bounds[lane] = next;
  }
}

// The choice of a list by a block of kSelectThreads threads.
__device__ __forceinline__ void choose_pages(const DecodeProblem& problem, int32_t list, const float* scores,
                                             SelectShared& shared) {
  const int32_t pages = pages_of(problem, list / problem.kv_heads);
  int32_t* selected = problem.selection + int64_t{list} * problem.budget;
  select_largest(SelectBlock{}, scores, pages, problem.budget, selected, shared);
  for (int32_t i = pages + static_cast<int32_t>(threadIdx.x); i < problem.budget; i += kSelectThreads) selected[i] = -1;
}

constexpr int kClusterBlocks = 16;
constexpr int kCachedScores = 4096;  // of a list, kept in shared memory

__device__ __forceinline__ void meet_cluster(bool leave) {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  if (!leave) asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Threads that compute bounds; kSelectThreads of them choose.
template <int kDim>
constexpr int kChooseThreads = kDim > 128 ? 512 : 1024;

// Grid [kClusterBlocks, lists].
template <int kDim>
__global__ void __launch_bounds__(kChooseThreads<kDim>) choose_kernel(const DecodeProblem problem) {
  __shared__ SelectShared shared;
  __shared__ float cached[kCachedScores];
  __shared__ __align__(16) uint16_t queries[kCachedHeads * kDim];
  allow_next();
  wait_for_previous();
  const auto list = static_cast<int32_t>(blockIdx.y);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const bool first = blockIdx.x == 0;
  constexpr int32_t kPages = kChooseThreads<kDim> / kBoundLanes;
  score_pages<kDim>(problem, list, static_cast<int32_t>(blockIdx.x) * kPages, kClusterBlocks * kPages, queries);
  __syncthreads();
  meet_cluster(!first);
  if (!first || thread >= kSelectThreads) return;
  const int32_t sequence = list / problem.kv_heads;
  const int32_t pages = pages_of(problem, sequence);
  if (problem.arrivals != nullptr && thread < problem.passes) problem.arrivals[list * problem.passes + thread] = 0;
  if (pages == 0) {
    for (int32_t i = thread; i < problem.group * kDim; i += kSelectThreads) {
      merge_head(problem, sequence, list % problem.kv_heads * problem.group + i / kDim, i % kDim);
    }
  }
  const float* scores = problem.page_scores + int64_t{list} * problem.table_stride;
  if (pages <= kCachedScores) {
    for (int32_t i = thread; i < pages; i += kSelectThreads) cached[i] = __ldcg(scores + i);
    __syncthreads();
    scores = cached;
  }
  choose_pages(problem, list, scores, shared);
}

constexpr int kBoundThreads = 256;

template <int kDim>
__global__ void __launch_bounds__(kBoundThreads) bounds_kernel(const DecodeProblem problem) {
  __shared__ __align__(16) uint16_t queries[kCachedHeads * kDim];
  constexpr int32_t kPages = kBoundThreads / kBoundLanes;
  score_pages<kDim>(problem, static_cast<int32_t>(blockIdx.y), static_cast<int32_t>(blockIdx.x) * kPages,
                    static_cast<int32_t>(gridDim.x) * kPages, queries);
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
    return launch(choose_kernel<kDim>, problem,
                  {{kClusterBlocks, lists}, kChooseThreads<kDim>, 0, true, kClusterBlocks}, stream);
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
