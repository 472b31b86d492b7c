// Walks over items in ascending order by many threads: first how many of two classes each thread has, then, with the
// counts before it, the place of every item among those of its class. On the device a warp reads 32 neighbouring items
// at a time and tells them apart by votes; on the host a thread walks its own. Pairs count items of class 1 and of
// class 2.
//
//   team.each([&](int thread) { ... = count_items<Team>(thread, size, class_of); });
//   ... an inclusive scan of what it returned, then, with the sums `before` of all earlier threads
//   team.each([&](int thread) { place_items<Team>(thread, size, before, class_of, take); });
#pragma once

#include "attention/cuda/simt.h"

namespace tessera::attention::cuda {

// A multiple of 32.
template <typename Team>
TESSERA_SIMT inline int32_t items_per_thread(int32_t size) {
  constexpr int32_t kAtOnce = 32 * Team::kThreads;
  return (size / kAtOnce + (size % kAtOnce != 0 ? 1 : 0)) * 32;
}

// The counts after the thread's items; on the device after those of its whole warp, whose first counts are `at`.
// class_of(i): 0, 1 or 2. take(i, item class, counts before i) is called for classes 1 and 2.
template <typename Team, typename ClassOf, typename Take>
TESSERA_SIMT inline CountPair walk_items(int thread, int32_t size, CountPair at, const ClassOf& class_of,
                                         const Take& take) {
  const int32_t own = items_per_thread<Team>(size);
#if defined(__CUDA_ARCH__)
  constexpr int kBatch = 8;  // rows of 32 items, whose loads are in flight together
  const int lane = thread % 32;
  const uint32_t below = (1U << lane) - 1;
  const int64_t first = int64_t{thread - lane} * own;
  for (int32_t row = 0; row < own && first + 32 * row < size; row += kBatch) {
    const auto begin = static_cast<int32_t>(first) + 32 * row + lane;
    int classes[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int32_t i = begin + 32 * k;
      const int found = class_of(i < size ? i : size - 1);
      classes[k] = i < size ? found : 0;
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const uint32_t ones = __ballot_sync(0xffffffffU, classes[k] == 1);
      const uint32_t twos = __ballot_sync(0xffffffffU, classes[k] == 2);
      const CountPair here{at.first + __popc(ones & below), at.second + __popc(twos & below)};
      if (classes[k] != 0) take(begin + 32 * k, classes[k], here);
      at.first += __popc(ones);
      at.second += __popc(twos);
    }
  }
#else
  const int64_t first = int64_t{thread} * own;
  for (int64_t i = first; i < first + own && i < size; ++i) {
    const auto item = static_cast<int32_t>(i);
    const int found = class_of(item);
    if (found != 0) take(item, found, at);
    at.first += found == 1 ? 1 : 0;
    at.second += found == 2 ? 1 : 0;
  }
#endif
  return at;
}

// What the thread brings to a scan over all threads; on the device lane 0 brings what its warp has.
template <typename Team, typename ClassOf>
TESSERA_SIMT inline CountPair count_items(int thread, int32_t size, const ClassOf& class_of) {
  const CountPair counts = walk_items<Team>(thread, size, {}, class_of, [](int32_t, int, const CountPair&) {});
#if defined(__CUDA_ARCH__)
  if (thread % 32 != 0) return {};
#endif
  return counts;
}

// before: what the threads before this one brought. Returns the counts after the thread's items (the warp's).
template <typename Team, typename ClassOf, typename Take>
TESSERA_SIMT inline CountPair place_items(int thread, int32_t size, CountPair before, const ClassOf& class_of,
                                          const Take& take) {
#if defined(__CUDA_ARCH__)
  before = {__shfl_sync(0xffffffffU, before.first, 0), __shfl_sync(0xffffffffU, before.second, 0)};
#endif
  return walk_items<Team>(thread, size, before, class_of, take);
}

}  // namespace tessera::attention::cuda
