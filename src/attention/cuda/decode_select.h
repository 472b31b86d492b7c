// Bodies of the kernels that choose pages: upper bounds per page, then the largest ones.
#pragma once

#include "attention/cuda/decode_problem.h"
#include "attention/cuda/line_lists.h"
#include "attention/cuda/warp.h"

namespace tessera::attention::cuda {

// The forced pages: the first ones and the last ones.
TESSERA_SIMT inline bool is_forced(const DecodeProblem& problem, int32_t page, int32_t pages) {
  return page < problem.first_pages || page >= pages - problem.last_pages;
}

// The page's upper bound of q.k, the largest over the `heads` of the group. Products of two bf16 are exact and the
// order of the sum is fixed, so host and device agree bit by bit.
template <int kDim>
TESSERA_SIMT inline float page_bound(const uint16_t* queries, int64_t head_stride, int32_t heads,
                                     const uint8_t* bounds) {
  constexpr int kPairs = kDim / 64;  // of channels per lane, and a rest for 96
  Lanes<uint32_t> low[kPairs + 1];
  Lanes<uint32_t> high[kPairs + 1];
  const auto wanted = [](int lane, int pair) { return 2 * (pair * kWarp + lane) < kDim; };
  warp_each([&](int lane) {
    for (int pair = 0; pair <= kPairs; ++pair) {
      low[pair][lane] = high[pair][lane] = 0;
      if (!wanted(lane, pair)) continue;
      memcpy(&low[pair][lane], bounds + 4 * (pair * kWarp + lane), 4);
      memcpy(&high[pair][lane], bounds + 2 * kDim + 4 * (pair * kWarp + lane), 4);
    }
  });
  float best = -INFINITY;
  for (int32_t head = 0; head < heads; ++head) {
    Lanes<float> sum;
    warp_each([&](int lane) {
      sum[lane] = 0;
      for (int pair = 0; pair <= kPairs; ++pair) {
        if (!wanted(lane, pair)) continue;
        uint32_t q;
        memcpy(&q, queries + head * head_stride + 2 * (pair * kWarp + lane), 4);
        for (int side = 0; side < 2; ++side) {
          const float x = Bfloat::decode(static_cast<uint16_t>(q >> (16 * side)));
          const float a = x * Bfloat::decode(static_cast<uint16_t>(low[pair][lane] >> (16 * side)));
          const float b = x * Bfloat::decode(static_cast<uint16_t>(high[pair][lane] >> (16 * side)));
          sum[lane] += a > b ? a : b;
        }
      }
    });
    for (int mask = 16; mask > 0; mask /= 2) warp_add(sum, mask);
    best = sum[0] > best ? sum[0] : best;
  }
  return best;
}

constexpr int kSelectThreads = 1024;
using SelectBlock = Block<kSelectThreads>;

struct SelectShared {
  uint32_t histogram[256];
  uint32_t above[256];  // scratch of the scan
  uint32_t scan[2][kSelectThreads];
  uint32_t threshold, ties;  // the smallest key kept, and how many equal to it are kept
};

// One pass over eight bits of the keys: the bin that holds the last one kept.
TESSERA_SIMT inline void narrow(const SelectBlock& block, const float* scores, int32_t size, int shift,
                                SelectShared& shared) {
  block.each([&](int thread) {
    if (thread < 256) shared.histogram[thread] = 0;
  });
  block.each([&](int thread) {
    for (int32_t i = thread; i < size; i += kSelectThreads) {
      const uint32_t key = order_key(scores[i]);
      const bool matches = shift == 24 || (key ^ shared.threshold) >> (shift + 8) == 0;
      if (matches) SelectBlock::add(&shared.histogram[key >> shift & 255u], 1);
    }
  });
  // Keys in a bin or above it.
  uint32_t* from = shared.histogram;
  uint32_t* to = shared.above;
  for (int step = 1; step < 256; step *= 2) {
    block.each([&](int thread) {
      if (thread < 256) to[thread] = from[thread] + (thread + step < 256 ? from[thread + step] : 0);
    });
    uint32_t* swapped = from;
    from = to;
    to = swapped;
  }
  // Eight steps leave the result where it began; the thread that finds the bin alone writes.
  block.each([&](int thread) {
    if (thread >= 256) return;
    const uint32_t here = from[thread];
    const uint32_t higher = thread < 255 ? from[thread + 1] : 0;
    if (here >= shared.ties && higher < shared.ties) shared.scan[0][0] = static_cast<uint32_t>(thread);
  });
  block.each([&](int thread) {
    if (thread != 0) return;
    const uint32_t bin = shared.scan[0][0];
    shared.ties -= bin < 255 ? from[bin + 1] : 0;
    shared.threshold |= bin << shift;
  });
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
  block.each([&](int thread) {
    if (thread != 0) return;
    shared.threshold = 0;
    shared.ties = static_cast<uint32_t>(count);
  });
  for (int shift = 24; shift >= 0; shift -= 8) narrow(block, scores, size, shift, shared);
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
