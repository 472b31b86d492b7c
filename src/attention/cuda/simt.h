// Kernel bodies that the host can run too: a block is a sequence of phases with a barrier after each.
//
//   block.each([&](int thread) { ... });   // every thread once; shared memory written here is seen by the next phase
//
// Several blocks can work on one thing: a cluster on the device, one after the other on the host. Threads are numbered
// through all of them, each block has shared memory of its own, part(), and reads that of the others, peer(), after a
// phase; each_block() has barriers within blocks only. A body gets the first block's memory by reference; on the host
// it is the first of an array.
//
// On the device a phase is the body for one thread and a barrier; on the host it is a loop over the threads, so tests
// execute the very kernel code without a GPU. What a thread keeps from phase to phase lies in shared memory. Within a
// phase threads may meet only through add(), highest() and next(); the host runs them in either order, and results must
// not depend on it.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define TESSERA_SIMT __host__ __device__
#else
#define TESSERA_SIMT
#endif

namespace tessera::attention::cuda {

template <int kThreadCount, int kBlockCount = 1>
struct Block {
  static constexpr int kBlocks = kBlockCount;
  static constexpr int kBlockThreads = kThreadCount;
  static constexpr int kThreads = kThreadCount * kBlockCount;  // of all blocks
  bool descending = false;                                     // host only: order of the threads within a phase

  template <typename Body>
  TESSERA_SIMT void each(Body&& body) const {
#if defined(__CUDA_ARCH__)
    body(device_thread());
    if constexpr (kBlocks == 1) {
      __syncthreads();
    } else {
      cluster_barrier();
    }
#else
    for (int i = 0; i < kThreads; ++i) body(descending ? kThreads - 1 - i : i);
#endif
  }

  // What is written is seen by the next phase of the same block.
  template <typename Body>
  TESSERA_SIMT void each_block(Body&& body) const {
#if defined(__CUDA_ARCH__)
    body(device_thread());
    __syncthreads();
#else
    each(body);
#endif
  }

  TESSERA_SIMT static constexpr int rank(int thread) { return thread / kBlockThreads; }
  TESSERA_SIMT static constexpr int within(int thread) { return thread % kBlockThreads; }

  // Shared memory of the thread's own block.
  template <typename Shared>
  TESSERA_SIMT static Shared& part(Shared& shared, int thread) {
#if defined(__CUDA_ARCH__)
    (void)thread;
    return shared;
#else
    return (&shared)[rank(thread)];
#endif
  }

  template <typename Shared>
  TESSERA_SIMT static const Shared& peer(const Shared& shared, int block) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if constexpr (kBlocks > 1) {
      return *static_cast<const Shared*>(__cluster_map_shared_rank(&shared, static_cast<unsigned>(block)));
    }
#endif
    return (&shared)[block];
  }

  // Integers only: their sum does not depend on the order.
  TESSERA_SIMT static void add(uint64_t* to, uint64_t value) {
#if defined(__CUDA_ARCH__)
    atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
#else
    *to += value;
#endif
  }
  TESSERA_SIMT static void add(uint32_t* to, uint32_t value) {
#if defined(__CUDA_ARCH__)
    atomicAdd(to, value);
#else
    *to += value;
#endif
  }

  // A place of its own for every caller; which one depends on the order.
  TESSERA_SIMT static uint32_t next(uint32_t* count) {
#if defined(__CUDA_ARCH__)
    return atomicAdd(count, 1U);
#else
    return (*count)++;
#endif
  }

  TESSERA_SIMT static void highest(uint32_t* to, uint32_t value) {
#if defined(__CUDA_ARCH__)
    atomicMax(to, value);
#else
    if (value > *to) *to = value;
#endif
  }

  // The same with every thread of the block, or of some of its warps, calling: one access per warp.
  TESSERA_SIMT static void add_of_all(uint32_t* to, uint32_t value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    value = __reduce_add_sync(0xffffffffU, value);
    if (threadIdx.x % 32 == 0) atomicAdd(to, value);
#else
    add(to, value);
#endif
  }

  TESSERA_SIMT static void highest_of_all(uint32_t* to, uint32_t value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    value = __reduce_max_sync(0xffffffffU, value);
    if (threadIdx.x % 32 == 0) atomicMax(to, value);
#else
    highest(to, value);
#endif
  }

  // scan[0][i] becomes the sum of scan[0][0..i]. scan[1] is scratch.
  TESSERA_SIMT void inclusive_scan(uint32_t (&scan)[2][kThreadCount]) const {
    static_assert(kBlocks == 1);
    scan_parts(
        scan, [](auto& own) -> auto& { return own; });
  }

  // Of every block by itself: the array that `array` finds in its part.
  template <typename Shared, typename Array>
  TESSERA_SIMT void scan_parts(Shared& shared, const Array& array) const {
#if defined(__CUDA_ARCH__)
    scan_block(array(shared));
#else
    for (int block = 0; block < kBlocks; ++block) {
      auto& scan = array((&shared)[block]);
      for (int i = 1; i < kBlockThreads; ++i) scan[0][i] += scan[0][i - 1];
    }
#endif
  }

 private:
#if defined(__CUDA_ARCH__)
  static __device__ __forceinline__ int device_thread() {
    if constexpr (kBlocks == 1) return static_cast<int>(threadIdx.x);
    return static_cast<int>(blockIdx.x % kBlocks * kBlockThreads + threadIdx.x);
  }

  static __device__ __forceinline__ void cluster_barrier() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __trap();  // never launched there
#endif
  }

  static __device__ __forceinline__ uint32_t scan_warp(uint32_t value) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const uint32_t before = __shfl_up_sync(0xffffffffU, value, static_cast<unsigned>(step));
      value += lane >= step ? before : 0;
    }
    return value;
  }

  static __device__ __forceinline__ void scan_block(uint32_t (&scan)[2][kBlockThreads]) {
    static_assert(kBlockThreads % 32 == 0 && kBlockThreads <= 1024);
    constexpr int kWarps = kBlockThreads / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const uint32_t own = scan_warp(scan[0][threadIdx.x]);
    if (lane == 31) scan[1][warp] = own;
    __syncthreads();
    const uint32_t totals = scan_warp(lane < kWarps ? scan[1][lane] : 0);
    const uint32_t before = __shfl_sync(0xffffffffU, totals, warp > 0 ? warp - 1 : 0);
    scan[0][threadIdx.x] = own + (warp > 0 ? before : 0);
    __syncthreads();
  }
#endif
};

}  // namespace tessera::attention::cuda
