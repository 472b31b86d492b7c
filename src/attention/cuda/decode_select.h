// Bodies of the kernels that choose pages: upper bounds per page, then the largest ones.
#pragma once

#include <bit>

#include "attention/cuda/decode_body.h"
#include "attention/cuda/line_lists.h"
#include "attention/cuda/warp.h"

namespace tessera::attention::cuda {

// The forced pages: the first ones and the last ones.
TESSERA_SIMT inline bool is_forced(const DecodeProblem& problem, int32_t page, int32_t pages) {
  return page < problem.first_pages || page >= pages - problem.last_pages;
}

constexpr int kBoundLanes = 8;  // that share a page
constexpr int kBoundPages = kWarp / kBoundLanes;

// Upper bounds of q.k for the pages of a warp, one per eight lanes: sum over channels of max(q_c min_c, q_c max_c), the
// largest over the `heads` of the group. bounds[lane]: the page's bounds; null: nothing is computed. Products of two
// bf16 are exact and the order of the sum is fixed, so host and device agree bit by bit. best[lane] is the same for the
// lanes of a page.
template <int kDim>
TESSERA_SIMT inline void page_bounds(const uint16_t* queries, int64_t head_stride, int32_t heads,
                                     const Lanes<const uint8_t*>& bounds, Lanes<float>& best) {
  constexpr int kUnits = kDim / 32;  // of four channels, per lane
  Lanes<float> low[kUnits][4];
  Lanes<float> high[kUnits][4];
  const auto channel = [](int lane, int unit) { return unit * 4 * kBoundLanes + lane % kBoundLanes * 4; };
  const auto decode_four = [](const void* from, float* to) {
    uint32_t words[2];
    load_words(words, from);
    for (int i = 0; i < 4; ++i) to[i] = Bfloat::decode(static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2))));
  };
  warp_each([&](int lane) {
    best[lane] = -INFINITY;
    TESSERA_UNROLL
    for (int unit = 0; unit < kUnits; ++unit) {
      float a[4] = {};
      float b[4] = {};
      if (bounds[lane] != nullptr) {
        decode_four(bounds[lane] + 2 * channel(lane, unit), a);
        decode_four(bounds[lane] + 2 * (kDim + channel(lane, unit)), b);
      }
      for (int i = 0; i < 4; ++i) {
        low[unit][i][lane] = a[i];
        high[unit][i][lane] = b[i];
      }
    }
  });
  TESSERA_ROLLED
  for (int32_t head = 0; head < heads; ++head) {
    Lanes<float> sum;
    warp_each([&](int lane) {
      sum[lane] = 0;
      TESSERA_UNROLL
      for (int unit = 0; unit < kUnits; ++unit) {
        float q[4];
        decode_four(queries + head * head_stride + channel(lane, unit), q);
        for (int i = 0; i < 4; ++i) sum[lane] += q[i] * (q[i] > 0 ? high[unit][i][lane] : low[unit][i][lane]);
      }
    });
    for (int mask = kBoundLanes / 2; mask > 0; mask /= 2) warp_add(sum, mask);
    warp_each([&](int lane) { best[lane] = sum[lane] > best[lane] ? sum[lane] : best[lane]; });
  }
}

constexpr int kSelectThreads = 512;
using SelectBlock = Block<kSelectThreads>;

constexpr int kSelectBins = 2048;

struct SelectShared {
  uint32_t histogram[kSelectBins];
  uint32_t scan[2][kSelectThreads];
  uint32_t near_key[kSelectThreads];  // keys of the threshold's bin
  uint32_t nearby;                    // how many
  uint32_t bottom, top, limit;        // the keys that a round looks at; those in (top, limit] count as top
  uint32_t wanted;                    // how many of them are kept
  uint32_t bin, in_bin, above_bin;    // where the last one kept lies
  uint32_t threshold, ties;           // the smallest key kept, and how many equal to it are kept
};

// Bits that a bin's number leaves out, so that bins cover [bottom, top].
TESSERA_SIMT inline int bin_shift(uint32_t bottom, uint32_t top) {
  const int bits = std::bit_width(top - bottom);
  constexpr int kBinBits = std::bit_width(static_cast<unsigned>(kSelectBins - 1));
  return bits > kBinBits ? bits - kBinBits : 0;
}

// One round: the bin that holds the last of the shared.wanted largest keys.
TESSERA_SIMT inline void find_bin(const SelectBlock& block, const float* scores, int32_t size, int shift,
                                  SelectShared& shared) {
  constexpr int kOwned = kSelectBins / kSelectThreads;
  block.each([&](int thread) {
    for (int32_t i = thread; i < size; i += kSelectThreads) {
      const uint32_t key = order_key(scores[i]);
      if (key < shared.bottom || key > shared.limit) continue;
      const uint32_t bin = ((key < shared.top ? key : shared.top) - shared.bottom) >> shift;
      SelectBlock::add(&shared.histogram[bin], 1);
    }
  });
  block.each([&](int thread) {
    uint32_t sum = 0;
    for (int i = 0; i < kOwned; ++i) sum += shared.histogram[kSelectBins - 1 - (thread * kOwned + i)];
    shared.scan[0][thread] = sum;
  });
  block.inclusive_scan(shared.scan);
  block.each([&](int thread) {
    uint32_t above = thread > 0 ? shared.scan[0][thread - 1] : 0;
    if (above >= shared.wanted || shared.scan[0][thread] < shared.wanted) return;
    int bin = kSelectBins - 1 - thread * kOwned;
    for (; above + shared.histogram[bin] < shared.wanted; --bin) above += shared.histogram[bin];
    shared.bin = static_cast<uint32_t>(bin);
    shared.in_bin = shared.histogram[bin];
    shared.above_bin = above;
  });
}

// shared.threshold and shared.ties from the `wanted` largest of the keys that share a bin.
TESSERA_SIMT inline void rank_nearby(const SelectBlock& block, uint32_t wanted, SelectShared& shared) {
  block.each([&](int thread) {
    const uint32_t count = shared.nearby;
    if (static_cast<uint32_t>(thread) >= count) return;
    const uint32_t mine = shared.near_key[thread];
    uint32_t larger = 0;
    uint32_t equal = 0;
    bool first = true;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t other = shared.near_key[i];
      larger += other > mine;
      equal += other == mine;
      first = first && (other != mine || i >= static_cast<uint32_t>(thread));
    }
    if (!first || larger >= wanted || larger + equal < wanted) return;
    shared.threshold = mine;
    shared.ties = wanted - larger;
  });
}

// shared.threshold and shared.ties for the `count` largest of `size` > count scores. The first round's bins cover the
// finite scores; as a rule few keys share the bin of the last one kept, and those are ranked; else that bin is divided.
TESSERA_SIMT inline void find_threshold(const SelectBlock& block, const float* scores, int32_t size, int32_t count,
                                        SelectShared& shared) {
  block.each([&](int thread) {
    for (int i = thread; i < kSelectBins; i += kSelectThreads) shared.histogram[i] = 0;
    if (thread != 0) return;
    shared.top = shared.bottom = shared.nearby = 0;
    shared.limit = ~0U;
    shared.wanted = static_cast<uint32_t>(count);
  });
  block.each([&](int thread) {
    uint32_t top = 0;
    uint32_t low = 0;  // complement of the smallest
    for (int32_t i = thread; i < size; i += kSelectThreads) {
      const uint32_t key = order_key(scores[i]);
      if (scores[i] < INFINITY && key > top) top = key;
      if (~key > low) low = ~key;
    }
    SelectBlock::highest_of_all(&shared.top, top);
    SelectBlock::highest_of_all(&shared.bottom, low);
  });
  block.each([&](int thread) {
    if (thread != 0) return;
    shared.bottom = ~shared.bottom;
    if (shared.top < shared.bottom) shared.top = shared.bottom;  // all are infinite
  });
  while (true) {
    const int shift = bin_shift(shared.bottom, shared.top);
    find_bin(block, scores, size, shift, shared);
    const uint32_t low = shared.bottom + (shared.bin << shift);
    const bool last = shared.bin == (shared.top - shared.bottom) >> shift;
    const uint32_t high = last ? shared.limit : low + ((1U << shift) - 1);
    const uint32_t wanted = shared.wanted - shared.above_bin;
    const bool whole = wanted == shared.in_bin;
    const bool few = shared.in_bin <= kSelectThreads;
    const bool divide = !whole && !few && low < high;
    block.each([&](int thread) {
      if (whole || low == high) {
        if (thread != 0) return;
        shared.threshold = low;
        shared.ties = wanted;
        if (whole) shared.ties = ~0U;
      } else if (divide) {
        for (int i = thread; i < kSelectBins; i += kSelectThreads) shared.histogram[i] = 0;
      } else {
        for (int32_t i = thread; i < size; i += kSelectThreads) {
          const uint32_t key = order_key(scores[i]);
          if (key >= low && key <= high) shared.near_key[SelectBlock::next(&shared.nearby)] = key;
        }
      }
    });
    if (whole || low == high) return;
    if (!divide) break;
    block.each([&](int thread) {
      if (thread != 0) return;
      shared.wanted = wanted;
      shared.bottom = low;
      shared.top = shared.limit = high;
    });
  }
  rank_nearby(block, shared.wanted - shared.above_bin, shared);
}

// The `count` largest of `size` scores, ascending by index; ties go to the lower index. size <= kMaxSelectable.
constexpr int32_t kMaxSelectable = 65535;  // two counts share a word

TESSERA_SIMT inline void select_largest(const SelectBlock& block, const float* scores, int32_t size, int32_t count,
                                        int32_t* selected, SelectShared& shared) {
  if (count >= size) {
    block.each([&](int thread) {
      for (int32_t i = thread; i < size; i += kSelectThreads) selected[i] = i;
    });
    return;
  }
  find_threshold(block, scores, size, count, shared);
  // Every thread owns a run of consecutive scores. Low side: above the threshold; high side: equal to it.
  const int32_t run = (size + kSelectThreads - 1) / kSelectThreads;
  const auto end = [&](int thread) { return (thread + 1) * run < size ? (thread + 1) * run : size; };
  block.each([&](int thread) {
    uint32_t packed = 0;
    for (int32_t i = thread * run; i < end(thread); ++i) {
      const uint32_t key = order_key(scores[i]);
      packed += key > shared.threshold ? 1u : key == shared.threshold ? 0x10000u : 0u;
    }
    shared.scan[0][thread] = packed;
  });
  block.inclusive_scan(shared.scan);
  block.each([&](int thread) {
    const uint32_t packed = thread > 0 ? shared.scan[0][thread - 1] : 0;
    uint32_t above = packed & 0xffffu;
    uint32_t equal = packed >> 16;
    for (int32_t i = thread * run; i < end(thread); ++i) {
      const uint32_t key = order_key(scores[i]);
      if (key < shared.threshold || (key == shared.threshold && equal >= shared.ties)) continue;
      selected[above + (equal < shared.ties ? equal : shared.ties)] = i;
      (key > shared.threshold ? above : equal) += 1;
    }
  });
}

}  // namespace tessera::attention::cuda
