// Oracles of the operations in tessera/tensor/ops.h: scalar, one loop per index, accumulating in double. Slow on
// purpose; used by tests and by the expected answers of benchmarks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tessera/tensor/tensor.h"

namespace tessera::reference {

// The value that is stored for element `index` of packed data.
double element(DType dtype, const std::byte* source, int64_t index);

// All elements of a tensor of a real type, row-major.
std::vector<double> values(const Tensor& tensor);

// [rows, out] of x [rows, in], weight [out, in]; bias [out] may be undefined.
std::vector<double> linear(const Tensor& x, const Tensor& weight, const Tensor& bias);

// sum_k |x[r, k] w[n, k]| for every element of y, [rows, out]: what the rounding error of any summation order is
// bounded by.
std::vector<double> linear_magnitude(const Tensor& x, const Tensor& weight);

// [rows, width].
std::vector<double> rms_norm(const Tensor& x, const Tensor& weight, double epsilon);

// Elementwise silu(gate) * up.
std::vector<double> silu_multiply(const Tensor& gate, const Tensor& up);

// The quantised bytes of one block of 32 values, straight from the definition of the format.
std::vector<std::byte> quantise_block(DType dtype, std::span<const float> block);

}  // namespace tessera::reference
