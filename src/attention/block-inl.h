// What the kernels share: the shape of register tiles and 2^x. Included once per Highway target.
#if defined(TESSERA_ATTENTION_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_ATTENTION_BLOCK_INL_H_
#undef TESSERA_ATTENTION_BLOCK_INL_H_
#else
#define TESSERA_ATTENTION_BLOCK_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace tessera::attention::HWY_NAMESPACE {

// Vectors of every kernel: at most 16 lanes, so that two of them divide 32 channels and 64 lanes of a block.
using D = hwy::HWY_NAMESPACE::CappedTag<float, 16>;
using V = hwy::HWY_NAMESPACE::Vec<D>;

// A register tile holds kPackedKeys keys (or lanes) by a panel of two vectors.
HWY_INLINE int panel_lanes() { return 2 * static_cast<int>(hwy::HWY_NAMESPACE::Lanes(D())); }

constexpr float kLog2E = 1.44269504088896341F;

// 2^x for x in [-inf, 0.5]; below -126 the result is a meaningless number under 2^-125. Relative error below 2e-7
// (Taylor polynomial of degree 6 of 2^f on [-0.5, 0.5], x = n + f).
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp2_nonpositive(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToSigned<D> di;
  // Adding 1.5 * 2^23 leaves round(x) in the low bits of the sum's mantissa.
  const V shifter = hn::Set(d, 12582912.0F);
  const V clamped = hn::Max(x, hn::Set(d, -126.0F));
  const V shifted = hn::Add(clamped, shifter);
  const V fraction = hn::Sub(clamped, hn::Sub(shifted, shifter));
  V p = hn::Set(d, 1.54035303e-4F);
  p = hn::MulAdd(p, fraction, hn::Set(d, 1.33335581e-3F));
  p = hn::MulAdd(p, fraction, hn::Set(d, 9.61812911e-3F));
  p = hn::MulAdd(p, fraction, hn::Set(d, 5.55041087e-2F));
  p = hn::MulAdd(p, fraction, hn::Set(d, 2.40226507e-1F));
  p = hn::MulAdd(p, fraction, hn::Set(d, 6.93147181e-1F));
  p = hn::MulAdd(p, fraction, hn::Set(d, 1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
}

// The same, but exactly zero below -126, -infinity included.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp2_or_zero(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, -126.0F)), exp2_nonpositive(d, x));
}

}  // namespace tessera::attention::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
