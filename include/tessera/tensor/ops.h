// The dense CPU operations of a transformer outside attention. Every one has a scalar fp64-accumulating oracle in
// src/tensor/reference.h and runs on the instruction set that tessera/tensor/simd.h chooses.
//
//   Tensor y = Tensor::empty(DType::f32, {rows, out});
//   linear(x, weight, Tensor(), y);              // weight: [out, in] of any real type, mapped from a file
//
// All tensors are on the CPU. Operands of wrong type or shape throw Error(invalid_argument) before anything is written.
// x and y of f32 must be aligned to 4 bytes; weights, biases and tables may start at any byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tessera/base/thread_pool.h"
#include "tessera/tensor/simd.h"
#include "tessera/tensor/tensor.h"

namespace tessera {

// y[rows, out] = x[rows, in] * weight[out, in]^T (+ bias[out]).
//   x, y: f32. weight: any DType except i32, row-major [out, in], used in place (weights stay mapped; blocks are
//   expanded tile by tile into a fixed work space per thread). bias: f32 [out] or undefined.
// Few rows (decode) run as matrix-vector products on the stored blocks; many rows as a blocked GEMM. Both compute in
// f32 with exact activations. Leading dimensions of x and y count as rows; x and y must not overlap. O(rows * in *
// out); a work space of less than 512 KiB per thread.
struct LinearOptions {
  bool accumulate = false;     // add to y instead of overwriting it
  ThreadPool* pool = nullptr;  // null: ThreadPool::shared()
};
void linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const LinearOptions& options = {});

// y[r, :] = x[r, :] / sqrt(mean(x[r, :]^2) + epsilon) * weight   (x may be y). All f32 except weight (f32, f16, bf16).
void rms_norm(const Tensor& x, const Tensor& weight, float epsilon, Tensor& y, ThreadPool* pool = nullptr);

// gate[i] = silu(gate[i]) * up[i], silu(z) = z / (1 + exp(-z)). f32, same shape.
void silu_multiply(Tensor& gate, const Tensor& up, ThreadPool* pool = nullptr);

// x += y, f32.
void add_inplace(Tensor& x, const Tensor& y, ThreadPool* pool = nullptr);

// y[i, :] = table[tokens[i], :] converted to f32. table: any DType except i32, [vocabulary, width]; y: [tokens, width].
// Throws Error(invalid_argument) on a token outside the vocabulary.
void gather_rows(const Tensor& table, std::span<const int32_t> tokens, Tensor& y);

// Converts to f32 (dequantises). count elements; a multiple of block_elements(dtype).
void convert_to_f32(DType dtype, const std::byte* source, int64_t count, float* target);
// Converts f32 to f32, f16, bf16 (round to nearest even), q8_0, q4_0 or q4_1 (the rounding of ggml's reference
// quantisers). source and target of both functions may start at any byte of the packed side.
void convert_from_f32(const float* source, int64_t count, DType dtype, std::byte* target);

}  // namespace tessera
