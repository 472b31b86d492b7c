// Element types of tensors, and how many bytes they take.
//
// Quantised types store blocks of 32 consecutive elements of a row, byte for byte as in GGUF
// (ggml-org/ggml: docs/gguf.md, ggml-quants):
//   q8_0  half d;          int8  q[32]     x = d q              34 bytes
//   q4_0  half d;          uint4 q[32]     x = d (q - 8)        18 bytes
//   q4_1  half d, half m;  uint4 q[32]     x = d q + m          20 bytes
// A byte j of the 16 nibble bytes holds element j in its low and element j + 16 in its high half.
#pragma once

#include <cstdint>
#include <string_view>

namespace tessera {

enum class DType : uint8_t { f32, f16, bf16, i32, q8_0, q4_0, q4_1 };

constexpr int64_t kQuantBlock = 32;  // elements of one quantised block

std::string_view to_string(DType dtype);

constexpr bool is_quantised(DType dtype) {
  return dtype == DType::q8_0 || dtype == DType::q4_0 || dtype == DType::q4_1;
}

// Elements of the smallest addressable unit: 32 for quantised types, else 1.
constexpr int64_t block_elements(DType dtype) { return is_quantised(dtype) ? kQuantBlock : 1; }

constexpr int64_t block_bytes(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::q8_0:
      return 34;
    case DType::q4_0:
      return 18;
    case DType::q4_1:
      return 20;
  }
  return 0;
}

// Bytes of one row of `elements` elements; elements must be a multiple of block_elements(dtype).
constexpr int64_t row_bytes(DType dtype, int64_t elements) {
  return elements / block_elements(dtype) * block_bytes(dtype);
}

// Scalar conversions, round to nearest even. The vectorised ones are in tensor/ops.h.
float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);
float bf16_to_f32(uint16_t bits);
uint16_t f32_to_bf16(float value);

}  // namespace tessera
