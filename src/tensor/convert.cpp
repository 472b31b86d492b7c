#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tessera/base/error.h"
#include "tessera/tensor/ops.h"
#include "tessera/tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/convert.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tensor/weights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// Whole groups go straight to the target; the rest of a plain type through a padded copy.
template <DType kType>
void widen_type(const std::byte* source, int64_t count, float* target) {
  const int64_t whole = count / kGroup * kGroup;
  expand<kType>(source, whole, target);
  if (whole == count) return;
  HWY_ALIGN float padded[kGroup];
  expand<kType>(source + whole / kGroup * Group<kType>::kBytes, count - whole, padded);
  std::memcpy(target + whole, padded, static_cast<size_t>(count - whole) * sizeof(float));
}

void widen(DType dtype, const std::byte* source, int64_t count, float* target) {
  switch (dtype) {
    case DType::f32:
      return widen_type<DType::f32>(source, count, target);
    case DType::f16:
      return widen_type<DType::f16>(source, count, target);
    case DType::bf16:
      return widen_type<DType::bf16>(source, count, target);
    case DType::q8_0:
      return widen_type<DType::q8_0>(source, count, target);
    case DType::q4_0:
      return widen_type<DType::q4_0>(source, count, target);
    case DType::q4_1:
      return widen_type<DType::q4_1>(source, count, target);
    case DType::i32:
      return;
  }
}

HWY_INLINE void store_u16(const float* source, int64_t count, std::byte* target, uint16_t (*convert)(float)) {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = convert(source[i]);
    std::memcpy(target + 2 * i, &bits, sizeof(bits));
  }
}

void narrow_to_f16(const float* source, int64_t count, std::byte* target) {
  int64_t i = 0;
#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86
  const FloatTag d;
  const hn::Rebind<hwy::float16_t, FloatTag> d16;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(hn::DemoteTo(d16, hn::LoadU(d, source + i)), d16, reinterpret_cast<hwy::float16_t*>(target + 2 * i));
  }
#endif
  store_u16(source + i, count - i, target + 2 * i, f32_to_f16);
}

void narrow_to_bf16(const float* source, int64_t count, std::byte* target) {
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du;
  const hn::RebindToSigned<FloatTag> di;
  const hn::Rebind<uint16_t, FloatTag> d16;
  for (; i + kLanes <= count; i += kLanes) {
    const auto value = hn::LoadU(d, source + i);
    const auto bits = hn::BitCast(du, value);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1U));
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFFU))));
    const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40U));
    const auto result = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, rounded);
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, result)), d16, reinterpret_cast<uint16_t*>(target + 2 * i));
  }
#endif
  store_u16(source + i, count - i, target + 2 * i, f32_to_bf16);
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {
namespace {

HWY_EXPORT(widen);
HWY_EXPORT(narrow_to_f16);
HWY_EXPORT(narrow_to_bf16);

void put_f16(float value, std::byte* target) {
  const uint16_t bits = f32_to_f16(value);
  std::memcpy(target, &bits, sizeof(bits));
}

float inverse(float scale) { return scale != 0 ? 1.0F / scale : 0.0F; }

// Truncates towards zero after limiting to [low, high]; a NaN becomes low.
int limited(float value, float low, float high) { return static_cast<int>(value >= low ? std::min(value, high) : low); }

// The three quantisers follow ggml's reference ones (ggml-org/ggml: src/ggml-quants.c, quantize_row_*_ref) bit for bit
// on finite input: the scale is applied in f32 and stored as f16; nibbles are rounded by adding one half.
void quantise_q8_0(const float* x, std::byte* target) {
  float largest = 0;
  for (int64_t i = 0; i < kQuantBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float scale = largest / 127.0F;
  const float factor = inverse(scale);
  put_f16(scale, target);
  for (int64_t i = 0; i < kQuantBlock; ++i) {
    target[2 + i] = static_cast<std::byte>(limited(std::round(x[i] * factor), -128.0F, 127.0F));
  }
}

void put_nibbles(const int (&q)[kQuantBlock], std::byte* target) {
  constexpr int kHalf = kQuantBlock / 2;
  for (int i = 0; i < kHalf; ++i) target[i] = static_cast<std::byte>(q[i] | (q[i + kHalf] << 4));
}

void quantise_q4_0(const float* x, std::byte* target) {
  float extreme = 0;  // the first value of largest magnitude, with its sign: it maps to -8
  for (int64_t i = 0; i < kQuantBlock; ++i) extreme = std::fabs(x[i]) > std::fabs(extreme) ? x[i] : extreme;
  const float scale = extreme / -8.0F;
  const float factor = inverse(scale);
  int q[kQuantBlock];
  for (int64_t i = 0; i < kQuantBlock; ++i) q[i] = limited(x[i] * factor + 8.5F, 0.0F, 15.0F);
  put_f16(scale, target);
  put_nibbles(q, target + 2);
}

void quantise_q4_1(const float* x, std::byte* target) {
  float low = std::numeric_limits<float>::max();
  float high = std::numeric_limits<float>::lowest();
  for (int64_t i = 0; i < kQuantBlock; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  const float scale = (high - low) / 15.0F;
  const float factor = inverse(scale);
  int q[kQuantBlock];
  for (int64_t i = 0; i < kQuantBlock; ++i) q[i] = limited((x[i] - low) * factor + 0.5F, 0.0F, 15.0F);
  put_f16(scale, target);
  put_f16(low, target + 2);
  put_nibbles(q, target + 4);
}

void check_count(DType dtype, int64_t count) {
  if (dtype == DType::i32) throw Error(ErrorCode::invalid_argument, "convert: i32 holds no real numbers");
  if (count < 0 || count % block_elements(dtype) != 0) {
    throw Error(ErrorCode::invalid_argument, "convert: expected a multiple of {} elements of {}, found {}",
                block_elements(dtype), to_string(dtype), count);
  }
}

}  // namespace

void convert_to_f32(DType dtype, const std::byte* source, int64_t count, float* target) {
  check_count(dtype, count);
  ensure_simd_target();
  if (count > 0) HWY_DYNAMIC_DISPATCH(widen)(dtype, source, count, target);
}

void convert_from_f32(const float* source, int64_t count, DType dtype, std::byte* target) {
  check_count(dtype, count);
  ensure_simd_target();
  if (count == 0) return;
  if (dtype == DType::f32) std::memcpy(target, source, static_cast<size_t>(count) * sizeof(float));
  if (dtype == DType::f16) HWY_DYNAMIC_DISPATCH(narrow_to_f16)(source, count, target);
  if (dtype == DType::bf16) HWY_DYNAMIC_DISPATCH(narrow_to_bf16)(source, count, target);
  if (!is_quantised(dtype)) return;
  const auto quantise = dtype == DType::q8_0 ? quantise_q8_0 : dtype == DType::q4_0 ? quantise_q4_0 : quantise_q4_1;
  for (int64_t block = 0; block < count / kQuantBlock; ++block) {
    quantise(source + block * kQuantBlock, target + block * block_bytes(dtype));
  }
}

}  // namespace tessera
#endif  // HWY_ONCE
