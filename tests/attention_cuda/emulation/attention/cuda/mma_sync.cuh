// mma.m16n8k16 as a model on the CPU: fragments as PTX lays them out, sums in single precision.
#pragma once

#include "attention/cuda/ptx.cuh"

namespace tessera::attention::cuda {

// d += a b. Lane l has of a the rows l / 4 and l / 4 + 8 and the columns l % 4 * 2 + {0, 1} (+ 8), of b the same rows
// of columns l / 4, of d rows l / 4 and l / 4 + 8 and columns l % 4 * 2 + {0, 1}.
template <typename Element>
void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Warp& warp = this_warp();
  const unsigned lane = threadIdx.x % 32;
  const auto value = [](uint32_t pair, int k) {
    const auto bits = static_cast<uint16_t>(k % 2 ? pair >> 16 : pair);
    Element element;
    std::memcpy(static_cast<void*>(&element), &bits, 2);
    return static_cast<float>(element);
  };
  float rows[2][16];
  for (int i = 0; i < 4; ++i) warp.words[lane][i] = a[i];
  warp.meet.arrive_and_wait();
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < 16; ++k) rows[half][k] = value(warp.words[lane / 4 * 4 + k % 8 / 2][k / 8 * 2 + half], k);
  }
  warp.meet.arrive_and_wait();
  warp.words[lane][0] = b0;
  warp.words[lane][1] = b1;
  warp.meet.arrive_and_wait();
  for (int e = 0; e < 2; ++e) {
    for (int k = 0; k < 16; ++k) {
      const float b = value(warp.words[(lane % 4 * 2 + e) * 4 + k % 8 / 2][k / 8], k);
      for (int half = 0; half < 2; ++half) d[half * 2 + e] += rows[half][k] * b;
    }
  }
  warp.meet.arrive_and_wait();
}

}  // namespace tessera::attention::cuda
