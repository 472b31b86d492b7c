// Stored weights to f32 vectors, 32 elements at a time, for every element type. Included once per Highway target.
//
//   float* values;  const std::byte* stored;  // 32 elements each
//   Group<DType::q4_1>::Vectors w;
//   Group<DType::q4_1>::load(stored, w);      // w[v] holds elements [v * kLanes, (v + 1) * kLanes)
//
// All element types share this shape so that kernels are written once: 32 elements are one block of the quantised types
// and a whole number of vectors on every target. Rows that end inside a group of a plain type go through load_tail.
#if defined(TESSERA_TENSOR_WEIGHTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_TENSOR_WEIGHTS_INL_H_
#undef TESSERA_TENSOR_WEIGHTS_INL_H_
#else
#define TESSERA_TENSOR_WEIGHTS_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "tessera/tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(FloatTag()));
constexpr int kGroup = 32;  // elements
constexpr int kGroupVectors = kGroup / kLanes;

// Lanes(d) elements of type T at any address.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_unaligned(D d, const std::byte* source) {
#if HWY_TARGET == HWY_SCALAR
  T value;
  std::memcpy(&value, source, sizeof(T));
  return hn::Set(d, value);
#else
  return hn::LoadU(d, reinterpret_cast<const T*>(source));
#endif
}

HWY_INLINE uint16_t load_u16(const std::byte* source) {
  uint16_t bits;
  std::memcpy(&bits, source, sizeof(bits));
  return bits;
}

// IEEE half to f32, subnormals, infinities and NaN included.
HWY_INLINE FloatVec widen_f16(FloatTag d, const std::byte* source) {
#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86
  return hn::PromoteTo(d, load_unaligned(hn::Rebind<hwy::float16_t, FloatTag>(), source));
#else
  const hn::RebindToUnsigned<FloatTag> du;
  const auto bits = hn::PromoteTo(du, load_unaligned(hn::Rebind<uint16_t, FloatTag>(), source));
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7FFFU));
  const auto sign = hn::ShiftLeft<16>(hn::Xor(bits, magnitude));
  // Moves the exponent's bias from 15 to 127; subnormal halves become exact because the product is normal.
  const auto finite = hn::BitCast(du, hn::Mul(hn::BitCast(d, hn::ShiftLeft<13>(magnitude)), hn::Set(d, 0x1p112F)));
  const hn::RebindToSigned<FloatTag> di;
  const auto special = hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x7BFF));
  const auto exponent = hn::BitCast(du, hn::IfThenElseZero(special, hn::Set(di, 0x7F800000)));
  return hn::BitCast(d, hn::Or(hn::Or(finite, exponent), sign));
#endif
}

// The half at `source` in every lane.
HWY_INLINE FloatVec broadcast_f16(FloatTag d, const std::byte* source) {
#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86
  const hn::Rebind<uint16_t, FloatTag> d16;
  return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, FloatTag>(), hn::Set(d16, load_u16(source))));
#else
  return hn::Set(d, f16_to_f32(load_u16(source)));
#endif
}

// The two halves at `source` in every lane of one vector each.
HWY_INLINE void broadcast_f16_pair(FloatTag d, const std::byte* source, FloatVec& first, FloatVec& second) {
#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86
  uint32_t pair;
  std::memcpy(&pair, source, sizeof(pair));
  const hn::Repartition<uint32_t, hn::Rebind<uint16_t, FloatTag>> d32;
  const auto alternating = hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, FloatTag>(), hn::Set(d32, pair)));
  first = hn::DupEven(alternating);
  second = hn::DupOdd(alternating);
#else
  first = hn::Set(d, f16_to_f32(load_u16(source)));
  second = hn::Set(d, f16_to_f32(load_u16(source + 2)));
#endif
}

HWY_INLINE FloatVec widen_bf16(FloatTag d, const std::byte* source) {
  const hn::RebindToUnsigned<FloatTag> du;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, load_unaligned(hn::Rebind<uint16_t, FloatTag>(), source))));
}

HWY_INLINE FloatVec widen_i8(FloatTag d, const int8_t* source) {
  const hn::RebindToSigned<FloatTag> di;
  return hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(hn::Rebind<int8_t, FloatTag>(), source)));
}

#if HWY_TARGET != HWY_SCALAR
// Byte shuffles that spread bytes [kLanes * u, kLanes * (u + 1)) of a 16-byte block, repeated in every 128-bit part of
// the vector, over the 32-bit lanes; 0x80 makes a zero.
struct SpreadTable {
  constexpr SpreadTable() : bytes() {
    for (int u = 0; u < 16 / kLanes; ++u) {
      for (int i = 0; i < 4 * kLanes; ++i) {
        bytes[u][i] = i % 4 == 0 ? static_cast<uint8_t>(u * kLanes + i / 4) : uint8_t{0x80};
      }
    }
  }
  alignas(64) uint8_t bytes[16 / kLanes][4 * kLanes];
};
#endif

// The nibbles of 16 bytes as floats in element order: the low halves, then the high halves.
HWY_INLINE void widen_nibbles(const std::byte* source, FloatVec (&q)[kGroupVectors]) {
  const FloatTag d;
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < 16; ++i) {
    const int packed = static_cast<int>(source[i]);
    q[i] = hn::Set(d, static_cast<float>(packed & 15));
    q[16 + i] = hn::Set(d, static_cast<float>(packed >> 4));
  }
#else
  static constexpr SpreadTable kSpread;
  const hn::RebindToSigned<FloatTag> di;
  const hn::RebindToUnsigned<FloatTag> du;
  const hn::Repartition<uint8_t, FloatTag> d8;
  const auto packed = hn::LoadDup128(d8, reinterpret_cast<const uint8_t*>(source));
  for (int u = 0; u < 16 / kLanes; ++u) {
    const auto spread = hn::BitCast(du, hn::TableLookupBytesOr0(packed, hn::Load(d8, kSpread.bytes[u])));
    q[u] = hn::ConvertTo(d, hn::BitCast(di, hn::And(spread, hn::Set(du, 15U))));
    q[16 / kLanes + u] = hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<4>(spread)));
  }
#endif
}

template <DType kType>
struct Group;

template <>
struct Group<DType::f32> {
  static constexpr int kBytes = 4 * kGroup;
  static HWY_INLINE void load(const std::byte* source, FloatVec (&w)[kGroupVectors]) {
    const FloatTag d;
    for (int v = 0; v < kGroupVectors; ++v) w[v] = load_unaligned(d, source + 4 * kLanes * v);
  }
};

template <>
struct Group<DType::f16> {
  static constexpr int kBytes = 2 * kGroup;
  static HWY_INLINE void load(const std::byte* source, FloatVec (&w)[kGroupVectors]) {
    const FloatTag d;
    for (int v = 0; v < kGroupVectors; ++v) w[v] = widen_f16(d, source + 2 * kLanes * v);
  }
};

template <>
struct Group<DType::bf16> {
  static constexpr int kBytes = 2 * kGroup;
  static HWY_INLINE void load(const std::byte* source, FloatVec (&w)[kGroupVectors]) {
    const FloatTag d;
    for (int v = 0; v < kGroupVectors; ++v) w[v] = widen_bf16(d, source + 2 * kLanes * v);
  }
};

template <>
struct Group<DType::q8_0> {
  static constexpr int kBytes = 34;
  static HWY_INLINE void load(const std::byte* source, FloatVec (&w)[kGroupVectors]) {
    const FloatTag d;
    const FloatVec scale = broadcast_f16(d, source);
    const auto* quants = reinterpret_cast<const int8_t*>(source + 2);
    for (int v = 0; v < kGroupVectors; ++v) w[v] = hn::Mul(scale, widen_i8(d, quants + kLanes * v));
  }
};

template <>
struct Group<DType::q4_0> {
  static constexpr int kBytes = 18;
  static HWY_INLINE void load(const std::byte* source, FloatVec (&w)[kGroupVectors]) {
    const FloatTag d;
    const FloatVec scale = broadcast_f16(d, source);
    const FloatVec minimum = hn::Mul(scale, hn::Set(d, -8.0F));  // exact, and so is scale * q
    widen_nibbles(source + 2, w);
    for (int v = 0; v < kGroupVectors; ++v) w[v] = hn::MulAdd(scale, w[v], minimum);
  }
};

template <>
struct Group<DType::q4_1> {
  static constexpr int kBytes = 20;
  static HWY_INLINE void load(const std::byte* source, FloatVec (&w)[kGroupVectors]) {
    const FloatTag d;
    FloatVec scale;
    FloatVec minimum;
    broadcast_f16_pair(d, source, scale, minimum);
    widen_nibbles(source + 4, w);
    for (int v = 0; v < kGroupVectors; ++v) w[v] = hn::MulAdd(scale, w[v], minimum);
  }
};

// The first `count` < 32 elements of a group, zeros behind them. Plain types only: quantised rows have whole groups.
template <DType kType>
HWY_INLINE void load_tail(const std::byte* source, int64_t count, FloatVec (&w)[kGroupVectors]) {
  HWY_ALIGN std::byte padded[Group<kType>::kBytes] = {};
  std::memcpy(padded, source, static_cast<size_t>(count * (Group<kType>::kBytes / kGroup)));
  Group<kType>::load(padded, w);
}

// Expands `count` elements; writes zeros up to the next multiple of 32.
template <DType kType>
HWY_INLINE void expand(const std::byte* HWY_RESTRICT source, int64_t count, float* HWY_RESTRICT target) {
  const FloatTag d;
  FloatVec w[kGroupVectors];
  int64_t at = 0;
  for (; at + kGroup <= count; at += kGroup, source += Group<kType>::kBytes) {
    Group<kType>::load(source, w);
    for (int v = 0; v < kGroupVectors; ++v) hn::StoreU(w[v], d, target + at + v * kLanes);
  }
  if (at == count) return;
  load_tail<kType>(source, count - at, w);
  for (int v = 0; v < kGroupVectors; ++v) hn::StoreU(w[v], d, target + at + v * kLanes);
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TESSERA_TENSOR_WEIGHTS_INL_H_
