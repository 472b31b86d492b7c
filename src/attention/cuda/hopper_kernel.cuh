// The Hopper kernel: persistent, 384 threads, one producer warpgroup and two consumers of 64 query rows each.
//
// Registers: the kernel enters with 168 per thread (65,536 / 384 rounded down to a multiple of 8). The producer gives
// most of them up and the consumers take them: 128 * producer + 256 * consumer = 64,512 = 384 * 168. A consumer at
// head_dim 128 and key tile 128 needs 64 (output) + 64 (scores) + 32 (weights) and some 40 more.
#pragma once

#include "attention/cuda/hopper_consumer.cuh"
#include "attention/cuda/hopper_producer.cuh"

namespace tessera::attention::cuda {

constexpr int kHopperThreads = 384;

struct RegisterBudget {
  int producer, consumer;
};
// The producer of bands keeps four rows of each of three units; with 72 it spills 112 bytes.
constexpr RegisterBudget register_budget(bool list, bool bands) {
  if (bands) return {88, 208};
  return list ? RegisterBudget{72, 216} : RegisterBudget{40, 232};
}
constexpr bool adds_up(RegisterBudget budget) { return 128 * budget.producer + 256 * budget.consumer == 384 * 168; }
static_assert(adds_up(register_budget(false, false)) && adds_up(register_budget(true, false)) &&
              adds_up(register_budget(true, true)));

template <typename Element, int kHeadDim, int kKeyTile, bool kList>
__global__ void __launch_bounds__(kHopperThreads, 1)
    hopper_attention(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work,
                     const __grid_constant__ HopperMaps maps, int* next_item) {
  constexpr RegisterBudget kBudget = register_budget(kList, kKeyTile == kBandTile);
  using Shape = HopperShape<kHeadDim, unit_rows(kHeadDim, kKeyTile)>;
  using Shared = HopperShared<kHeadDim, unit_rows(kHeadDim, kKeyTile)>;
  extern __shared__ unsigned char raw[];
  Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(raw) + 1023) & ~uintptr_t{1023});

  if (threadIdx.x == 0) {
    constexpr uint32_t kConsumerWarps = 8;
    ptx::mbarrier_init(&shared.queries_full, 1);
    ptx::mbarrier_init(&shared.queries_empty, kConsumerWarps);
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      ptx::mbarrier_init(&shared.keys_full[stage], 1);
      ptx::mbarrier_init(&shared.keys_empty[stage], kConsumerWarps);
      ptx::mbarrier_init(&shared.values_full[stage], 1);
      ptx::mbarrier_init(&shared.values_empty[stage], kConsumerWarps);
    }
    for (int i = 0; i < 2; ++i) {
      ptx::mbarrier_init(&shared.item_full[i], 1);
      ptx::mbarrier_init(&shared.item_empty[i], kConsumerWarps);
    }
    ptx::fence_barrier_init();
  }
  __syncthreads();

  // Uniform over each warp, and known to be.
  int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == 0) {
    ptx::register_decrease<kBudget.producer>();
    if (threadIdx.x == 0) Producer<kHeadDim, kKeyTile, kList>(problem, work, maps, shared).run(next_item);
  } else {
    ptx::register_increase<kBudget.consumer>();
    Consumer<Element, kHeadDim, kKeyTile, kList>(problem, work, shared, warpgroup - 1).run();
  }
}

// Bytes of dynamic shared memory, the room for alignment included.
template <int kHeadDim, int kKeyTile>
constexpr int hopper_shared_bytes() {
  constexpr int kBytes = static_cast<int>(sizeof(HopperShared<kHeadDim, unit_rows(kHeadDim, kKeyTile)>)) + 1024;
  static_assert(kBytes <= 227 * 1024);
  return kBytes;
}

}  // namespace tessera::attention::cuda
