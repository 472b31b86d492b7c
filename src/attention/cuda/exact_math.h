// Arithmetic with the same bits on the host and on the device: every rounding is written down, nothing is left to the
// compilers' contraction of products and sums, and what is added up in an unknown order is added up as integers.
#pragma once

#include <cmath>
#include <cstring>

#include "attention/cuda/simt.h"

namespace tessera::attention::cuda {

// Rounded to nearest, never part of a fused operation.
TESSERA_SIMT inline float exact_multiply(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;  // this file's users are built with -ffp-contract=off
#endif
}
TESSERA_SIMT inline float exact_add(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}
TESSERA_SIMT inline float exact_divide(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}
// a b + c with one rounding.
TESSERA_SIMT inline float exact_fuse(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}
// To the nearest integer, ties to even; |x| < 2^22.
TESSERA_SIMT inline float exact_round(float x) { return exact_add(exact_add(x, 12582912.0F), -12582912.0F); }

TESSERA_SIMT inline uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
TESSERA_SIMT inline float bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// 2^x for x <= 0, 0 below -126. Relative error below 2e-7 (Taylor polynomial of 2^f on [-0.5, 0.5], x = n + f).
TESSERA_SIMT inline float exact_exp2(float x) {
  if (!(x >= -126.0F)) return 0;
  const float whole = exact_round(x);
  const float f = exact_add(x, -whole);
  float p = 1.54035303e-4F;
  p = exact_fuse(p, f, 1.33335581e-3F);
  p = exact_fuse(p, f, 9.61812911e-3F);
  p = exact_fuse(p, f, 5.55041087e-2F);
  p = exact_fuse(p, f, 2.40226507e-1F);
  p = exact_fuse(p, f, 6.93147181e-1F);
  p = exact_fuse(p, f, 1.0F);
  return bits_float(float_bits(p) + (static_cast<uint32_t>(static_cast<int32_t>(whole)) << 23));
}

// log2 of a positive normal number. Error below 3e-7 (series of the inverse hyperbolic tangent, mantissa in
// [0.70, 1.41]).
TESSERA_SIMT inline float exact_log2(float x) {
  const uint32_t bits = float_bits(x);
  const int32_t exponent = static_cast<int32_t>(bits - 0x3f330000u) >> 23;
  const float mantissa = bits_float(bits - (static_cast<uint32_t>(exponent) << 23));
  const float t = exact_divide(exact_add(mantissa, -1), exact_add(mantissa, 1));
  const float square = exact_multiply(t, t);
  float p = 0.320598895F;                   // 2 / (9 ln 2)
  p = exact_fuse(p, square, 0.412198584F);  // 2 / (7 ln 2)
  p = exact_fuse(p, square, 0.577078017F);  // 2 / (5 ln 2)
  p = exact_fuse(p, square, 0.961796694F);  // 2 / (3 ln 2)
  p = exact_fuse(p, square, 2.88539008F);   // 2 / ln 2
  return exact_fuse(p, t, static_cast<float>(exponent));
}

}  // namespace tessera::attention::cuda
