#include "tessera/base/error.h"
#include "tessera/tensor/ops.h"

namespace tessera {

void gather_rows(const Tensor& table, std::span<const int32_t> tokens, Tensor& y) {
  const auto rows = static_cast<int64_t>(tokens.size());
  if (table.dtype() == DType::i32 || table.shape().rank() != 2) {
    throw Error(ErrorCode::invalid_argument, "gather_rows: expected table to be [vocabulary, width], found {} of {}",
                table.shape().str(), to_string(table.dtype()));
  }
  const int64_t vocabulary = table.shape()[0];
  const int64_t width = table.shape()[1];
  if (y.dtype() != DType::f32 || y.shape() != Shape({rows, width})) {
    throw Error(ErrorCode::invalid_argument, "gather_rows: expected y to be [{}, {}] of f32, found {} of {}", rows,
                width, y.shape().str(), to_string(y.dtype()));
  }
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocabulary) {
      throw Error(ErrorCode::invalid_argument, "gather_rows: expected tokens in [0, {}), found {}", vocabulary, token);
    }
  }
  float* target = y.data<float>();
  const int64_t stride = row_bytes(table.dtype(), width);
  for (int64_t row = 0; row < rows; ++row) {
    convert_to_f32(table.dtype(), table.raw() + tokens[static_cast<size_t>(row)] * stride, width, target + row * width);
  }
}

}  // namespace tessera
