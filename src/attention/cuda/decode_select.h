// Bodies of the kernels that choose pages: upper bounds per page, then the largest ones.
#pragma once

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

struct SelectShared {
  uint32_t histogram[256];
  uint32_t scan[2][kSelectThreads];
  uint32_t threshold, ties;  // the smallest key kept, and how many equal to it are kept
  uint32_t exact;            // all keys from the threshold on are kept; its lower digits need no search
};

// scan[0][i] becomes the sum of scan[0][0..i]. On the device by exchanges within warps: two barriers.
TESSERA_SIMT inline void inclusive_sums(const SelectBlock& block, uint32_t (&scan)[2][kSelectThreads]) {
#if defined(__CUDA_ARCH__)
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const auto within_warp = [&](uint32_t value) {
    TESSERA_UNROLL
    for (int step = 1; step < kWarp; step *= 2) {
      const uint32_t before = __shfl_up_sync(0xffffffffu, value, static_cast<unsigned>(step));
      value += lane >= step ? before : 0;
    }
    return value;
  };
  const uint32_t own = within_warp(scan[0][thread]);
  if (lane == kWarp - 1) scan[1][thread / kWarp] = own;
  __syncthreads();
  constexpr int kWarps = kSelectThreads / kWarp;
  static_assert(kWarps <= kWarp);
  const uint32_t totals = within_warp(lane < kWarps ? scan[1][lane] : 0);
  const int warp = thread / kWarp;
  const uint32_t before = __shfl_sync(0xffffffffu, totals, warp > 0 ? warp - 1 : 0);
  scan[0][thread] = own + (warp > 0 ? before : 0);
  __syncthreads();
#else
  block.inclusive_scan(scan);
#endif
  (void)block;
}

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
  block.each([&](int thread) { shared.scan[0][thread] = thread < 256 ? shared.histogram[255 - thread] : 0; });
  inclusive_sums(block, shared.scan);
  // The first thread whose sum reaches the number wanted alone writes, and what the others read it left before.
  block.each([&](int thread) { shared.scan[1][thread] = shared.ties; });
  block.each([&](int thread) {
    const uint32_t wanted = shared.scan[1][thread];
    const uint32_t above = thread > 0 ? shared.scan[0][thread - 1] : 0;
    if (thread >= 256 || shared.scan[0][thread] < wanted || above >= wanted) return;
    shared.ties = wanted - above;
    shared.exact = shared.scan[0][thread] == wanted;
    shared.threshold |= static_cast<uint32_t>(255 - thread) << shift;
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
    shared.exact = 0;
  });
  TESSERA_ROLLED
  for (int shift = 24; shift >= 0 && shared.exact == 0; shift -= 8) narrow(block, scores, size, shift, shared);
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
  inclusive_sums(block, shared.scan);
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
