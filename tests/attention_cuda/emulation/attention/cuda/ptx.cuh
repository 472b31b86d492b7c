// The instructions of src/attention/cuda/ptx.cuh as a model on the CPU: one thread per GPU thread, one block. It stands
// in the include path before the real file, so that the kernel's own source runs. Copies happen the moment they are
// issued, the earliest that the hardware could overwrite a stage; products the moment they are issued, from whatever
// lies in memory.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <atomic>
#include <barrier>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

// The runtime's headers define the other qualifiers away for a host compiler.
#undef __launch_bounds__
#define __launch_bounds__(...)
#ifndef __grid_constant__
#define __grid_constant__
#endif

namespace tessera::attention::cuda {

constexpr int kBlockThreads = 384;

// Dynamic shared memory of the one block; addresses begin at kSharedBase, as static variables would come first.
alignas(1024) inline unsigned char raw[232 * 1024];
constexpr uint32_t kSharedBase = 2048;

struct EmulatedMap {
  const uint16_t* data;
  int64_t rows, heads, head_dim, row_stride, head_stride, box_rows;
};
static_assert(sizeof(EmulatedMap) <= sizeof(CUtensorMap));

struct Warp {
  std::barrier<> meet{32};
  uint32_t words[32][4];
};

struct EmulatedBarrier {
  int64_t count = 0, arrivals = 0, bytes = 0;
  uint32_t phase = 0;
};

struct NamedBarrier {
  int arrived = 0;
  int generation = 0;
};

struct Block {
  explicit Block(int threads = kBlockThreads) : all(threads) {}
  std::mutex mutex;
  std::condition_variable changed;
  std::map<const void*, EmulatedBarrier> barriers;
  NamedBarrier named[16];
  std::barrier<> all;
  std::unique_ptr<Warp[]> warps = std::make_unique<Warp[]>(kBlockThreads / 32);
};
inline std::unique_ptr<Block> the_block;

struct ThreadIndex {
  unsigned x;
};
inline thread_local ThreadIndex threadIdx;
struct BlockIndex {
  unsigned x, y;
};
inline BlockIndex blockIdx;  // of the one block
inline ThreadIndex blockDim = {kBlockThreads};

// Runs one block: body() on every thread, with NaN wherever nothing was written to shared memory.
template <typename Body>
void run_block(unsigned thread_count, const Body& body) {
  std::memset(raw, 0xff, sizeof(raw));
  the_block = std::make_unique<Block>(static_cast<int>(thread_count));
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < thread_count; ++t) {
    threads.emplace_back([&, t] {
      threadIdx.x = t;
      body();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

inline Warp& this_warp() { return the_block->warps[threadIdx.x / 32]; }

inline uint32_t shuffle(uint32_t value, unsigned source_lane) {
  Warp& warp = this_warp();
  warp.words[threadIdx.x % 32][0] = value;
  warp.meet.arrive_and_wait();
  uint32_t got = warp.words[source_lane][0];
  warp.meet.arrive_and_wait();
  return got;
}
inline uint32_t __shfl_xor_sync(unsigned, uint32_t value, int mask) {
  return shuffle(value, threadIdx.x % 32 ^ static_cast<unsigned>(mask));
}
inline float __shfl_xor_sync(unsigned, float value, int mask) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = shuffle(bits, threadIdx.x % 32 ^ static_cast<unsigned>(mask));
  std::memcpy(&value, &bits, 4);
  return value;
}
inline int __shfl_sync(unsigned, int value, int lane) {
  return static_cast<int>(shuffle(static_cast<uint32_t>(value), static_cast<unsigned>(lane)));
}
inline uint32_t __ballot_sync(unsigned, bool flag) {
  Warp& warp = this_warp();
  warp.words[threadIdx.x % 32][0] = flag ? 1 : 0;
  warp.meet.arrive_and_wait();
  uint32_t bits = 0;
  for (int lane = 0; lane < 32; ++lane) bits |= warp.words[lane][0] << lane;
  warp.meet.arrive_and_wait();
  return bits;
}
template <typename Combine>
int reduce(int value, const Combine& combine) {
  Warp& warp = this_warp();
  warp.words[threadIdx.x % 32][0] = static_cast<uint32_t>(value);
  warp.meet.arrive_and_wait();
  for (int lane = 0; lane < 32; ++lane) value = combine(value, static_cast<int>(warp.words[lane][0]));
  warp.meet.arrive_and_wait();
  return value;
}
inline int __reduce_min_sync(unsigned, int value) {
  return reduce(value, [](int a, int b) { return a < b ? a : b; });
}
inline int __reduce_max_sync(unsigned, int value) {
  return reduce(value, [](int a, int b) { return a > b ? a : b; });
}
inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }
inline void __syncwarp() { this_warp().meet.arrive_and_wait(); }
inline void __syncthreads() { the_block->all.arrive_and_wait(); }
inline int atomicAdd(int* counter, int value) { return std::atomic_ref<int>(*counter).fetch_add(value); }
inline float atomicAdd(float* sum, float value) { return std::atomic_ref<float>(*sum).fetch_add(value); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

namespace ptx {

inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - raw) + kSharedBase;
}

inline EmulatedBarrier& find(uint64_t* barrier) {
  auto found = the_block->barriers.find(barrier);
  if (found == the_block->barriers.end()) throw std::logic_error("a barrier was used before it was initialised");
  return found->second;
}

inline void settle(EmulatedBarrier& barrier) {
  if (barrier.arrivals > barrier.count) throw std::logic_error("too many arrivals at a barrier");
  if (barrier.arrivals == barrier.count && barrier.bytes == 0) {
    barrier.arrivals = 0;
    ++barrier.phase;
    the_block->changed.notify_all();
  }
}

inline void mbarrier_init(uint64_t* barrier, uint32_t count) {
  std::lock_guard lock(the_block->mutex);
  the_block->barriers[barrier] = {count, 0, 0, 0};
}
inline void fence_barrier_init() {}
inline void mbarrier_arrive(uint64_t* barrier) {
  std::lock_guard lock(the_block->mutex);
  EmulatedBarrier& found = find(barrier);
  ++found.arrivals;
  settle(found);
}
inline void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
  std::lock_guard lock(the_block->mutex);
  EmulatedBarrier& found = find(barrier);
  ++found.arrivals;
  found.bytes += bytes;
  settle(found);
}
inline void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  std::unique_lock lock(the_block->mutex);
  EmulatedBarrier& found = find(barrier);
  the_block->changed.wait(lock, [&] { return (found.phase & 1) != parity; });
}
inline void complete(uint64_t* barrier, int64_t bytes) {
  std::lock_guard lock(the_block->mutex);
  EmulatedBarrier& found = find(barrier);
  found.bytes -= bytes;
  settle(found);
}

inline void tma_load_3d(void* shared, const CUtensorMap* map, uint64_t* barrier, int channel, int head, int row) {
  EmulatedMap from;
  std::memcpy(&from, map, sizeof(from));
  auto* base = static_cast<unsigned char*>(shared);
  uint32_t address = shared_address(shared);
  if (address % 1024 != 0) throw std::logic_error("a swizzled box must start at a multiple of 1024 bytes");
  for (int64_t r = 0; r < from.box_rows; ++r) {
    for (int64_t c = 0; c < 64; ++c) {
      bool inside = row + r < from.rows && row + r >= 0 && head < from.heads && channel + c < from.head_dim;
      uint16_t value = inside ? from.data[(row + r) * from.row_stride + head * from.head_stride + channel + c] : 0;
      uint32_t offset = static_cast<uint32_t>(r * 128 + c * 2);
      offset ^= (offset >> 7 & 7) << 4;
      std::memcpy(base + offset, &value, 2);
    }
  }
  complete(barrier, from.box_rows * 128);
}
inline void bulk_load(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  if (bytes % 16 != 0 || shared_address(shared) % 16 != 0) throw std::logic_error("a bulk copy must be aligned to 16");
  std::memcpy(shared, global, bytes);
  complete(barrier, bytes);
}

inline void wgmma_fence() {}
inline void wgmma_commit() {}
template <int kPending>
void wgmma_wait() {}
template <typename T, int kCount>
void keep_registers(T (&)[kCount]) {}
template <int kRegisters>
void register_increase() {}
template <int kRegisters>
void register_decrease() {}

inline void named_barrier_arrive(int index, int threads) {
  std::lock_guard lock(the_block->mutex);
  NamedBarrier& named = the_block->named[index];
  if (++named.arrived == threads) {
    named.arrived = 0;
    ++named.generation;
    the_block->changed.notify_all();
  }
}
inline void named_barrier_sync(int index, int threads) {
  std::unique_lock lock(the_block->mutex);
  NamedBarrier& named = the_block->named[index];
  int generation = named.generation;
  if (++named.arrived == threads) {
    named.arrived = 0;
    ++named.generation;
    the_block->changed.notify_all();
    return;
  }
  the_block->changed.wait(lock, [&] { return named.generation != generation; });
}

inline float exp2_approximate(float x) { return std::exp2(x); }

template <typename Element>
uint32_t pack(float low, float high) {
  Element pair[2] = {Element(low), Element(high)};
  uint32_t bits;
  std::memcpy(&bits, pair, 4);
  return bits;
}

}  // namespace ptx
}  // namespace tessera::attention::cuda
