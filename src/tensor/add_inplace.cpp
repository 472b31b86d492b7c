#include "tessera/base/error.h"
#include "tessera/tensor/ops.h"
#include "tessera/tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/add_inplace.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

void add_range(float* x, const float* y, int64_t count) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, x + i);
  for (; i < count; ++i) x[i] += y[i];
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {
namespace {

HWY_EXPORT(add_range);

constexpr int64_t kElementsPerTask = 64 * 1024;

}  // namespace

void add_inplace(Tensor& x, const Tensor& y, ThreadPool* pool) {
  if (x.dtype() != DType::f32 || y.dtype() != DType::f32 || x.shape() != y.shape()) {
    throw Error(ErrorCode::invalid_argument, "add_inplace: expected x and y to be f32 of one shape, found {} and {}",
                x.shape().str(), y.shape().str());
  }
  ensure_simd_target();
  if (x.elements() == 0) return;
  float* to = x.data<float>();
  const float* from = y.data<float>();
  const auto add = HWY_DYNAMIC_DISPATCH(add_range);
  (pool != nullptr ? *pool : ThreadPool::shared())
      .parallel_for(0, x.elements(), kElementsPerTask,
                    [&](int64_t begin, int64_t end, int) { add(to + begin, from + begin, end - begin); });
}

}  // namespace tessera
#endif  // HWY_ONCE
