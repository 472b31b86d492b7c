// The dense CPU operations of a transformer outside attention. Every one has a scalar fp64-accumulating oracle in
// src/tensor/reference.h and runs under Highway's run-time dispatch (environment variable TESSERA_CPU_TARGET, for example
// "scalar", "sse4", "avx2", "avx3", forces a target for tests and bug reports).
#pragma once

#include <span>
#include <string>

#include "tessera/base/thread_pool.h"
#include "tessera/tensor/tensor.h"

namespace tessera {

// y[rows, out] = x[rows, in] * weight[out, in]^T (+ bias[out]).
//   x, y: f32. weight: any DType except i32, row-major [out, in], used in place (weights stay mapped; blocks are expanded
//   tile by tile into a fixed work space per thread). bias: f32 [out] or undefined.
// Few rows (decode) run as matrix-vector products on the stored blocks; many rows as a blocked GEMM in f32.
// `accumulate` adds to y instead of overwriting it.
struct LinearOptions {
  bool accumulate = false;
  ThreadPool* pool = nullptr;  // null: ThreadPool::shared()
};
void linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const LinearOptions& options = {});

// y[r, :] = x[r, :] / sqrt(mean(x[r, :]^2) + epsilon) * weight   (x may be y). All f32 except weight (f32, f16, bf16).
void rms_norm(const Tensor& x, const Tensor& weight, float epsilon, Tensor& y, ThreadPool* pool = nullptr);

// gate[i] = silu(gate[i]) * up[i], silu(z) = z / (1 + exp(-z)). f32, same shape.
void silu_multiply(Tensor& gate, const Tensor& up, ThreadPool* pool = nullptr);

// x += y, f32.
void add_inplace(Tensor& x, const Tensor& y, ThreadPool* pool = nullptr);

// y[i, :] = table[tokens[i], :] converted to f32. table: any DType except i32, [vocabulary, width].
void gather_rows(const Tensor& table, std::span<const int32_t> tokens, Tensor& y);

// Converts to f32 (dequantises). count elements; a multiple of block_elements(dtype).
void convert_to_f32(DType dtype, const std::byte* source, int64_t count, float* target);
// Converts f32 to f32, f16, bf16, q8_0, q4_0 or q4_1 (GGUF's rounding rules).
void convert_from_f32(const float* source, int64_t count, DType dtype, std::byte* target);

// The SIMD target that is in use, for example "AVX2".
std::string simd_target();

}  // namespace tessera
