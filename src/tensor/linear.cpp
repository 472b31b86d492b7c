#include <algorithm>
#include <cstring>
#include <vector>

#include "tensor/linear_cpu.h"
#include "tessera/base/error.h"
#include "tessera/tensor/ops.h"
#include "tessera/tensor/simd.h"

namespace tessera {
namespace {

constexpr int64_t kGemmRows = 1024;         // rows of x that share one expansion of a panel of W
constexpr int64_t kDotWeights = 32 * 1024;  // weights that one thread should at least have to read

// Rows of a matrix view; unlike Shape::rows it is right when the last dimension is zero.
int64_t leading(const Shape& shape) {
  int64_t product = 1;
  for (int axis = 0; axis + 1 < shape.rank(); ++axis) product *= shape[axis];
  return product;
}

void check(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y) {
  const auto fail = [](const char* what, const char* expected, const Tensor& found) {
    throw Error(ErrorCode::invalid_argument, "linear: expected {} to be {}, found {} of {}", what, expected,
                found.shape().str(), to_string(found.dtype()));
  };
  for (const Tensor* tensor : {&x, &weight, &bias, static_cast<const Tensor*>(&y)}) {
    if (tensor->device().kind != DeviceKind::cpu) {
      throw Error(ErrorCode::unsupported, "linear: expected all tensors on the CPU");
    }
  }
  if (weight.dtype() == DType::i32 || weight.shape().rank() != 2) fail("weight", "[out, in] of a real type", weight);
  const int64_t out = weight.shape()[0];
  const int64_t in = weight.shape()[1];
  if (x.dtype() != DType::f32 || x.shape().rank() < 1 || x.shape().last() != in) {
    fail("x", fmt::format("[rows, {}] of f32", in).c_str(), x);
  }
  const int64_t rows = leading(x.shape());
  if (y.dtype() != DType::f32 || y.shape().rank() < 1 || y.shape().last() != out || leading(y.shape()) != rows) {
    fail("y", fmt::format("[{}, {}] of f32", rows, out).c_str(), y);
  }
  if (bias.defined() && (bias.dtype() != DType::f32 || bias.shape() != Shape({out}))) {
    fail("bias", fmt::format("[{}] of f32", out).c_str(), bias);
  }
  const std::byte* x_begin = x.raw();
  const std::byte* y_begin = y.raw();
  if (x.bytes() > 0 && y.bytes() > 0 && x_begin < y_begin + y.bytes() && y_begin < x_begin + x.bytes()) {
    throw Error(ErrorCode::invalid_argument, "linear: expected x and y in different memory, found that they overlap");
  }
}

// What y holds before the product is added: bias, y + bias, or y. Returns how to store the product.
Store prepare(LinearBlock& block, const Tensor& bias, bool accumulate) {
  if (!bias.defined() && block.depth > 0) return accumulate ? Store::accumulate : Store::overwrite;
  std::vector<float> terms(static_cast<size_t>(block.columns));  // [out]; a mapped bias may be unaligned
  if (bias.defined()) std::memcpy(terms.data(), bias.raw(), terms.size() * sizeof(float));
  for (int64_t row = 0; row < block.rows; ++row) {
    float* y = block.y + row * block.y_stride;
    for (int64_t column = 0; column < block.columns; ++column) {
      y[column] = accumulate ? y[column] + terms[static_cast<size_t>(column)] : terms[static_cast<size_t>(column)];
    }
  }
  return Store::accumulate;
}

LinearBlock columns_of(const LinearBlock& whole, int64_t begin, int64_t end) {
  LinearBlock part = whole;
  part.weight += begin * whole.weight_stride;
  part.y += begin;
  part.columns = end - begin;
  return part;
}

LinearBlock rows_of(const LinearBlock& whole, int64_t begin, int64_t end) {
  LinearBlock part = whole;
  part.x += begin * whole.x_stride;
  part.y += begin * whole.y_stride;
  part.rows = end - begin;
  return part;
}

void run_dot(LinearBlock block, ThreadPool& pool) {
  std::vector<float> padded;  // [rows, depth rounded up to 32]
  if (block.depth % kQuantBlock != 0) {
    const int64_t stride = (block.depth + kQuantBlock - 1) / kQuantBlock * kQuantBlock;
    padded.resize(static_cast<size_t>(block.rows * stride));
    for (int64_t row = 0; row < block.rows; ++row) {
      std::copy_n(block.x + row * block.x_stride, block.depth, padded.data() + row * stride);
    }
    block.x = padded.data();
    block.x_stride = stride;
  }
  const int64_t grain = std::max<int64_t>(16, kDotWeights / block.depth / 2 * 2);
  pool.parallel_for(0, block.columns, grain,
                    [&](int64_t begin, int64_t end, int) { linear_dot_cpu(columns_of(block, begin, end)); });
}

void run_gemm(const LinearBlock& block, ThreadPool& pool) {
  // Blocks of columns first: each thread then expands a weight once per kGemmRows rows.
  const int64_t row_blocks = (block.rows + kGemmRows - 1) / kGemmRows;
  const int64_t rows = (block.rows + row_blocks - 1) / row_blocks;
  const int64_t wanted =
      std::max<int64_t>(1, 4 * pool.threads() / row_blocks);  // column blocks, to balance the threads
  const int64_t columns = std::clamp<int64_t>((block.columns / wanted + 31) / 32 * 32, 64, kGemmColumns);
  const int64_t column_blocks = (block.columns + columns - 1) / columns;
  pool.parallel_for(0, row_blocks * column_blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / column_blocks * rows;
      const int64_t column = task % column_blocks * columns;
      const LinearBlock strip = rows_of(block, row, std::min(row + rows, block.rows));
      linear_gemm_cpu(columns_of(strip, column, std::min(column + columns, block.columns)));
    }
  });
}

}  // namespace

void linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const LinearOptions& options) {
  check(x, weight, bias, y);
  ensure_simd_target();
  LinearBlock block;
  block.x = x.data<float>();
  block.weight = weight.raw();
  block.dtype = weight.dtype();
  block.y = y.data<float>();
  block.rows = leading(x.shape());
  block.columns = weight.shape()[0];
  block.depth = weight.shape()[1];
  block.x_stride = block.depth;
  block.y_stride = block.columns;
  block.weight_stride = row_bytes(block.dtype, block.depth);
  if (block.rows == 0 || block.columns == 0) return;
  block.store = prepare(block, bias, options.accumulate);
  if (block.depth == 0) return;
  ThreadPool& pool = options.pool != nullptr ? *options.pool : ThreadPool::shared();
  block.rows <= kDotRows ? run_dot(block, pool) : run_gemm(block, pool);
}

}  // namespace tessera
