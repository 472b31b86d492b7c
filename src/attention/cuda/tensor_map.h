// Copy-engine descriptors of [rows, heads, head_dim] tensors of 16-bit elements: boxes of 64 channels, one head and
// `box_rows` rows, swizzled over 128 bytes; what lies outside the tensor arrives as zeros.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace tessera::attention::cuda {

struct TensorMapSource {
  const void* data = nullptr;  // aligned to 16 bytes
  bool half_precision = false;
  int64_t rows = 0, heads = 0, head_dim = 0;
  int64_t row_stride = 0, head_stride = 0;  // elements, multiples of 8
  int box_rows = 0;
};

// The arguments of cuTensorMapEncodeTiled, apart for tests.
struct TensorMapArguments {
  cuuint64_t dimensions[3];
  cuuint64_t strides[2];  // bytes, of dimensions 1 and 2
  cuuint32_t box[3];
};
TensorMapArguments tensor_map_arguments(const TensorMapSource& source);

// Throws Error(unsupported) without a driver.
CUtensorMap encode_tensor_map(const TensorMapSource& source);

}  // namespace tessera::attention::cuda
