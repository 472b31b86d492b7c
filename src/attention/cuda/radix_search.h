// The smallest key of a choice: a search in digits of up to 11 bits, by one block or by several together. A first digit
// that looks closely at the keys from `window` on keeps the keys of softmax masses, which share few exponents, from
// meeting in the same counter.
#pragma once

#include "attention/cuda/simt.h"

namespace tessera::attention::cuda {

constexpr int kSearchThreads = 1024;  // of a block
constexpr int kSearchBits = 11;
constexpr int kSearchBins = 1 << kSearchBits;
constexpr int kWindowShift = 16;  // keys of floats: 128 bins per power of two, sixteen powers
using SearchBlock = Block<kSearchThreads>;

struct SearchItem {
  uint32_t key = 0;     // 0: never taken
  uint32_t weight = 0;  // towards `need`
  uint32_t count = 0;   // towards `room`
};

// Keys first..last of a round, in bins of 2^shift; around a window, all keys below share the lowest bin and all above
// the highest.
struct SearchRange {
  uint32_t first, last;
  int shift;
  bool window;

  TESSERA_SIMT int bins() const { return window ? kSearchBins : static_cast<int>((last - first) >> shift) + 1; }
  TESSERA_SIMT int bin(uint32_t key) const {
    if (!window) return static_cast<int>((key - first) >> shift);
    if (key < first) return 0;
    const uint32_t above = ((key - first) >> shift) + 1;
    return above < kSearchBins ? static_cast<int>(above) : kSearchBins - 1;
  }
  TESSERA_SIMT bool holds(uint32_t key) const { return window || (key >= first && key <= last); }

  static TESSERA_SIMT SearchRange of(uint32_t first, uint32_t last) {
    int shift = 0;
    while ((last - first) >> shift >= kSearchBins) ++shift;
    return {first, last, shift, false};
  }
  static TESSERA_SIMT SearchRange around(uint32_t window) {
    constexpr uint32_t kHighest = 0xffffffffU - (static_cast<uint32_t>(kSearchBins) << kWindowShift);
    if (window == 0) return of(0, 0xffffffffU);
    return {window < kHighest ? window : kHighest, 0xffffffffU, kWindowShift, true};
  }
  // The keys of one bin.
  TESSERA_SIMT SearchRange narrow(int bin) const {
    const auto at = static_cast<uint32_t>(bin);
    if (!window) {
      const uint32_t low = first + (at << shift);
      const uint32_t end = low + ((1U << shift) - 1);
      return of(low, end < last ? end : last);
    }
    if (bin == 0) return of(0, first - 1);
    const uint32_t low = first + ((at - 1) << shift);
    return of(low, bin == kSearchBins - 1 ? last : low + ((1U << shift) - 1));
  }
};

// Each block has one, or what derives from it, equal but for the counters after a round.
struct SearchShared {
  uint32_t weight[kSearchBins];
  uint32_t count[kSearchBins];
  uint32_t weight_scan[2][kSearchThreads];
  uint32_t count_scan[2][kSearchThreads];
  SearchRange range;
  uint32_t threshold;
  uint32_t need;  // set before the search; afterwards what the keys equal to the threshold must bring
  uint32_t room;
  int bin;
  uint32_t next_need;
  uint32_t next_room;
};

// Of the keys in the range, each block those of its threads.
template <typename Team, typename ItemAt, typename Shared>
TESSERA_SIMT inline void count_bins(const Team& team, int32_t items, const ItemAt& at, Shared& shared) {
  team.each_block([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    for (int bin = Team::within(thread); bin < kSearchBins; bin += kSearchThreads) own.weight[bin] = own.count[bin] = 0;
  });
  team.each([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    const SearchRange range = own.range;
    constexpr int kBatch = 4;  // loads in flight
    for (int32_t first = thread; first < items; first += kBatch * Team::kThreads) {
      SearchItem batch[kBatch];
      for (int k = 0; k < kBatch; ++k) {
        const int32_t i = first + k * Team::kThreads;
        if (i < items) batch[k] = at(i);
      }
      for (int k = 0; k < kBatch; ++k) {
        const SearchItem& item = batch[k];
        if (item.key == 0 || !range.holds(item.key)) continue;
        const int bin = range.bin(item.key);
        Team::add(&own.weight[bin], item.weight);
        if (item.count != 0) Team::add(&own.count[bin], item.count);
      }
    }
  });
}

struct BinTotal {
  uint32_t weight = 0;
  uint32_t count = 0;
};

template <typename Team, typename Shared>
TESSERA_SIMT inline BinTotal bin_total(const Shared& shared, int bin) {
  BinTotal total;
  for (int block = 0; block < Team::kBlocks; ++block) {
    const SearchShared& from = Team::peer(shared, block);
    total.weight += from.weight[bin];
    total.count += from.count[bin];
  }
  return total;
}

// From the highest bin down, the first in which `need` or `room` is reached; the lowest when none is. Every block finds
// it for itself.
template <typename Team, typename Shared>
TESSERA_SIMT inline void find_bin(const Team& team, Shared& shared) {
  team.each_block([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    const int t = Team::within(thread);
    const int bin = own.range.bins() - 1 - 2 * t;
    const BinTotal high = bin >= 0 ? bin_total<Team>(shared, bin) : BinTotal{};
    const BinTotal low = bin >= 1 ? bin_total<Team>(shared, bin - 1) : BinTotal{};
    own.weight_scan[0][t] = high.weight + low.weight;
    own.count_scan[0][t] = high.count + low.count;
  });
  team.scan_parts(
      shared, [](auto& own) -> auto& { return own.weight_scan; });
  team.scan_parts(
      shared, [](auto& own) -> auto& { return own.count_scan; });
  team.each([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    const int t = Team::within(thread);
    const int bins = own.range.bins();
    uint32_t weight = t > 0 ? own.weight_scan[0][t - 1] : 0;
    uint32_t count = t > 0 ? own.count_scan[0][t - 1] : 0;
    if (own.weight_scan[0][t] < own.need && own.count_scan[0][t] < own.room && bins > 2 * t + 2) return;
    for (int bin = bins - 1 - 2 * t; bin >= 0 && bin > bins - 3 - 2 * t; --bin) {
      if (bin < bins - 1 && (weight >= own.need || count >= own.room)) return;
      const BinTotal here = bin_total<Team>(shared, bin);
      if (bin == 0 || weight + here.weight >= own.need || count + here.count >= own.room) {
        own.bin = bin;
        own.next_need = own.need - weight;
        own.next_room = own.room - count;
        return;
      }
      weight += here.weight;
      count += here.count;
    }
  });
}

// Items from the largest key down, until their weights reach shared.need or their counts shared.room, which every part
// has. No sum may reach 2^32. window: any key gives the same result; one a little below the threshold gives it soon.
// Cost: three or four times all items.
template <typename Team, typename ItemAt, typename Shared>
TESSERA_SIMT inline void search_threshold(const Team& team, int32_t items, const ItemAt& at, uint32_t window,
                                          Shared& shared) {
  team.each_block([&](int thread) {
    if (Team::within(thread) == 0) Team::part(shared, thread).range = SearchRange::around(window);
  });
  while (shared.range.first < shared.range.last) {
    count_bins(team, items, at, shared);
    find_bin(team, shared);
    team.each_block([&](int thread) {
      SearchShared& own = Team::part(shared, thread);
      if (Team::within(thread) != 0) return;
      own.range = own.range.narrow(own.bin);
      own.need = own.next_need;
      own.room = own.next_room;
    });
  }
  team.each_block([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    if (Team::within(thread) == 0) own.threshold = own.range.first;
  });
}

}  // namespace tessera::attention::cuda
