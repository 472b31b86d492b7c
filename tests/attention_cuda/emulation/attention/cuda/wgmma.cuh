// wgmma as a model on the CPU: operands are fetched as the PTX ISA says that a descriptor with 128-byte swizzle
// addresses them; accumulator and operand registers follow its fragment pictures.
#pragma once

#include "attention/cuda/ptx.cuh"

namespace tessera::attention::cuda {

template <typename Element, int kColumns>
struct Wgmma {
  static constexpr int kCount = kColumns / 2;

  static float fetch(uint32_t address) {
    address ^= (address >> 7 & 7) << 4;
    Element value;
    std::memcpy(static_cast<void*>(&value), raw + (address - kSharedBase), 2);
    return static_cast<float>(value);
  }
  static uint32_t field(uint64_t descriptor, int bit) { return static_cast<uint32_t>(descriptor >> bit & 0x3fff) << 4; }

  // Element (row, k) of an operand whose contracted dimension is contiguous.
  static float contiguous(uint64_t d, int row, int k) {
    if (d >> 62 != 1 || (d >> 49 & 7) != 0)
      throw std::logic_error("descriptor: 128-byte swizzle, base offset 0 expected");
    return fetch(field(d, 0) + static_cast<uint32_t>(row / 8) * field(d, 32) + static_cast<uint32_t>(row % 8) * 128 +
                 static_cast<uint32_t>(k) * 2);
  }
  // Element (k, column) of an operand whose other dimension is contiguous.
  static float transposed(uint64_t d, int k, int column) {
    if (d >> 62 != 1 || (d >> 49 & 7) != 0)
      throw std::logic_error("descriptor: 128-byte swizzle, base offset 0 expected");
    return fetch(field(d, 0) + static_cast<uint32_t>(column / 64) * field(d, 16) +
                 static_cast<uint32_t>(k / 8) * field(d, 32) + static_cast<uint32_t>(k % 8) * 128 +
                 static_cast<uint32_t>(column % 64) * 2);
  }
  template <int kTransposeB>
  static float b_element(uint64_t b, int k, int column) {
    return kTransposeB ? transposed(b, k, column) : contiguous(b, column, k);
  }

  template <int kTransposeB, typename FetchA>
  static void multiply(float (&d)[kCount], const FetchA& a, uint64_t b, int accumulate) {
    int thread = static_cast<int>(threadIdx.x) % 128;
    float rows[2][16];
    for (int half = 0; half < 2; ++half) {
      for (int k = 0; k < 16; ++k) rows[half][k] = a(thread / 32 * 16 + thread % 32 / 4 + half * 8, k);
    }
    for (int group = 0; group < kColumns / 8; ++group) {
      for (int e = 0; e < 2; ++e) {
        float column[16];
        for (int k = 0; k < 16; ++k) column[k] = b_element<kTransposeB>(b, k, group * 8 + thread % 4 * 2 + e);
        for (int half = 0; half < 2; ++half) {
          float sum = accumulate ? d[group * 4 + half * 2 + e] : 0;
          for (int k = 0; k < 16; ++k) sum += rows[half][k] * column[k];
          d[group * 4 + half * 2 + e] = sum;
        }
      }
    }
  }

  template <int kTransposeB>
  static void shared(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
    multiply<kTransposeB>(
        d, [a](int row, int k) { return contiguous(a, row, k); }, b, accumulate);
  }

  template <int kTransposeB>
  static void registers(float (&d)[kCount], const uint32_t* a, uint64_t b, int accumulate) {
    Warp& warp = this_warp();
    for (int i = 0; i < 4; ++i) warp.words[threadIdx.x % 32][i] = a[i];
    warp.meet.arrive_and_wait();
    // Register i: row group i % 2, contracted elements from i / 2 * 8; lane l of a quad holds elements 2 l and 2 l + 1.
    auto fetch_a = [&warp](int row, int k) {
      uint32_t pair = warp.words[row % 8 * 4 + k % 8 / 2][k / 8 * 2 + row % 16 / 8];
      uint16_t bits = static_cast<uint16_t>(k % 2 ? pair >> 16 : pair);
      Element value;
      std::memcpy(static_cast<void*>(&value), &bits, 2);
      return static_cast<float>(value);
    };
    multiply<kTransposeB>(d, fetch_a, b, accumulate);
    warp.meet.arrive_and_wait();
  }
};

}  // namespace tessera::attention::cuda
