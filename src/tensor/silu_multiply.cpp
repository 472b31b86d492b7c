#include "tessera/base/error.h"
#include "tessera/tensor/ops.h"
#include "tessera/tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/silu_multiply.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// Needs the vector operations of the current target.
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// silu(z) u with e = exp(-|z|), which cannot overflow: z / (1 + e) for z >= 0, z e / (1 + e) below. Highway's Exp is
// within 1 ulp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V silu_times(D d, V z, V up) {
  const V one = hn::Set(d, 1.0F);
  const V e = hn::Exp(d, hn::Neg(hn::Abs(z)));
  const V numerator = hn::IfThenElse(hn::Lt(z, hn::Zero(d)), hn::Mul(z, e), z);
  return hn::Mul(hn::Div(numerator, hn::Add(one, e)), up);
}

void silu_multiply_range(float* HWY_RESTRICT gate, const float* HWY_RESTRICT up, int64_t count) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(silu_times(d, hn::LoadU(d, gate + i), hn::LoadU(d, up + i)), d, gate + i);
  }
  const hn::CappedTag<float, 1> d1;
  for (; i < count; ++i) hn::StoreU(silu_times(d1, hn::LoadU(d1, gate + i), hn::LoadU(d1, up + i)), d1, gate + i);
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {
namespace {

HWY_EXPORT(silu_multiply_range);

constexpr int64_t kElementsPerTask = 32 * 1024;

}  // namespace

void silu_multiply(Tensor& gate, const Tensor& up, ThreadPool* pool) {
  if (gate.dtype() != DType::f32 || up.dtype() != DType::f32 || gate.shape() != up.shape()) {
    throw Error(ErrorCode::invalid_argument,
                "silu_multiply: expected gate and up to be f32 of one shape, found {} and {}", gate.shape().str(),
                up.shape().str());
  }
  ensure_simd_target();
  if (gate.elements() == 0) return;
  float* to = gate.data<float>();
  const float* factor = up.data<float>();
  const auto multiply = HWY_DYNAMIC_DISPATCH(silu_multiply_range);
  (pool != nullptr ? *pool : ThreadPool::shared())
      .parallel_for(0, gate.elements(), kElementsPerTask,
                    [&](int64_t begin, int64_t end, int) { multiply(to + begin, factor + begin, end - begin); });
}

}  // namespace tessera
#endif  // HWY_ONCE
