#include <cmath>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/tensor/ops.h"
#include "tessera/tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/rms_norm.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE float sum_of_squares(const float* x, int64_t width) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 4 * lanes <= width; i += 4 * lanes) {
    const auto x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + lanes);
    const auto x2 = hn::LoadU(d, x + i + 2 * lanes), x3 = hn::LoadU(d, x + i + 3 * lanes);
    sum0 = hn::MulAdd(x0, x0, sum0);
    sum1 = hn::MulAdd(x1, x1, sum1);
    sum2 = hn::MulAdd(x2, x2, sum2);
    sum3 = hn::MulAdd(x3, x3, sum3);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
  for (; i < width; ++i) total += x[i] * x[i];
  return total;
}

// One row of `width` elements; x may be y.
void norm_row(const float* x, const float* weight, int64_t width, float epsilon, float* y) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const float factor = 1.0F / std::sqrt(sum_of_squares(x, width) / static_cast<float>(width) + epsilon);
  const auto factors = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), factors), hn::LoadU(d, weight + i)), d, y + i);
  }
  for (; i < width; ++i) y[i] = x[i] * factor * weight[i];
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {
namespace {

HWY_EXPORT(norm_row);

constexpr int64_t kElementsPerTask = 32 * 1024;

void check(const Tensor& x, const Tensor& weight, const Tensor& y) {
  const DType dtype = weight.dtype();
  if (x.dtype() != DType::f32 || x.shape().rank() < 1 || y.dtype() != DType::f32 || y.shape() != x.shape()) {
    throw Error(ErrorCode::invalid_argument, "rms_norm: expected x and y to be f32 of one shape, found {} and {}",
                x.shape().str(), y.shape().str());
  }
  if (is_quantised(dtype) || dtype == DType::i32 || weight.shape() != Shape({x.shape().last()})) {
    throw Error(ErrorCode::invalid_argument, "rms_norm: expected weight to be [{}] of f32, f16 or bf16, found {} of {}",
                x.shape().last(), weight.shape().str(), to_string(dtype));
  }
}

}  // namespace

void rms_norm(const Tensor& x, const Tensor& weight, float epsilon, Tensor& y, ThreadPool* pool) {
  check(x, weight, y);
  ensure_simd_target();
  const int64_t width = x.shape().last();
  const int64_t rows = x.shape().rows();
  if (rows == 0) return;
  std::vector<float> scale(static_cast<size_t>(width));  // [width]
  convert_to_f32(weight.dtype(), weight.raw(), width, scale.data());
  const float* from = x.data<float>();
  float* to = y.data<float>();
  const auto norm = HWY_DYNAMIC_DISPATCH(norm_row);
  const int64_t grain = std::max<int64_t>(1, kElementsPerTask / width);
  (pool != nullptr ? *pool : ThreadPool::shared()).parallel_for(0, rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row)
      norm(from + row * width, scale.data(), width, epsilon, to + row * width);
  });
}

}  // namespace tessera
#endif  // HWY_ONCE
