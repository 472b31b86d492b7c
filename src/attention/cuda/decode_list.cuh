// What the kernels that choose pages share: a list of pages, and how the blocks of a cluster reach each other.
#pragma once

#include "attention/cuda/decode_kernel.cuh"
#include "attention/cuda/decode_select.h"

namespace tessera::attention::cuda {

// One KV head of one sequence.
struct List {
  const DecodeProblem& problem;
  int32_t sequence, head, pages;
  const int32_t* table;

  __device__ __forceinline__ List(const DecodeProblem& of, int32_t list)
      : problem(of),
        sequence(list / of.kv_heads),
        head(list % of.kv_heads),
        pages(pages_of(of, sequence)),
        table(of.table + (of.table_heads == 1 ? sequence : list) * int64_t{of.table_stride}) {}

  // Beyond the sequence's pages the table may hold anything; it is read without waiting for their number.
  __device__ __forceinline__ int32_t entry(int32_t page) const { return page < problem.table_stride ? table[page] : 0; }
  __device__ __forceinline__ int64_t in_pools(int32_t entry) const {
    return problem.table_heads == 1 ? int64_t{entry} * problem.kv_heads + head : entry;
  }
  __device__ __forceinline__ bool has_bound(int32_t page) const {
    return page < pages && !is_forced(problem, page, pages);
  }
};

// The arrival hands over what was written, also into other blocks' shared memory.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  __syncwarp();
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Starts the cluster's meeting without handing anything over but initialised barriers.
__device__ __forceinline__ void cluster_arrive_relaxed() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}

// Address of the same variable of a block of the cluster.
__device__ __forceinline__ uint32_t address_in_block(int block, const void* variable) {
  uint32_t address = 0;
#if __CUDA_ARCH__ >= 900
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(ptx::shared_address(variable)), "r"(block));
#endif
  return address;
}

__device__ __forceinline__ void store_in_block(int block, float* variable, float value) {
#if __CUDA_ARCH__ >= 900
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(address_in_block(block, variable)), "f"(value) : "memory");
#endif
}

// Sends 4, 8 or 16 bytes to the same variable of a block, whose `barrier` counts them. Unlike a store that the
// cluster's barrier hands over this waits for no other access of the thread.
template <typename T>
__device__ __forceinline__ void send_to_block(int block, T* variable, const T& value, uint64_t* barrier) {
#if __CUDA_ARCH__ >= 900
  const uint32_t address = address_in_block(block, variable);
  const uint32_t counter = address_in_block(block, barrier);
  uint32_t words[sizeof(T) / 4];
  memcpy(words, &value, sizeof(T));
  if constexpr (sizeof(T) == 16) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
            address),
        "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3]), "r"(counter)
        : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(address),
        "r"(words[0]), "r"(words[1]), "r"(counter)
        : "memory");
  } else {
    static_assert(sizeof(T) == 4);
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(address),
                 "r"(words[0]), "r"(counter)
                 : "memory");
  }
#endif
}

// Asks for bytes to come into the L2 cache.
__device__ __forceinline__ void prefetch(const uint8_t* from, int32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}

}  // namespace tessera::attention::cuda
