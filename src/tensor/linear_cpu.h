// The two CPU bodies of `linear`. Both compute y = x W^T for a block of rows of x and a block of rows of W (which are
// columns of y); linear.cpp checks the arguments, picks the body and hands blocks to the threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tessera/tensor/dtype.h"

namespace tessera {

enum class Store : uint8_t { overwrite, accumulate };

struct LinearBlock {
  const float* x = nullptr;           // [rows, depth], row stride x_stride
  int64_t x_stride = 0;               // elements
  const std::byte* weight = nullptr;  // [columns, depth] of `dtype`, rows of weight_stride bytes, any alignment
  int64_t weight_stride = 0;          // bytes
  DType dtype = DType::f32;
  float* y = nullptr;  // [rows, columns], row stride y_stride
  int64_t y_stride = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;  // >= 1
  Store store = Store::overwrite;
};

// Rows of x, at most, that `linear` sends to linear_dot_cpu.
constexpr int64_t kDotRows = 7;

// Columns of y that one call of linear_gemm_cpu should cover: one packed panel of W.
constexpr int64_t kGemmColumns = 256;

// Many rows: expands W panel by panel into f32 and runs an outer-product register tile over it. Uses a fixed work space
// per thread.
void linear_gemm_cpu(const LinearBlock& block);

// Few rows: dot products straight from the stored weights. x rows must be readable, and zero, up to the next multiple
// of 32 elements; rows <= kDotRows.
void linear_dot_cpu(const LinearBlock& block);

}  // namespace tessera
