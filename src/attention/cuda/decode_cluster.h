// Bodies of the kernel in which a cluster of blocks chooses the pages of a KV head and attends to them. Page p belongs
// to block p % kClusterBlocks. Every block brings its pages into the order of preference, highest score first, ties by
// page; the chosen ones are then the beginning of every block's order. Pure functions, tested on the host.
#pragma once

#include "attention/cuda/decode_select.h"

namespace tessera::attention::cuda {

constexpr int kClusterBlocks = 16;
constexpr int kMostOwnPages = 256;  // an order counts pages in bytes

// A page of a block: number `index` is page index * kClusterBlocks + block.
struct OwnPage {
  int32_t block, index;
  TESSERA_HOST_DEVICE int32_t page() const { return index * kClusterBlocks + block; }
};

TESSERA_HOST_DEVICE int32_t own_pages(int32_t pages, int32_t block) {
  return (pages - block + kClusterBlocks - 1) / kClusterBlocks;
}

// How many of a block's pages come before its page `index`. Four keys at a time: beyond `count` keys are 0, which no
// score has.
TESSERA_SIMT inline int32_t preferred_before(const uint32_t* keys, int32_t count, int32_t index) {
  const uint32_t mine = keys[index];
  int32_t before = 0;
  const auto add = [&](int32_t begin, int32_t end, uint32_t least) {
#if defined(__CUDA_ARCH__)
#pragma unroll 4
#endif
    for (int32_t j = begin; j < end; j += 4) {
      uint32_t four[4];
      load_words(four, keys + j);
      for (int i = 0; i < 4; ++i) before += four[i] >= least;
    }
  };
  const int32_t own_four = index / 4 * 4;
  add(0, own_four, mine);
  for (int32_t j = own_four; j < own_four + 4; ++j) before += keys[j] >= mine + (j >= index);
  add(own_four + 4, count, mine + 1);
  return before;
}

// The beginning of a block's order; memory for one page at least.
struct PageOrder {
  const uint32_t* keys;
  const uint8_t* indices;
  int32_t count, block;
};

// Looks up how many pages of `order` come before a page of another block, without branches: step by step, from a power
// of two that is at most the most pages, halved down to 1.
struct PlaceInOrder {
  uint32_t key;
  int32_t index;  // of the order's block, from which on equal keys come later
  int32_t found = 0;

  TESSERA_HOST_DEVICE PlaceInOrder(uint32_t of, const OwnPage& page, int32_t block)
      : key(of), index(page.index + (block < page.block)) {}
  TESSERA_HOST_DEVICE void step(const PageOrder& order, int32_t size) {
    const int32_t probe = found + size;
    const int32_t at = probe <= order.count ? probe - 1 : 0;
    const uint32_t other = order.keys[at];
    const int32_t other_index = order.indices[at];
    const bool first = (other > key) | ((other == key) & (other_index < index));
    found = (probe <= order.count) & first ? probe : found;
  }
};

// The first size of a step: a power of two, more than half of `length`.
TESSERA_HOST_DEVICE int32_t first_step(int32_t length) {
  int32_t size = 16;
  while (2 * size <= length) size *= 2;
  return size;
}

// How the chosen pages are shared. A block keeps the first `early` of its order, as far as they are chosen: it asked
// for them before the choice. The other chosen pages, by block and order, fill the shares up to equal size.
struct PageShares {
  const int32_t* chosen;  // of every block
  int32_t early;          // at most total / kClusterBlocks
  int32_t total;          // of all blocks

  TESSERA_HOST_DEVICE int32_t kept(int32_t block) const { return chosen[block] < early ? chosen[block] : early; }
  TESSERA_HOST_DEVICE int32_t extra(int32_t block) const {
    return total / kClusterBlocks + (block < total % kClusterBlocks) - kept(block);
  }
  // Extra page `number` of a block, as a block and a place in its order.
  struct Place {
    int32_t block, rank;
  };
  TESSERA_HOST_DEVICE Place extra_page(int32_t block, int32_t number) const {
    number += total / kClusterBlocks * block + (block < total % kClusterBlocks ? block : total % kClusterBlocks);
    TESSERA_UNROLL
    for (int32_t b = 0; b < kClusterBlocks; ++b) number -= b < block ? kept(b) : 0;
    Place place = {0, 0};
    TESSERA_UNROLL
    for (int32_t b = 0; b < kClusterBlocks; ++b) {
      if (number >= 0) place = {b, early + number};
      number -= chosen[b] - kept(b);
    }
    return place;
  }
};

// Pages that a block asks for before the choice: never more than its share.
TESSERA_HOST_DEVICE int32_t early_pages(int32_t room, int32_t total) {
  const int32_t share = total / kClusterBlocks;
  return room < share ? room : share;
}

// Words of a set of a block's pages.
constexpr int kSetWords = kMostOwnPages / 32;

// How many pages of a block's set have a lower number than `page`.
TESSERA_HOST_DEVICE int32_t members_below(const uint32_t* set, int32_t block, const OwnPage& page) {
  const int32_t end = page.index + (block < page.block);  // of the numbers of this block
  int32_t count = 0;
  for (int word = 0; word < kSetWords; ++word) {
    const int32_t bits = end - 32 * word;
    const uint32_t mask = bits >= 32 ? ~0U : bits <= 0 ? 0U : (1U << bits) - 1;
    count += static_cast<int32_t>(count_bits(set[word] & mask));
  }
  return count;
}

// Upper bounds of q.k, as page_bounds() and equal to it bit by bit, with the queries of up to kHeads heads in
// registers: for many pages.
template <int kDim>
struct BoundScorer {
  static constexpr int kHeads = kDim <= 128 ? 4 : 2;
  static constexpr int kUnits = kDim / 32;  // of four channels, per lane
  Lanes<float> query[kHeads][kUnits * 4];
  Lanes<uint32_t> high[kHeads][kUnits * 2];  // all bits of a channel where its maximum counts

  TESSERA_SIMT static int channel(int lane, int unit) { return unit * 4 * kBoundLanes + lane % kBoundLanes * 4; }

  // Of `heads` >= 1 heads; where there are fewer than kHeads the last one counts several times.
  TESSERA_SIMT void load(const uint16_t* queries, int64_t head_stride, int32_t heads) {
    warp_each([&](int lane) {
      TESSERA_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        const uint16_t* from = queries + (h < heads ? h : heads - 1) * head_stride;
        TESSERA_UNROLL
        for (int unit = 0; unit < kUnits; ++unit) {
          uint32_t words[2];
          load_words(words, from + channel(lane, unit));
          for (int w = 0; w < 2; ++w) {
            const float a = Bfloat::decode(static_cast<uint16_t>(words[w]));
            const float b = Bfloat::decode(static_cast<uint16_t>(words[w] >> 16));
            query[h][unit * 4 + 2 * w][lane] = a;
            query[h][unit * 4 + 2 * w + 1][lane] = b;
            high[h][unit * 2 + w][lane] = (a > 0 ? 0xffffu : 0u) | (b > 0 ? 0xffff0000u : 0u);
          }
        }
      }
    });
  }

  // best[lane]: the same for the lanes of a page.
  TESSERA_SIMT void score(const Lanes<const uint8_t*>& bounds, Lanes<float>& best) const {
    Lanes<float> sum[kHeads];
    warp_each([&](int lane) {
      for (int h = 0; h < kHeads; ++h) sum[h][lane] = 0;
      TESSERA_UNROLL
      for (int unit = 0; unit < kUnits; ++unit) {
        uint32_t low_words[2];
        uint32_t high_words[2];
        load_words(low_words, bounds[lane] + 2 * channel(lane, unit));
        load_words(high_words, bounds[lane] + 2 * (kDim + channel(lane, unit)));
        TESSERA_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          TESSERA_UNROLL
          for (int w = 0; w < 2; ++w) {
            const uint32_t mask = high[h][unit * 2 + w][lane];
            const uint32_t pair = (high_words[w] & mask) | (low_words[w] & ~mask);
            sum[h][lane] += query[h][unit * 4 + 2 * w][lane] * Bfloat::decode(static_cast<uint16_t>(pair));
            sum[h][lane] += query[h][unit * 4 + 2 * w + 1][lane] * Bfloat::decode(static_cast<uint16_t>(pair >> 16));
          }
        }
      }
    });
    for (int mask = kBoundLanes / 2; mask > 0; mask /= 2) {
      TESSERA_UNROLL
      for (int h = 0; h < kHeads; ++h) warp_add(sum[h], mask);
    }
    warp_each([&](int lane) {
      best[lane] = -INFINITY;
      for (int h = 0; h < kHeads; ++h) best[lane] = sum[h][lane] > best[lane] ? sum[h][lane] : best[lane];
    });
  }
};

}  // namespace tessera::attention::cuda
