// The probe's passes over all keys on wgmma. A warpgroup of its own keeps the copy engine busy; each other has one
// query head and waits for nobody but the copies, so that one head's products run while others exponentiate. Which of a
// head's warps has which 16 rows turns with the head: rows that do not reach a range of keys cost a warp nothing there,
// and the warps of a scheduler are the same warp of every head.
#pragma once

#include "attention/cuda/layout.h"
#include "attention/cuda/probe_parts.cuh"
#include "attention/cuda/wgmma.cuh"

namespace tessera::attention::cuda {

constexpr int kProducerThreads = 128;  // a warpgroup, so that its registers can go to the others
constexpr int kProbeThreads = kProbeHeadsPerBlock * kHeadThreads + kProducerThreads;
// A block has what its threads enter with, 65,536 / 640 rounded down to a multiple of 8: who asks for more waits
// forever.
constexpr int kEntryRegisters = 96;
constexpr int kProducerRegisters = 24;
constexpr int kHeadRegisters = 112;
constexpr bool registers_suffice(int heads) {
  return kProducerThreads * kProducerRegisters + heads * kHeadThreads * kHeadRegisters <=
         (kProducerThreads + heads * kHeadThreads) * kEntryRegisters;
}
static_assert(kProbeThreads * kEntryRegisters <= 65536 && kProbeThreads * (kEntryRegisters + 8) > 65536);
static_assert(registers_suffice(1) && registers_suffice(kProbeHeadsPerBlock));
constexpr int kFirstBarrier = 1;  // named, one per head; 0 is __syncthreads

template <int kHeadDim, Pass kPass>
struct HopperProbeShape {
  static constexpr int kBoxes = (kHeadDim + kBoxChannels - 1) / kBoxChannels;
  static constexpr int kStepBytes = kBoxes * kProbeKeys * kBoxRowBytes;
  static constexpr int kWeightBytes = kPass == Pass::lines ? 4 * kProbeHeadsPerBlock * kProbeRows * kWeightPitch : 0;
  static constexpr int kFit = (192 * 1024 - kWeightBytes) / kStepBytes;
  static constexpr int kStages = kFit < 6 ? kFit : 6;
};

template <int kHeadDim, Pass kPass>
struct alignas(1024) HopperProbeShared {
  using Shape = HopperProbeShape<kHeadDim, kPass>;
  unsigned char keys[Shape::kStages][Shape::kStepBytes];  // swizzled boxes, see layout.h
  HeadSums sums[2][kProbeHeadsPerBlock];                  // of even and of odd steps
  float normaliser[kProbeHeadsPerBlock][kProbeRows];
  uint64_t full[Shape::kStages], empty[Shape::kStages];
  float weights[kPass == Pass::lines ? kProbeHeadsPerBlock : 1][kPass == Pass::lines ? kProbeRows * kWeightPitch : 1];
};

struct Steps {
  int first, last;
};

template <int kHeadDim, Pass kPass>
__device__ __forceinline__ void produce(HopperProbeShared<kHeadDim, kPass>& shared, const CUtensorMap& map, int kv_head,
                                        Steps steps) {
  using Shape = HopperProbeShape<kHeadDim, kPass>;
  int stage = 0;
  uint32_t parity = 1;
  for (int step = steps.first; step < steps.last; ++step) {
    ptx::mbarrier_wait(&shared.empty[stage], parity);
    ptx::mbarrier_arrive_expect(&shared.full[stage], Shape::kStepBytes);
#pragma unroll
    for (int box = 0; box < Shape::kBoxes; ++box) {
      ptx::tma_load_3d(shared.keys[stage] + box * kProbeKeys * kBoxRowBytes, &map, &shared.full[stage],
                       box * kBoxChannels, kv_head, step * kProbeKeys);
    }
    if (++stage == Shape::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

// One query head of a range of keys.
template <typename Element, int kHeadDim, Pass kPass>
class HeadProbe {
 public:
  using Shape = HopperProbeShape<kHeadDim, kPass>;

  __device__ __forceinline__ HeadProbe(HopperProbeShared<kHeadDim, kPass>& shared, const Probe& probe, const Place& at)
      : shared_(shared), probe_(probe), at_(at), scale_(probe.scale * 1.4426950408889634f) {
    load_queries(queries_, probe, at);
    first_own_ = __reduce_min_sync(0xffffffffu, min(queries_.own[0], queries_.own[1]));
    last_own_ = __reduce_max_sync(0xffffffffu, max(queries_.own[0], queries_.own[1]));
    if constexpr (kPass != Pass::statistics) {
      merge_statistics(shared.normaliser[at.slot], probe, at);
      meet();
      load_normaliser(normaliser_, shared.normaliser[at.slot], at);
    }
  }

  __device__ __forceinline__ void run(Steps steps) {
    int stage = 0;
    uint32_t parity = 0;
    for (int step = steps.first; step < steps.last; ++step) {
      Scores scores;
      ptx::mbarrier_wait(&shared_.full[stage], parity);
      multiply_step(scores, stage);
      if (at_.lane == 0) ptx::mbarrier_arrive(&shared_.empty[stage]);
      if (++stage == Shape::kStages) {
        stage = 0;
        parity ^= 1;
      }
      const bool reached = step * kProbeKeys <= last_own_;  // by some row of the warp
      if (reached && (step + 1) * kProbeKeys - 1 > first_own_) hide<kPass>(scores, queries_.own, probe_, at_, step);
      if constexpr (kPass == Pass::statistics) {
        if (reached) observe(statistics_, scores, scale_);
      } else {
        add_up(scores, step, reached, step + 1 == steps.last);
      }
      if constexpr (kPass == Pass::lines) add_diagonals(step, step == steps.first);
    }
    if constexpr (kPass == Pass::statistics) store_statistics(statistics_, probe_, at_);
    if constexpr (kPass == Pass::lines) store_diagonal(probe_, at_, steps.last, carried_, true);
  }

 private:
  __device__ __forceinline__ void meet() { ptx::named_barrier_sync(kFirstBarrier + at_.slot, kHeadThreads); }

  __device__ __forceinline__ void multiply_step(Scores& scores, int stage) {
    auto& flat = reinterpret_cast<float(&)[32]>(scores);
    const uint32_t keys = ptx::shared_address(shared_.keys[stage]);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      Wgmma<Element, kProbeKeys>::template registers<0>(
          flat, queries_.fragments[step], row_operand_descriptor(keys + row_operand_step(kProbeKeys, step)), step > 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::keep_registers(flat);
  }

  // Sums of the step's weights. Two steps have memory of their own, so one meeting per step is enough.
  __device__ __forceinline__ void add_up(Scores& scores, int step, bool reached, bool ends) {
    HeadSums& sums = shared_.sums[step % 2][at_.slot];
    if (reached) {
      weigh(scores, scale_, normaliser_);
    } else {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[n][i] = 0;
      }
    }
    if constexpr (kPass == Pass::spread) {
      if (reached) {
        sum_halves(sums, scores, at_);
        add_group_mass(group_mass_, scores);
      } else {
        clear_sums(sums, at_);
      }
      if (step % 2 == 1 || ends) store_group_mass(group_mass_, probe_, at_, step);
    } else {
      sum_columns(sums, scores, at_);
      store_weights(shared_.weights[at_.slot], scores, at_);
    }
    meet();
    store_columns<kPass == Pass::spread>(sums, probe_, at_, step);
  }

  __device__ __forceinline__ void add_diagonals(int step, bool seam) {
    const Diagonal sum = sum_diagonal(shared_.weights[at_.slot], at_.in_head);
    store_diagonal(probe_, at_, step, carried_ + sum.here, seam);
    carried_ = sum.below;
    meet();  // all have read before anyone writes again
  }

  HopperProbeShared<kHeadDim, kPass>& shared_;
  const Probe& probe_;
  const Place& at_;
  Queries<kHeadDim> queries_;
  RowStatistics statistics_;
  float scale_;
  float normaliser_[2] = {};
  float group_mass_[2] = {};
  float carried_ = 0;  // what the step before left for the diagonals of this one
  int first_own_, last_own_;
};

template <typename Element, int kHeadDim, Pass kPass>
__global__ void __launch_bounds__(kProbeThreads, 1)
    hopper_probe_kernel(const __grid_constant__ Probe probe, const __grid_constant__ CUtensorMap map) {
  using Shape = HopperProbeShape<kHeadDim, kPass>;
  extern __shared__ unsigned char raw[];
  auto& shared = *reinterpret_cast<HopperProbeShared<kHeadDim, kPass>*>((reinterpret_cast<uintptr_t>(raw) + 1023) &
                                                                        ~uintptr_t{1023});
  Place at = find_place(probe, static_cast<int>(blockDim.x - kProducerThreads) / kHeadThreads);
  const int heads = at.heads;
  const Steps steps{at.split * probe.range_steps,
                    min((at.split + 1) * probe.range_steps, (probe.key_rows + kProbeKeys - 1) / kProbeKeys)};
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      ptx::mbarrier_init(&shared.full[stage], 1);
      ptx::mbarrier_init(&shared.empty[stage], static_cast<uint32_t>(heads * kHeadWarps));
    }
    ptx::fence_barrier_init();
  }
  __syncthreads();
  if (at.slot == heads) {
    ptx::register_decrease<kProducerRegisters>();
    if (at.in_head == 0) produce<kHeadDim, kPass>(shared, map, at.kv_head, steps);
  } else {
    ptx::register_increase<kHeadRegisters>();
    at.part = (at.part + at.slot) % kHeadWarps;
    HeadProbe<Element, kHeadDim, kPass>(shared, probe, at).run(steps);
  }
}

}  // namespace tessera::attention::cuda
