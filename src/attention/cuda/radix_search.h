// The smallest key of a choice: a search in digits of up to 11 bits, by one block or by several together. A first digit
// that looks closely at the keys from `window` on keeps the keys of softmax masses, which share few exponents, from
// meeting in the same counter. The items that share the first digit are few; where they fit into shared memory, every
// block looks for the rest among them by itself, without the others and without reading all items again: the very few
// are compared with each other, more than that searched by further digits.
//
// The code runs once per launch, so loops are rolled but for the loads that should be in flight together, and each loop
// over the items appears once: a third of the instructions to fetch.
#pragma once

#include <type_traits>

#include "attention/cuda/host_device.h"
#include "attention/cuda/simt.h"

namespace tessera::attention::cuda {

constexpr int kSearchThreads = 1024;  // of a block
constexpr int kSearchBits = 11;
constexpr int kSearchBins = 1 << kSearchBits;
constexpr int kGroupBins = 32;  // groups of bins are searched before bins: little is read of other blocks
constexpr int kBinGroups = kSearchBins / kGroupBins;
constexpr int kCandidates = 2048;  // of a block
constexpr int kFew = 256;          // candidates of all blocks that are compared with each other
constexpr int kWindowShift = 16;   // keys of floats: 128 bins per power of two, sixteen powers
using SearchBlock = Block<kSearchThreads>;

struct SearchItem {
  uint32_t key = 0;     // 0: never taken
  uint32_t weight = 0;  // towards `need`
  uint32_t count = 0;   // towards `room`
};

// Keys low .. low + span of a round, in bins of 2^shift from `base` on; what lies below it is in the lowest bin, what
// lies beyond the highest bin is in that. Without branches: every item comes here.
struct SearchRange {
  uint32_t low, span;
  uint32_t base;
  int shift;

  TESSERA_SIMT bool is_one_key() const { return span == 0; }
  TESSERA_SIMT bool holds(uint32_t key) const { return key - low <= span; }
  TESSERA_SIMT int bin(uint32_t key) const {
    const uint32_t from_base = (key > base ? key : base) - base;
    const uint32_t bin = from_base >> shift;
    return static_cast<int>(bin < kSearchBins ? bin : kSearchBins - 1);
  }
  TESSERA_SIMT int bins() const { return bin(low + span) + 1; }

  static TESSERA_SIMT SearchRange of(uint32_t low, uint32_t high) {
    int shift = 0;
    while ((high - low) >> shift >= kSearchBins) ++shift;
    return {low, high - low, low, shift};
  }
  // All keys, with a close look at sixteen powers of two from `window` on; 0: with none.
  static TESSERA_SIMT SearchRange around(uint32_t window) {
    constexpr uint32_t kBin = 1U << kWindowShift;
    constexpr uint32_t kHighest = 0xffffffffU - kSearchBins * kBin;
    if (window == 0) return of(0, 0xffffffffU);
    if (window < kBin) window = kBin;
    return {0, 0xffffffffU, (window < kHighest ? window : kHighest) - kBin, kWindowShift};
  }
  // The keys of one bin.
  TESSERA_SIMT SearchRange narrow(int bin) const {
    const uint32_t first = base + (static_cast<uint32_t>(bin) << shift);
    const uint32_t last = first + ((1U << shift) - 1);
    return of(bin == 0 ? low : first, bin == bins() - 1 ? low + span : last);
  }
};

// Items 0 .. size - 1. load(i) reads, make(i, what was read) makes a SearchItem of it: loads of a thread's items,
// kAtOnce of them, are under way before any of them is looked at.
template <int kAtOnce, typename Load, typename Make>
struct SearchItems {
  static constexpr int kBatch = kAtOnce;
  int32_t size = 0;
  Load load;
  Make make;

  TESSERA_SIMT int32_t count() const { return size; }
  TESSERA_SIMT SearchItem item(int32_t i) const { return make(i, load(i)); }
  // body(number of the first item, items)
  template <typename Body>
  TESSERA_SIMT void each_part(const Body& body) const {
    body(0, *this);
  }
};
template <int kAtOnce, typename Load, typename Make>
TESSERA_SIMT inline SearchItems<kAtOnce, Load, Make> search_items(int32_t size, const Load& load, const Make& make) {
  return {size, load, make};
}

// One after the other.
template <typename First, typename Second>
struct JoinedItems {
  First first;
  Second second;

  TESSERA_SIMT int32_t count() const { return first.size + second.size; }
  TESSERA_SIMT SearchItem item(int32_t i) const { return i < first.size ? first.item(i) : second.item(i - first.size); }
  template <typename Body>
  TESSERA_SIMT void each_part(const Body& body) const {
    body(0, first);
    body(first.size, second);
  }
};
template <typename First, typename Second>
JoinedItems(First, Second) -> JoinedItems<First, Second>;

struct alignas(16) FewItem {  // one load
  uint32_t key, weight, count, unused;
};

// Each block has one, or what derives from it, equal but for the counters and candidates.
struct SearchShared {
  uint32_t weight[kSearchBins + kBinGroups];  // of bins, then of groups of bins
  uint32_t count[kSearchBins + kBinGroups];
  CountPair pairs[SearchBlock::kPairs];  // of threads, to be scanned; see ordered_items.h
  int32_t candidates[kCandidates];       // numbers of the block's items in the range, in any order
  uint32_t candidate_count;
  SearchRange range;
  uint32_t threshold;
  uint32_t need;  // set before the search; afterwards what the keys equal to the threshold must bring
  uint32_t room;
  FewItem few[kFew];
  uint32_t few_sums[4][kFew];  // of each: what keys above its own weigh and count, and with those equal to it
  uint32_t few_found;          // 1 + the number of the last item wanted
};

TESSERA_SIMT inline bool is_reached(const SearchShared& own, const CountPair& sum) {
  return sum.first >= own.need || sum.second >= own.room;
}

template <typename Team>
TESSERA_SIMT inline void clear_bins(SearchShared& own, int thread) {
  TESSERA_ROLLED
  for (int i = Team::within(thread); i < kSearchBins + kBinGroups; i += Team::kBlockThreads) {
    own.weight[i] = own.count[i] = 0;
  }
}

// An item of the range. Of the lowest bin nothing need be known; key 0 is always there.
template <typename Team>
TESSERA_SIMT inline void count_item(SearchShared& own, const SearchRange& range, const SearchItem& item) {
  const int bin = range.bin(item.key);
  if (bin == 0) return;
  Team::add(&own.weight[bin], item.weight);
  if (item.count != 0) Team::add(&own.count[bin], item.count);
}

// visit(number, item) for each item of the thread.
template <typename Team, typename Items, typename Visit>
TESSERA_SIMT inline void visit_items(int thread, const Items& items, const Visit& visit) {
  items.each_part([&](int32_t number, const auto& part) {
    constexpr int kBatch = std::remove_cvref_t<decltype(part)>::kBatch;
    TESSERA_ROLLED
    for (int32_t first = thread; first < part.size; first += kBatch * Team::kThreads) {
      decltype(part.load(0)) batch[kBatch];
      TESSERA_UNROLL
      for (int k = 0; k < kBatch; ++k) {
        const int32_t i = first + k * Team::kThreads;
        batch[k] = part.load(i < part.size ? i : part.size - 1);
      }
      TESSERA_UNROLL
      for (int k = 0; k < kBatch; ++k) {
        const int32_t i = first + k * Team::kThreads;
        if (i < part.size) visit(number + i, part.make(i, batch[k]));
      }
    }
  });
}

// Of the keys in the range, each block those of its threads: counts them in bins, or collects them as candidates.
template <typename Team, typename Items, typename Shared>
TESSERA_SIMT inline void read_items(const Team& team, const Items& items, bool collects, Shared& shared) {
  team.each_block([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    if (Team::within(thread) == 0) own.candidate_count = 0;
    if (!collects) clear_bins<Team>(own, thread);
  });
  team.each_block([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    const SearchRange range = own.range;
    visit_items<Team>(thread, items, [&](int32_t number, const SearchItem& item) {
      if (!range.holds(item.key)) return;
      if (!collects) return count_item<Team>(own, range, item);
      if (item.key == 0) return;
      const uint32_t at = Team::next(&own.candidate_count);
      if (at < kCandidates) own.candidates[at] = number;
    });
  });
}

// Candidates of all blocks; -1 when some had no room.
template <typename Team, typename Shared>
TESSERA_SIMT inline int32_t count_collected(const Team& team, const Shared& shared) {
  team.each([](int) {});  // all have collected
  int32_t sum = 0;
  bool fit = true;
  for (int block = 0; block < Team::kBlocks; ++block) {
    const uint32_t count = Team::peer(shared, block).candidate_count;
    fit &= count <= kCandidates;
    sum += static_cast<int32_t>(count);
  }
  return fit ? sum : -1;
}

// Of all blocks' candidates, each block by itself.
template <typename Team, typename Items, typename Shared>
TESSERA_SIMT inline void count_candidates(const Team& team, const Items& items, Shared& shared) {
  team.each_block([&](int thread) { clear_bins<Team>(Team::part(shared, thread), thread); });
  team.each_block([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    TESSERA_ROLLED
    for (int block = 0; block < Team::kBlocks; ++block) {
      const SearchShared& from = Team::peer(shared, block);
      const auto count = static_cast<int32_t>(from.candidate_count);
      TESSERA_ROLLED
      for (int32_t c = Team::within(thread); c < count; c += Team::kBlockThreads) {
        const SearchItem item = items.item(from.candidates[c]);
        if (own.range.holds(item.key)) count_item<Team>(own, own.range, item);
      }
    }
  });
}

// Sums of the block's bins, by groups.
template <typename Team>
TESSERA_SIMT inline void add_to_groups(SearchShared& own, int thread) {
  constexpr int kOwned = kSearchBins / Team::kBlockThreads;  // bins of a thread
  static_assert(kGroupBins % kOwned == 0);
  const int first = Team::within(thread) * kOwned;
  CountPair sum;
  TESSERA_UNROLL
  for (int k = 0; k < kOwned; ++k) sum = sum_of(sum, {own.weight[first + k], own.count[first + k]});
  const int group = kSearchBins + first / kGroupBins;
  if (sum.first != 0) Team::add(&own.weight[group], sum.first);
  if (sum.second != 0) Team::add(&own.count[group], sum.second);
}

// Counters that a search for the last item wanted goes down, from number first + size - 1 on.
struct Counters {
  int first, size;
  CountPair above;  // of what lies above them
};

struct FoundCounter {
  int number;
  CountPair above;
};

// alone: the block's own counters are those of all items.
template <typename Team, typename Shared>
TESSERA_SIMT inline CountPair total_of(const Shared& shared, const SearchShared& own, int number, bool alone) {
  if (alone) return {own.weight[number], own.count[number]};
  CountPair total;
  TESSERA_UNROLL
  for (int block = 0; block < Team::kBlocks; ++block) {
    const SearchShared& from = Team::peer(shared, block);
    total = sum_of(total, {from.weight[number], from.count[number]});
  }
  return total;
}

// The first counter at which `need` or `room` is reached; the last when none is. Found by the leading warp together,
// two counters a lane.
template <typename Team, typename Shared>
TESSERA_SIMT inline FoundCounter find_counter(const Shared& shared, const SearchShared& own, const Counters& from,
                                              bool alone) {
#if defined(__CUDA_ARCH__)
  const int number = from.first + from.size - 1 - 2 * static_cast<int>(threadIdx.x);
  const CountPair one = number >= from.first ? total_of<Team>(shared, own, number, alone) : CountPair{};
  const CountPair two = number > from.first ? total_of<Team>(shared, own, number - 1, alone) : CountPair{};
  const CountPair both = sum_of(one, two);
  const CountPair scan = sum_of(from.above, Team::scan_warp(both));
  const CountPair above_one{scan.first - both.first, scan.second - both.second};
  const CountPair above_two = sum_of(above_one, one);
  const bool at_one = number >= from.first && (is_reached(own, above_two) || number == from.first);
  const bool at_two = number > from.first && (is_reached(own, scan) || number - 1 == from.first);
  const int lane = __ffs(static_cast<int>(__ballot_sync(0xffffffffU, at_one || at_two))) - 1;
  const CountPair above = at_one ? above_one : above_two;
  return {__shfl_sync(0xffffffffU, at_one ? number : number - 1, lane),
          {__shfl_sync(0xffffffffU, above.first, lane), __shfl_sync(0xffffffffU, above.second, lane)}};
#else
  CountPair above = from.above;
  for (int number = from.first + from.size - 1;; --number) {
    const CountPair with = sum_of(above, total_of<Team>(shared, own, number, alone));
    if (number == from.first || is_reached(own, with)) return {number, above};
    above = with;
  }
#endif
}

// Narrows the range to the bin that holds the last item wanted. Every block finds it for itself.
template <typename Team, typename Shared>
TESSERA_SIMT inline void find_bin(const Team& team, Shared& shared, bool alone) {
  static_assert(kBinGroups <= 64 && kGroupBins <= 64);
  team.each_block([&](int thread) { add_to_groups<Team>(Team::part(shared, thread), thread); });
  if (!alone) team.each([](int) {});  // the others' counters are complete
  team.each_block([&](int thread) {
    if (!Team::leads(thread)) return;
    SearchShared& own = Team::part(shared, thread);
    const int bins = own.range.bins();
    const int groups = (bins + kGroupBins - 1) / kGroupBins;
    const FoundCounter group = find_counter<Team>(shared, own, {kSearchBins, groups, {}}, alone);
    const int first = (group.number - kSearchBins) * kGroupBins;
    const int size = bins - first < kGroupBins ? bins - first : kGroupBins;
    const FoundCounter bin = find_counter<Team>(shared, own, {first, size, group.above}, alone);
    Team::warp_barrier();  // all lanes have read what lane 0 writes
    if (Team::within(thread) != 0) return;
    own.range = own.range.narrow(bin.number);
    own.need -= bin.above.first;
    own.room -= bin.above.second;
  });
  if (!alone) team.each([](int) {});  // all have read before anyone clears counters
}

// Puts the candidates of all blocks side by side. all: the items themselves are the candidates.
template <typename Team, typename Items, typename Shared>
TESSERA_SIMT inline void gather_few(const Items& items, bool all, int thread, Shared& shared) {
  SearchShared& own = Team::part(shared, thread);
  const int t = Team::within(thread);
  for (int i = t; i < 4 * kFew; i += Team::kBlockThreads) own.few_sums[i / kFew][i % kFew] = 0;
  int32_t number = all && t < items.count() ? t : -1;
  int begin = 0;
  for (int block = 0; block < Team::kBlocks && !all; ++block) {
    const SearchShared& from = Team::peer(shared, block);
    const auto count = static_cast<int>(from.candidate_count);
    if (t >= begin && t < begin + count) number = from.candidates[t - begin];
    begin += count;
  }
  if (t == 0) own.few_found = 0;
  if (number < 0) return;
  const SearchItem item = items.item(number);
  own.few[t] = {item.key, item.weight, item.count, 0};
}

// What lies above one of `size` items and what is equal to it, by several threads each.
template <typename Team>
TESSERA_SIMT inline void compare_few(int size, int thread, SearchShared& own) {
  constexpr int kParts = Team::kBlockThreads / kFew;
  const int t = Team::within(thread) % kFew;
  if (t >= size) return;
  const uint32_t key = own.few[t].key;
  CountPair above;
  CountPair with;
  TESSERA_BATCHED
  for (int i = Team::within(thread) / kFew; i < size; i += kParts) {
    const FewItem other = own.few[i];
    const CountPair pair{other.weight, other.count};
    if (other.key > key) above = sum_of(above, pair);
    if (other.key >= key) with = sum_of(with, pair);
  }
  Team::add(&own.few_sums[0][t], above.first);
  Team::add(&own.few_sums[1][t], above.second);
  Team::add(&own.few_sums[2][t], with.first);
  Team::add(&own.few_sums[3][t], with.second);
}

// The range's last item wanted, among `size` <= kFew items that lie side by side. When none is, the range's end: the
// upper one where nothing is wanted, else the lower one.
template <typename Team, typename Items, typename Shared>
TESSERA_SIMT inline void search_few(const Team& team, const Items& items, bool all, int size, Shared& shared) {
  team.each_block([&](int thread) { gather_few<Team>(items, all, thread, shared); });
  team.each_block([&](int thread) { compare_few<Team>(size, thread, Team::part(shared, thread)); });
  team.each_block([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    const int t = Team::within(thread);
    if (t >= size || is_reached(own, {own.few_sums[0][t], own.few_sums[1][t]})) return;
    // Several when their keys are equal: any of them.
    if (is_reached(own, {own.few_sums[2][t], own.few_sums[3][t]})) {
      Team::highest(&own.few_found, static_cast<uint32_t>(t) + 1);
    }
  });
  team.each_block([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    if (Team::within(thread) != 0) return;
    const SearchRange range = own.range;
    if (own.few_found == 0) {
      const uint32_t end = is_reached(own, {}) ? range.low + range.span : range.low;
      own.range = SearchRange::of(end, end);
      return;
    }
    const uint32_t at = own.few_found - 1;
    own.range = SearchRange::of(own.few[at].key, own.few[at].key);
    own.need -= own.few_sums[0][at];
    own.room -= own.few_sums[1][at];
  });
}

// Items from the largest key down, until their weights reach shared.need or their counts shared.room, which every part
// has. No sum may reach 2^32. window: any key gives the same result; one a little below the threshold gives it soon.
// Cost: all items twice; four times when many share the first digit.
template <typename Team, typename Items, typename Shared>
TESSERA_SIMT inline void search_threshold(const Team& team, const Items& items, uint32_t window, Shared& shared) {
  team.each_block([&](int thread) {
    if (Team::within(thread) == 0) Team::part(shared, thread).range = SearchRange::around(window);
  });
  const bool all = items.count() <= kFew;
  auto few = static_cast<int>(all ? items.count() : -1);  // how many are left, once they are few
  bool alone = false;
  bool collects = false;
  while (!shared.range.is_one_key()) {
    if (few >= 0) {
      search_few(team, items, all, few, shared);
      break;
    }
    if (alone) {
      count_candidates(team, items, shared);
    } else {
      read_items(team, items, collects, shared);
    }
    if (collects && !alone) {
      collects = false;
      const int32_t candidates = count_collected(team, shared);
      alone = candidates >= 0;
      if (alone && candidates <= kFew) few = candidates;
      continue;
    }
    find_bin(team, shared, alone);
    collects = true;
  }
  team.each_block([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    if (Team::within(thread) == 0) own.threshold = own.range.low;
  });
}

}  // namespace tessera::attention::cuda
