// Kernel bodies that the host can run too: a block is a sequence of phases with a barrier after each.
//
//   block.each([&](int thread) { ... });   // every thread once; shared memory written here is seen by the next phase
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

template <int kThreadCount>
struct Block {
  static constexpr int kThreads = kThreadCount;
  bool descending = false;  // host only: order of the threads within a phase

  template <typename Body>
  TESSERA_SIMT void each(Body&& body) const {
#if defined(__CUDA_ARCH__)
    body(static_cast<int>(threadIdx.x));
    __syncthreads();
#else
    for (int i = 0; i < kThreads; ++i) body(descending ? kThreads - 1 - i : i);
#endif
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
  TESSERA_SIMT void inclusive_scan(uint32_t (&scan)[2][kThreads]) const {
    scan_with(scan, [](uint32_t a, uint32_t b) { return a + b; });
  }
  // The same with the highest in place of the sum.
  TESSERA_SIMT void inclusive_highest(uint32_t (&scan)[2][kThreads]) const {
    scan_with(scan, [](uint32_t a, uint32_t b) { return a > b ? a : b; });
  }

 private:
  // join(x, 0) is x.
  template <typename Join>
  TESSERA_SIMT void scan_with(uint32_t (&scan)[2][kThreads], const Join& join) const {
    int from = 0;
    for (int step = 1; step < kThreads; step *= 2, from = 1 - from) {
      each([&](int thread) {
        const uint32_t before = thread >= step ? scan[from][thread - step] : 0;
        scan[1 - from][thread] = join(scan[from][thread], before);
      });
    }
    if (from == 1) each([&](int thread) { scan[0][thread] = scan[1][thread]; });
  }
};

}  // namespace tessera::attention::cuda
