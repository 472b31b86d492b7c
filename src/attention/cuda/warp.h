// Warps that the host can run too: a value per lane, the matrix instruction, transposes and exchanges between lanes.
//
//   Lanes<float> sum;
//   warp_each([&](int lane) { sum[lane] = 1; });   // no meeting of the lanes inside
//   warp_max(sum, 4);                              // with the lane whose index differs in bit 2
//
// On the device a Lanes<T> is one register and warp_each the body for the calling lane; on the host it is 32 values and
// a loop, so tests execute the very kernel code without a GPU. Shared memory written in one warp_each is seen by the
// next one only after warp_sync(). Fragment layouts: PTX ISA 8.0, "mma.m16n8k16".
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "attention/cuda/simt.h"

namespace tessera::attention::cuda {

constexpr int kWarp = 32;

template <typename T>
struct Lanes {
#if defined(__CUDA_ARCH__)
  T value;
  TESSERA_SIMT T& operator[](int) { return value; }
  TESSERA_SIMT const T& operator[](int) const { return value; }
#else
  T value[kWarp];
  TESSERA_SIMT T& operator[](int lane) { return value[lane]; }
  TESSERA_SIMT const T& operator[](int lane) const { return value[lane]; }
#endif
};

template <typename Body>
TESSERA_SIMT inline void warp_each(Body&& body) {
#if defined(__CUDA_ARCH__)
  body(static_cast<int>(threadIdx.x % kWarp));
#else
  for (int lane = 0; lane < kWarp; ++lane) body(lane);
#endif
}

TESSERA_SIMT inline void warp_sync() {
#if defined(__CUDA_ARCH__)
  __syncwarp();
#endif
}

// value[lane] becomes combine(value[lane], value[lane ^ mask]) for a commutative combine.
template <typename Combine>
TESSERA_SIMT inline void warp_combine(Lanes<float>& value, int mask, const Combine& combine) {
#if defined(__CUDA_ARCH__)
  value.value = combine(value.value, __shfl_xor_sync(0xffffffffu, value.value, mask));
#else
  const Lanes<float> before = value;
  for (int lane = 0; lane < kWarp; ++lane) value[lane] = combine(before[lane], before[lane ^ mask]);
#endif
}

TESSERA_SIMT inline void warp_max(Lanes<float>& value, int mask) {
  warp_combine(value, mask, [](float a, float b) { return a > b ? a : b; });
}

TESSERA_SIMT inline void warp_add(Lanes<float>& value, int mask) {
  warp_combine(value, mask, [](float a, float b) { return a + b; });
}

// ---- Packed pairs of 16-bit numbers; `low` is the lower half.

TESSERA_SIMT inline uint32_t pack_pair(uint16_t low, uint16_t high) { return low | static_cast<uint32_t>(high) << 16; }

// 16-bit operand formats of the matrix instruction.
struct Bfloat {
  TESSERA_SIMT static float decode(uint16_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits)); }
  TESSERA_SIMT static uint32_t pack(float low, float high) {
    return pack_pair(__bfloat16_as_ushort(__float2bfloat16(low)), __bfloat16_as_ushort(__float2bfloat16(high)));
  }
};

struct Half {
  TESSERA_SIMT static float decode(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
  TESSERA_SIMT static uint16_t encode(float value) { return __half_as_ushort(__float2half(value)); }
  TESSERA_SIMT static uint32_t pack(float low, float high) { return pack_pair(encode(low), encode(high)); }
  TESSERA_SIMT static __half2 pair(uint32_t bits) {
    return __halves2half2(__ushort_as_half(static_cast<uint16_t>(bits)),
                          __ushort_as_half(static_cast<uint16_t>(bits >> 16)));
  }
  TESSERA_SIMT static uint32_t bits(__half2 pair) {
    return pack_pair(__half_as_ushort(__low2half(pair)), __half_as_ushort(__high2half(pair)));
  }
  TESSERA_SIMT static uint32_t subtract(uint32_t a, uint32_t b) { return bits(__hsub2(pair(a), pair(b))); }
  TESSERA_SIMT static uint32_t multiply(uint32_t a, uint32_t b) { return bits(__hmul2(pair(a), pair(b))); }
};

// Byte i of the result is byte `selector >> 4 * i & 7` of (b, a), a being the lower four.
TESSERA_SIMT inline uint32_t select_bytes(uint32_t a, uint32_t b, uint32_t selector) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(a, b, selector);
#else
  const uint64_t both = a | static_cast<uint64_t>(b) << 32;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    result |= static_cast<uint32_t>(both >> (8 * (selector >> (4 * i) & 7u)) & 255u) << (8 * i);
  }
  return result;
#endif
}

TESSERA_SIMT inline float exp2_fast(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

// ---- c[16][8] += a[16][16] b[16][8]. With g = lane / 4 and t = lane % 4 a lane holds, low half first:
//   a[0] = a[g][2t, 2t+1], a[1] = a[g+8][..], a[2] = a[g][2t+8, 2t+9], a[3] = a[g+8][..]
//   b[0] = b[2t, 2t+1][g], b[1] = b[2t+8, 2t+9][g]
//   c[0], c[1] = c[g][2t, 2t+1], c[2], c[3] = c[g+8][2t, 2t+1]
template <typename Operand>
TESSERA_SIMT inline void multiply_add(Lanes<float> (&c)[4], const Lanes<uint32_t> (&a)[4],
                                      const Lanes<uint32_t> (&b)[2]) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<Operand, Half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(c[0].value), "+f"(c[1].value), "+f"(c[2].value), "+f"(c[3].value)
        : "r"(a[0].value), "r"(a[1].value), "r"(a[2].value), "r"(a[3].value), "r"(b[0].value), "r"(b[1].value));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0].value), "+f"(c[1].value), "+f"(c[2].value), "+f"(c[3].value)
        : "r"(a[0].value), "r"(a[1].value), "r"(a[2].value), "r"(a[3].value), "r"(b[0].value), "r"(b[1].value));
  }
#else
  float left[16][16];
  float right[16][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    const int g = lane / 4;
    const int t = lane % 4;
    for (int side = 0; side < 2; ++side) {
      for (int r = 0; r < 4; ++r) {
        left[g + 8 * (r % 2)][2 * t + side + 8 * (r / 2)] =
            Operand::decode(static_cast<uint16_t>(a[r][lane] >> (16 * side)));
      }
      for (int r = 0; r < 2; ++r) {
        right[2 * t + side + 8 * r][g] = Operand::decode(static_cast<uint16_t>(b[r][lane] >> (16 * side)));
      }
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int r = 0; r < 4; ++r) {
      for (int k = 0; k < 16; ++k) {
        c[r][lane] += left[lane / 4 + 8 * (r / 2)][k] * right[k][2 * (lane % 4) + r % 2];
      }
    }
  }
#endif
}

// The 8x8 matrix of 16-bit numbers whose row lane / 4 holds columns 2 * (lane % 4) and the next, transposed.
TESSERA_SIMT inline void transpose(Lanes<uint32_t>& matrix) {
#if defined(__CUDA_ARCH__)
  uint32_t result;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(matrix.value));
  matrix.value = result;
#else
  const Lanes<uint32_t> before = matrix;
  const auto element = [&](int row, int column) {
    return static_cast<uint16_t>(before[row * 4 + column / 2] >> (16 * (column % 2)));
  };
  for (int lane = 0; lane < kWarp; ++lane) {
    const int row = lane / 4;
    const int column = 2 * (lane % 4);
    matrix[lane] = pack_pair(element(column, row), element(column + 1, row));
  }
#endif
}

// `count` 32-bit words (1, 2 or 4) from an address aligned to their bytes.
template <int kCount>
TESSERA_SIMT inline void load_words(uint32_t (&words)[kCount], const void* from) {
#if defined(__CUDA_ARCH__)
  if constexpr (kCount == 4) {
    const uint4 v = *static_cast<const uint4*>(from);
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
  } else if constexpr (kCount == 2) {
    const uint2 v = *static_cast<const uint2*>(from);
    words[0] = v.x, words[1] = v.y;
  } else {
    words[0] = *static_cast<const uint32_t*>(from);
  }
#else
  memcpy(words, from, sizeof words);
#endif
}

}  // namespace tessera::attention::cuda
