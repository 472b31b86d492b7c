// Scores of key tiles by means of rows, in arithmetic that the host repeats bit by bit.
//
// A mean is stored as integer codes and one step: channel c is code[c] * step, |code| <= 255. Codes are exact in bf16
// and f16, and a product of two means over up to 256 channels stays below 2^24, so tensor cores add it exactly in any
// order. Exponentials of a log-sum-exp are added as integers.
#pragma once

#include "attention/cuda/exact_math.h"

namespace tessera::attention::cuda {

constexpr float kMeanCode = 255;           // largest code
constexpr float kPairUnits = 16777216.0F;  // 2^24, of one exponential

TESSERA_SIMT inline float mean_step(float largest) { return exact_divide(largest, kMeanCode); }
TESSERA_SIMT inline float mean_code(float mean, float largest) {
  return largest > 0 ? exact_round(exact_multiply(mean, exact_divide(kMeanCode, largest))) : 0;
}

// In bits. dot: of the codes.
TESSERA_SIMT inline float pair_score(float dot, float query_step, float key_step, float scale) {
  return exact_multiply(exact_multiply(exact_multiply(dot, query_step), key_step),
                        exact_multiply(scale, 1.4426950408889634F));
}
// What a pair adds to the sum of its tile, whose largest score is `top`.
TESSERA_SIMT inline uint32_t pair_weight(float score, float top) {
  return static_cast<uint32_t>(exact_multiply(exact_exp2(exact_add(score, -top)), kPairUnits));
}
// The tile's log-sum-exp, natural logarithm.
TESSERA_SIMT inline float tile_score(float top, uint32_t weights) {
  const float bits = exact_add(top, exact_add(exact_log2(static_cast<float>(weights)), -24));
  return exact_multiply(bits, 0.6931471805599453F);
}

}  // namespace tessera::attention::cuda
