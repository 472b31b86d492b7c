// linear_dot_cpu: y = x W^T for a few rows of x (decode).
//
// Every weight is read once from memory, expanded in registers and multiplied with up to four rows of x, which stay in
// the first-level cache. Exact f32 arithmetic: activations are not quantised (docs/kernels-cpu.md has the comparison).
#include "hwy/cache_control.h"
#include "tensor/linear_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/dot_cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tensor/weights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

constexpr int kPrefetchBytes = 4096;

// Adds 32 products per (weight row, x row) to the accumulators. Two accumulators per pair where registers allow shorten
// the chain of dependent multiply-adds.
template <int kRows, int kChains>
HWY_INLINE void add_group(const FloatVec (&w)[kGroupVectors], const float* HWY_RESTRICT x, int64_t x_stride,
                          FloatVec (&sums)[kRows][kChains]) {
  const FloatTag d;
  for (int v = 0; v < kGroupVectors; ++v) {
    for (int row = 0; row < kRows; ++row) {
      FloatVec& sum = sums[row][v % kChains];
      sum = hn::MulAdd(w[v], hn::LoadU(d, x + row * x_stride + v * kLanes), sum);
    }
  }
}

template <int kRows, int kChains>
HWY_INLINE void store_sums(const FloatVec (&sums)[kRows][kChains], const LinearBlock& block, float* y) {
  const FloatTag d;
  for (int row = 0; row < kRows; ++row) {
    FloatVec total = sums[row][0];
    for (int chain = 1; chain < kChains; ++chain) total = hn::Add(total, sums[row][chain]);
    const float value = hn::GetLane(hn::SumOfLanes(d, total));
    float& target = y[row * block.y_stride];
    target = block.store == Store::accumulate ? target + value : value;
  }
}

// kRows rows of x from `first_row`, one row of W. One row at a time reads memory as a single forward stream.
template <DType kType, int kRows>
HWY_INLINE void dot_column(const LinearBlock& block, int64_t first_row, int64_t column) {
  constexpr int kChains = kRows == 1 ? 4 : 2;
  const FloatTag d;
  FloatVec sums[kRows][kChains];
  for (int row = 0; row < kRows; ++row) {
    for (int chain = 0; chain < kChains; ++chain) sums[row][chain] = hn::Zero(d);
  }
  const std::byte* weight = block.weight + column * block.weight_stride;
  const float* x = block.x + first_row * block.x_stride;
  FloatVec w[kGroupVectors];
  for (int64_t group = 0; group < block.depth / kGroup; ++group, x += kGroup, weight += Group<kType>::kBytes) {
    hwy::Prefetch(weight + kPrefetchBytes);
    Group<kType>::load(weight, w);
    add_group(w, x, block.x_stride, sums);
  }
  if (const int64_t rest = block.depth % kGroup; rest != 0) {
    load_tail<kType>(weight, rest, w);
    add_group(w, x, block.x_stride, sums);
  }
  store_sums(sums, block, block.y + first_row * block.y_stride + column);
}

template <DType kType, int kRows>
HWY_NOINLINE void dot_rows(const LinearBlock& block, int64_t first_row, int64_t first_column, int64_t columns) {
  for (int64_t column = 0; column < columns; ++column) {
    dot_column<kType, kRows>(block, first_row, first_column + column);
  }
}

template <DType kType>
HWY_INLINE void dot_some_rows(const LinearBlock& block, int64_t first_row, int64_t rows, int64_t first_column,
                              int64_t columns) {
  switch (rows) {
    case 1:
      return dot_rows<kType, 1>(block, first_row, first_column, columns);
    case 2:
      return dot_rows<kType, 2>(block, first_row, first_column, columns);
    case 3:
      return dot_rows<kType, 3>(block, first_row, first_column, columns);
    default:
      return dot_rows<kType, 4>(block, first_row, first_column, columns);
  }
}

// More than four rows of x take several passes of nearly equal height over a strip of W, which stays in the cache.
template <DType kType>
void dot_all_rows(const LinearBlock& block) {
  constexpr int64_t kStrip = 16;
  for (int64_t column = 0; column < block.columns; column += kStrip) {
    const int64_t columns = HWY_MIN(kStrip, block.columns - column);
    for (int64_t row = 0; row < block.rows;) {
      const int64_t rest = block.rows - row;
      const int64_t passes = (rest + 3) / 4;
      const int64_t rows = (rest + passes - 1) / passes;
      dot_some_rows<kType>(block, row, rows, column, columns);
      row += rows;
    }
  }
}

void linear_dot(const LinearBlock& block) {
  switch (block.dtype) {
    case DType::f32:
      return dot_all_rows<DType::f32>(block);
    case DType::f16:
      return dot_all_rows<DType::f16>(block);
    case DType::bf16:
      return dot_all_rows<DType::bf16>(block);
    case DType::q8_0:
      return dot_all_rows<DType::q8_0>(block);
    case DType::q4_0:
      return dot_all_rows<DType::q4_0>(block);
    case DType::q4_1:
      return dot_all_rows<DType::q4_1>(block);
    case DType::i32:
      return;
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {

HWY_EXPORT(linear_dot);

void linear_dot_cpu(const LinearBlock& block) { HWY_DYNAMIC_DISPATCH(linear_dot)(block); }

}  // namespace tessera
#endif  // HWY_ONCE
