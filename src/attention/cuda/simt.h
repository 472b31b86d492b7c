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

struct CountPair {
  uint32_t first = 0;
  uint32_t second = 0;
};

TESSERA_SIMT inline CountPair sum_of(const CountPair& a, const CountPair& b) {
  return {a.first + b.first, a.second + b.second};
}

TESSERA_SIMT inline uint32_t count_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return static_cast<uint32_t>(__popc(bits));
#else
  return static_cast<uint32_t>(__builtin_popcount(bits));
#endif
}

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
      block_barrier();
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
    block_barrier();
#else
    each(body);
#endif
  }

  TESSERA_SIMT static constexpr int rank(int thread) { return thread / kBlockThreads; }
  TESSERA_SIMT static constexpr int within(int thread) { return thread % kBlockThreads; }
  // Of the warp that does what one warp of each block can do better than all; on the host a single thread.
  TESSERA_SIMT static constexpr bool leads(int thread) {
#if defined(__CUDA_ARCH__)
    return within(thread) < 32;
#else
    return within(thread) == 0;
#endif
  }

  TESSERA_SIMT static void warp_barrier() {
#if defined(__CUDA_ARCH__)
    __syncwarp();
#endif
  }

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

#if defined(__CUDA_ARCH__)
  // Of the lanes up to this one.
  static __device__ __forceinline__ CountPair scan_warp(const CountPair& pair) {
    return {scan_warp(pair.first, Sum{}), scan_warp(pair.second, Sum{})};
  }
#endif

  // scan[0][i] becomes the sum of scan[0][0..i]. scan[1] is scratch.
  TESSERA_SIMT void inclusive_scan(uint32_t (&scan)[2][kThreadCount]) const { scan_with(scan, Sum{}); }
  // The same with the highest in place of the sum.
  TESSERA_SIMT void inclusive_highest(uint32_t (&scan)[2][kThreadCount]) const { scan_with(scan, Highest{}); }

  // Sums of pairs, of every block by itself: shared.pairs[i] becomes the sum of pairs 0..i. The rest of them is
  // scratch.
  static constexpr int kPairs = kThreadCount + kThreadCount / 32;
  template <typename Shared>
  TESSERA_SIMT void scan_pairs(Shared& shared) const {
#if defined(__CUDA_ARCH__)
    CountPair* const pairs = shared.pairs;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const CountPair own = scan_warp(pairs[threadIdx.x]);
    if (lane == 31) pairs[kThreadCount + warp] = own;
    __syncthreads();
    const CountPair totals = scan_warp(lane < kThreadCount / 32 ? pairs[kThreadCount + lane] : CountPair{});
    const int from = warp > 0 ? warp - 1 : 0;
    const CountPair before{__shfl_sync(0xffffffffU, totals.first, from), __shfl_sync(0xffffffffU, totals.second, from)};
    pairs[threadIdx.x] = {own.first + (warp > 0 ? before.first : 0), own.second + (warp > 0 ? before.second : 0)};
    __syncthreads();
#else
    for (int block = 0; block < kBlocks; ++block) {
      CountPair* const pairs = (&shared)[block].pairs;
      for (int i = 1; i < kBlockThreads; ++i) pairs[i] = sum_of(pairs[i], pairs[i - 1]);
    }
#endif
  }

 private:
  // What a scan joins with; join(x, 0) is x.
  struct Sum {
    TESSERA_SIMT uint32_t operator()(uint32_t a, uint32_t b) const { return a + b; }
  };
  struct Highest {
    TESSERA_SIMT uint32_t operator()(uint32_t a, uint32_t b) const { return a > b ? a : b; }
  };

  template <typename Join>
  TESSERA_SIMT void scan_with(uint32_t (&scan)[2][kThreadCount], const Join& join) const {
    static_assert(kBlocks == 1);
#if defined(__CUDA_ARCH__)
    scan_block(scan, join);
#else
    for (int i = 1; i < kThreadCount; ++i) scan[0][i] = join(scan[0][i], scan[0][i - 1]);
#endif
  }

#if defined(__CUDA_ARCH__)
  static __device__ __forceinline__ int device_thread() {
    if constexpr (kBlocks == 1) return static_cast<int>(threadIdx.x);
    return static_cast<int>(blockIdx.x % kBlocks * kBlockThreads + threadIdx.x);
  }

  // Blocks of one warp may lie side by side in one of the device's, as (32, blocks) threads.
  static __device__ __forceinline__ void block_barrier() {
    if constexpr (kBlockThreads == 32) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }

  static __device__ __forceinline__ void cluster_barrier() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __trap();  // never launched there
#endif
  }

  template <typename Join>
  static __device__ __forceinline__ uint32_t scan_warp(uint32_t value, const Join& join) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const uint32_t before = __shfl_up_sync(0xffffffffU, value, static_cast<unsigned>(step));
      value = join(value, lane >= step ? before : 0);
    }
    return value;
  }

  template <typename Join>
  static __device__ __forceinline__ void scan_block(uint32_t (&scan)[2][kBlockThreads], const Join& join) {
    static_assert(kBlockThreads % 32 == 0 && kBlockThreads <= 1024);
    constexpr int kWarps = kBlockThreads / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const uint32_t own = scan_warp(scan[0][threadIdx.x], join);
    if (lane == 31) scan[1][warp] = own;
    block_barrier();
    const uint32_t totals = scan_warp(lane < kWarps ? scan[1][lane] : 0, join);
    const uint32_t before = __shfl_sync(0xffffffffU, totals, warp > 0 ? warp - 1 : 0);
    scan[0][threadIdx.x] = join(own, warp > 0 ? before : 0);
    block_barrier();
  }
#endif
};

}  // namespace tessera::attention::cuda
