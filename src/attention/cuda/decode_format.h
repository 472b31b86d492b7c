// How a page of 64 rows of one KV head lies in memory, and how its codes become operands of the matrix instruction.
//
// Keys:   [64][head_dim] codes, then f16 scale[head_dim], then f16 zero[head_dim]; value = code * scale[c] + zero[c].
// Values: [64][head_dim] codes, then f16 scale[64], then f16 zero[64];             value = code * scale[r] + zero[r].
// bf16 pages have codes only; fp8 (e4m3) pages have no zeros. Codes are 0..255 or 0..15, four-bit codes lie in words of
// eight channels: channel 2i in bits 4i, channel 2i + 1 in bits 4i + 16. Asymmetric groups as in KIVI (arXiv
// 2402.02750): keys per channel over 64 rows, values per row over all channels of the head.
#pragma once

#include "attention/cuda/warp.h"
#include "tessera/attention/cuda_decode.h"

namespace tessera::attention::cuda {

// Value sums are kept 2^8 times as large, so that small probabilities times small scales stay normal numbers of f16.
constexpr float kValueBoost = 256;

struct Bf16Pages {
  using Operand = Bfloat;
  static constexpr PageFormat kFormat = PageFormat::bf16;
  static constexpr int kBits = 16;
  static constexpr bool kScaled = false;
  static constexpr bool kZeroed = false;
  static constexpr float kCodeUnit = 1;  // an expanded code times this is the code
  static constexpr float kValueUnit = 1;

  TESSERA_SIMT static void key_pairs(uint32_t word, uint32_t (&pairs)[1]) { pairs[0] = word; }
  // pairs[j] = (channel j of the word `low`, channel j of `high`)
  TESSERA_SIMT static void value_pairs(uint32_t low, uint32_t high, uint32_t (&pairs)[2]) {
    pairs[0] = select_bytes(low, high, 0x5410);
    pairs[1] = select_bytes(low, high, 0x7632);
  }
};

// Formats of one byte differ in how two bytes become two halves.
template <typename Pages>
struct BytePages {
  using Operand = Half;
  static constexpr int kBits = 8;
  static constexpr bool kScaled = true;

  TESSERA_SIMT static void key_pairs(uint32_t word, uint32_t (&pairs)[2]) { Pages::halves(word, pairs[0], pairs[1]); }
  TESSERA_SIMT static void value_pairs(uint32_t low, uint32_t high, uint32_t (&pairs)[4]) {
    Pages::halves(select_bytes(low, high, 0x5140), pairs[0], pairs[1]);
    Pages::halves(select_bytes(low, high, 0x7362), pairs[2], pairs[3]);
  }
};

// The bits of e4m3 moved into those of f16 are the number times 2^-8, subnormals included.
struct Fp8Pages : BytePages<Fp8Pages> {
  static constexpr PageFormat kFormat = PageFormat::fp8;
  static constexpr bool kZeroed = false;
  static constexpr float kCodeUnit = 256;
  static constexpr float kValueUnit = kCodeUnit / kValueBoost;

  TESSERA_SIMT static uint32_t place(uint32_t x) { return (x & 0x80008000u) | (x & 0x7f007f00u) >> 1; }
  TESSERA_SIMT static void halves(uint32_t word, uint32_t& first, uint32_t& second) {
    first = place(select_bytes(word, 0, 0x1404));
    second = place(select_bytes(word, 0, 0x3424));
  }
};

// 0x6400 | code is 1024 + code in f16.
struct Int8Pages : BytePages<Int8Pages> {
  static constexpr PageFormat kFormat = PageFormat::int8;
  static constexpr bool kZeroed = true;
  static constexpr float kCodeUnit = 1;
  static constexpr float kValueUnit = 1 / kValueBoost;

  TESSERA_SIMT static void halves(uint32_t word, uint32_t& first, uint32_t& second) {
    first = Half::subtract(select_bytes(word, 0x64646464u, 0x4140), 0x64006400u);
    second = Half::subtract(select_bytes(word, 0x64646464u, 0x4342), 0x64006400u);
  }
};

struct Int4Pages {
  using Operand = Half;
  static constexpr PageFormat kFormat = PageFormat::int4;
  static constexpr int kBits = 4;
  static constexpr bool kScaled = true;
  static constexpr bool kZeroed = true;
  static constexpr float kCodeUnit = 1;
  static constexpr float kValueUnit = 1 / kValueBoost;

  TESSERA_SIMT static uint32_t low_digits(uint32_t x) {
    return Half::subtract((x & 0x000f000fu) | 0x64006400u, 0x64006400u);
  }
  TESSERA_SIMT static void key_pairs(uint32_t word, uint32_t (&pairs)[4]) {
    for (int i = 0; i < 4; ++i) pairs[i] = low_digits(word >> (4 * i));
  }
  // Byte b of a word: digit 2b is channel 4b % 8 + b / 2, digit 2b + 1 two channels later.
  TESSERA_SIMT static void value_pairs(uint32_t low, uint32_t high, uint32_t (&pairs)[8]) {
    for (int b = 0; b < 4; ++b) {
      const uint32_t both = select_bytes(low, high, b == 0 ? 0x4400u : b == 1 ? 0x5511u : b == 2 ? 0x6622u : 0x7733u);
      pairs[4 * b % 8 + b / 2] = low_digits(both);
      pairs[4 * b % 8 + b / 2 + 2] = low_digits(both >> 4);
    }
  }
};

// Where the lanes of a warp read. Keys: the four lanes of a quad share a row, `kKeyUnits` times kKeyBytes each. Values:
// the eight lanes with equal lane % 4 share a row.
template <typename Pages, int kDim>
struct PageShape {
  static constexpr int kRowBytes = kDim * Pages::kBits / 8;
  static constexpr int unit(int lanes) {
    return kRowBytes % (16 * lanes) == 0 ? 16 : kRowBytes % (8 * lanes) == 0 ? 8 : 4;
  }
  static constexpr int kKeyBytes = unit(4);
  static constexpr int kKeyUnits = kRowBytes / (4 * kKeyBytes);
  static constexpr int kKeyPairs = kKeyBytes * 4 / Pages::kBits;  // of channels, per unit and lane
  static constexpr int kPairs = kKeyPairs * kKeyUnits;
  static constexpr int kValueBytes = unit(8);
  static constexpr int kValueUnits = (kRowBytes + 8 * kValueBytes - 1) / (8 * kValueBytes);
  static constexpr int kValueChannels = kValueBytes * 8 / Pages::kBits;  // per unit and lane
  static constexpr int kTiles = kValueUnits * kValueChannels / 2;        // of 16 channels

  static constexpr int kCodeBytes = kPageRows * kRowBytes;
  static constexpr int kKeyParameters = Pages::kScaled ? 2 * kDim * (1 + Pages::kZeroed) : 0;  // bytes
  static constexpr int kValueParameters = Pages::kScaled ? 2 * kPageRows * (1 + Pages::kZeroed) : 0;
  static constexpr int kKeyPage = kCodeBytes + kKeyParameters;
  static constexpr int kValuePage = kCodeBytes + kValueParameters;

  // First channel of the pair `pair` of a lane with lane % 4 == t.
  TESSERA_SIMT static constexpr int key_channel(int t, int pair) {
    return pair / kKeyPairs * 8 * kKeyPairs + t * 2 * kKeyPairs + 2 * (pair % kKeyPairs);
  }
  // Channel of row `lane / 4 == g` (high: of row g + 8) of output tile `tile`; kDim or more: padding.
  TESSERA_SIMT static constexpr int value_channel(int g, int tile, int high) {
    const int tiles = kValueChannels / 2;
    return (tile / tiles * 8 + g) * kValueChannels + 2 * (tile % tiles) + high;
  }
};

static_assert(PageShape<Bf16Pages, 128>::kKeyPage == page_bytes(PageFormat::bf16, 128).key);
static_assert(PageShape<Int4Pages, 96>::kValuePage == page_bytes(PageFormat::int4, 96).value);
static_assert(PageShape<Int8Pages, 128>::kKeyPage == page_bytes(PageFormat::int8, 128).key);
static_assert(PageShape<Fp8Pages, 64>::kValuePage == page_bytes(PageFormat::fp8, 64).value);

}  // namespace tessera::attention::cuda
