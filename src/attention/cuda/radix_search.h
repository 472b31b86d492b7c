// The smallest key of a choice, by a radix search of one block: digits of 11, 11 and 10 bits from the top. Wide digits
// keep the keys of softmax masses, which share few exponents, from meeting in the same counter.
#pragma once

#include "attention/cuda/simt.h"

namespace tessera::attention::cuda {

constexpr int kSearchThreads = 1024;
constexpr int kSearchBins = 2048;
using SearchBlock = Block<kSearchThreads>;

struct SearchItem {
  uint32_t key = 0;     // 0: never taken
  uint32_t weight = 0;  // towards `need`
  uint32_t count = 0;   // towards `room`
};

struct SearchShared {
  uint32_t weight[kSearchBins];
  uint32_t count[kSearchBins];
  uint32_t weight_scan[2][kSearchThreads];
  uint32_t count_scan[2][kSearchThreads];
  uint32_t threshold;
  uint32_t need;  // set before the search; afterwards what the keys equal to the threshold must bring
  uint32_t room;
  uint32_t bin;
  uint32_t next_need;
  uint32_t next_room;
};

// Among the items whose higher digits equal the threshold's.
template <typename ItemAt>
TESSERA_SIMT inline void count_digit(const SearchBlock& block, int32_t items, const ItemAt& at, int shift, int bits,
                                     SearchShared& shared) {
  block.each([&](int thread) {
    for (int bin = thread; bin < kSearchBins; bin += kSearchThreads) shared.weight[bin] = shared.count[bin] = 0;
  });
  block.each([&](int thread) {
    constexpr int kBatch = 4;  // loads in flight
    for (int32_t first = thread; first < items; first += kBatch * kSearchThreads) {
      SearchItem batch[kBatch];
      for (int k = 0; k < kBatch; ++k) {
        const int32_t i = first + k * kSearchThreads;
        if (i < items) batch[k] = at(i);
      }
      for (int k = 0; k < kBatch; ++k) {
        const SearchItem& item = batch[k];
        if (item.key == 0) continue;
        if (shift + bits < 32 && (item.key ^ shared.threshold) >> (shift + bits) != 0) continue;
        const uint32_t bin = item.key >> shift & ((1u << bits) - 1);
        SearchBlock::add(&shared.weight[bin], item.weight);
        if (item.count != 0) SearchBlock::add(&shared.count[bin], item.count);
      }
    }
  });
}

// From the highest bin down, the first in which `need` or `room` is reached; the lowest when none is.
TESSERA_SIMT inline void find_bin(const SearchBlock& block, int bits, SearchShared& shared) {
  const int bins = 1 << bits;
  block.each([&](int thread) {
    const int bin = bins - 1 - 2 * thread;
    shared.weight_scan[0][thread] = bin > 0 ? shared.weight[bin] + shared.weight[bin - 1] : 0;
    shared.count_scan[0][thread] = bin > 0 ? shared.count[bin] + shared.count[bin - 1] : 0;
  });
  block.inclusive_scan(shared.weight_scan);
  block.inclusive_scan(shared.count_scan);
  block.each([&](int thread) {
    uint32_t weight = thread > 0 ? shared.weight_scan[0][thread - 1] : 0;
    uint32_t count = thread > 0 ? shared.count_scan[0][thread - 1] : 0;
    for (int bin = bins - 1 - 2 * thread; bin >= 0 && bin > bins - 3 - 2 * thread; --bin) {
      if (bin < bins - 1 && (weight >= shared.need || count >= shared.room)) return;
      const uint32_t weight_after = weight + shared.weight[bin];
      const uint32_t count_after = count + shared.count[bin];
      if (bin == 0 || weight_after >= shared.need || count_after >= shared.room) {
        shared.bin = static_cast<uint32_t>(bin);
        shared.next_need = shared.need - weight;
        shared.next_room = shared.room - count;
        return;
      }
      weight = weight_after;
      count = count_after;
    }
  });
}

// Items from the largest key down, until their weights reach shared.need or their counts shared.room. No sum may reach
// 2^32. Cost: three times all items.
template <typename ItemAt>
TESSERA_SIMT inline void search_threshold(const SearchBlock& block, int32_t items, const ItemAt& at,
                                          SearchShared& shared) {
  block.each([&](int thread) {
    if (thread == 0) shared.threshold = 0;
  });
  for (int shift = 21; shift >= 0; shift = shift == 21 ? 10 : shift - 10) {
    const int bits = shift == 0 ? 10 : 11;
    count_digit(block, items, at, shift, bits, shared);
    find_bin(block, bits, shared);
    block.each([&](int thread) {
      if (thread != 0) return;
      shared.threshold |= shared.bin << shift;
      shared.need = shared.next_need;
      shared.room = shared.next_room;
    });
  }
}

}  // namespace tessera::attention::cuda
