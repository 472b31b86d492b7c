// Visits the items of two classes in ascending order, each with how many of either class come before it, by all threads
// of a team. On the device a warp tells 32 neighbouring items apart by votes, so that items are read once and side by
// side; the bits of the votes wait in shared memory while the counts are added up.
//
//   const CountPair all = visit_in_order(team, size, class_of, take, shared);
#pragma once

#include "attention/cuda/radix_search.h"

namespace tessera::attention::cuda {

constexpr int kMostWords = 2;  // of 32 items, of a thread at a time

// The items that a team visits at a time.
struct ItemSpan {
  int32_t first, size;
  int32_t words;  // of a thread
};

// Marks the thread's items, on the device those of its warp, in own.weight (class 1) and own.count (class 2).
template <typename Team, typename ClassOf>
TESSERA_SIMT inline void mark_items(const ItemSpan& span, int thread, const ClassOf& class_of, SearchShared& own) {
#if defined(__CUDA_ARCH__)
  constexpr int kBatch = 8;  // rows of 32 items, whose loads are in flight together
  const int lane = thread % 32;
  const int32_t rows = 32 * span.words;
  const int32_t begin = (thread - lane) * rows;
  const int32_t word = (Team::within(thread) - lane) * span.words;
  TESSERA_ROLLED
  for (int32_t row = 0; row < rows; row += kBatch) {
    int classes[kBatch];
    TESSERA_UNROLL
    for (int k = 0; k < kBatch; ++k) {
      const int32_t i = begin + 32 * (row + k) + lane;
      const int found = class_of(span.first + (i < span.size ? i : span.size - 1));
      classes[k] = i < span.size ? found : 0;
    }
    TESSERA_UNROLL
    for (int k = 0; k < kBatch; ++k) {
      const uint32_t ones = __ballot_sync(0xffffffffU, classes[k] == 1);
      const uint32_t twos = __ballot_sync(0xffffffffU, classes[k] == 2);
      if (lane != k) continue;
      own.weight[word + row + k] = ones;
      own.count[word + row + k] = twos;
    }
  }
#else
  for (int32_t w = 0; w < span.words; ++w) {
    uint32_t bits[3] = {};
    for (int32_t b = 0; b < 32; ++b) {
      const int32_t i = (thread * span.words + w) * 32 + b;
      if (i < span.size) bits[class_of(span.first + i)] |= 1U << b;
    }
    own.weight[Team::within(thread) * span.words + w] = bits[1];
    own.count[Team::within(thread) * span.words + w] = bits[2];
  }
#endif
}

// take(i, class, counts before i) for the thread's marked items.
template <typename Team, typename Take>
TESSERA_SIMT inline void take_items(const ItemSpan& span, int thread, CountPair before, const Take& take,
                                    const SearchShared& own) {
  TESSERA_ROLLED
  for (int32_t w = 0; w < span.words; ++w) {
    const uint32_t ones = own.weight[Team::within(thread) * span.words + w];
    const uint32_t twos = own.count[Team::within(thread) * span.words + w];
    const int32_t first = span.first + (thread * span.words + w) * 32;
    for (uint32_t bits = ones | twos; bits != 0; bits &= bits - 1) {
      const uint32_t lowest = bits & (0 - bits);
      const bool one = (ones & lowest) != 0;
      take(first + static_cast<int32_t>(count_bits(lowest - 1)), one ? 1 : 2, before);
      before = sum_of(before, {one ? 1U : 0U, one ? 0U : 1U});
    }
  }
}

// After scan_pairs(): what all threads before this one, of its block and of earlier ones, add up to.
template <typename Team, typename Shared>
TESSERA_SIMT inline CountPair pairs_before(const Shared& shared, int thread) {
  CountPair sum = Team::within(thread) > 0 ? Team::part(shared, thread).pairs[Team::within(thread) - 1] : CountPair{};
  TESSERA_ROLLED
  for (int block = 0; block < Team::rank(thread); ++block) {
    sum = sum_of(sum, Team::peer(shared, block).pairs[Team::kBlockThreads - 1]);
  }
  return sum;
}

// class_of(i): 0, 1 or 2, read before any take(i, class, counts of items before i), which comes for classes 1 and 2.
// Returns the counts of all. Cost: one read of the items.
template <typename Team, typename ClassOf, typename Take, typename Shared>
TESSERA_SIMT inline CountPair visit_in_order(const Team& team, int32_t size, const ClassOf& class_of, const Take& take,
                                             Shared& shared) {
  constexpr int32_t kRow = 32 * Team::kThreads;
  static_assert(kMostWords * Team::kBlockThreads <= kSearchBins);
  CountPair base;
  TESSERA_ROLLED
  for (int32_t first = 0; first < size; first += kMostWords * kRow) {
    const int32_t rest = size - first;
    const int32_t words = rest > kRow ? kMostWords : 1;
    const ItemSpan span{first, rest < words * kRow ? rest : words * kRow, words};
    team.each_block([&](int thread) { mark_items<Team>(span, thread, class_of, Team::part(shared, thread)); });
    team.each_block([&](int thread) {
      SearchShared& own = Team::part(shared, thread);
      CountPair sum;
      for (int32_t w = Team::within(thread) * words; w < (Team::within(thread) + 1) * words; ++w) {
        sum = sum_of(sum, {count_bits(own.weight[w]), count_bits(own.count[w])});
      }
      own.pairs[Team::within(thread)] = sum;
    });
    team.scan_pairs(shared);
    team.each([](int) {});  // the others' scans are done
    team.each_block([&](int thread) {
      const CountPair before = sum_of(base, pairs_before<Team>(shared, thread));
      take_items<Team>(span, thread, before, take, Team::part(shared, thread));
    });
    base = sum_of(base, pairs_before<Team>(shared, Team::kThreads));
    team.each([](int) {});  // all have read before anyone scans again
  }
  return base;
}

}  // namespace tessera::attention::cuda
