// linear_dot_cpu: y = x W^T for a few rows of x (decode).
//
// Every weight is read once from memory, expanded in registers and multiplied with up to four rows of x, which stay in
// the first-level cache. Exact f32 arithmetic: activations are not quantised (docs/kernels-cpu.md has the comparison).
#include "tensor/linear_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/dot_cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tensor/weights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

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

// kRows rows of x from `first_row`, kColumns rows of W from `first_column`.
template <DType kType, int kRows, int kColumns>
HWY_INLINE void dot_tile(const LinearBlock& block, int64_t first_row, int64_t first_column) {
  constexpr int kChains = kRows <= 2 ? 2 : 1;
  const FloatTag d;
  FloatVec sums[kColumns][kRows][kChains];
  const std::byte* weight[kColumns];
  for (int column = 0; column < kColumns; ++column) {
    weight[column] = block.weight + (first_column + column) * block.weight_stride;
    for (int row = 0; row < kRows; ++row) {
      for (int chain = 0; chain < kChains; ++chain) sums[column][row][chain] = hn::Zero(d);
    }
  }
  const float* x = block.x + first_row * block.x_stride;
  FloatVec w[kGroupVectors];
  for (int64_t group = 0; group < block.depth / kGroup; ++group, x += kGroup) {
    for (int column = 0; column < kColumns; ++column) {
      Group<kType>::load(weight[column], w);
      weight[column] += Group<kType>::kBytes;
      add_group(w, x, block.x_stride, sums[column]);
    }
  }
  if (const int64_t rest = block.depth % kGroup; rest != 0) {
    for (int column = 0; column < kColumns; ++column) {
      load_tail<kType>(weight[column], rest, w);
      add_group(w, x, block.x_stride, sums[column]);
    }
  }
  for (int column = 0; column < kColumns; ++column) {
    store_sums(sums[column], block, block.y + first_row * block.y_stride + first_column + column);
  }
}

template <DType kType, int kRows>
HWY_NOINLINE void dot_rows(const LinearBlock& block, int64_t first_row, int64_t first_column, int64_t columns) {
  int64_t column = first_column;
  for (; column + 2 <= first_column + columns; column += 2) dot_tile<kType, kRows, 2>(block, first_row, column);
  if (column < first_column + columns) dot_tile<kType, kRows, 1>(block, first_row, column);
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

// More than four rows of x take two passes over a strip of W that is small enough to stay in the second-level cache.
template <DType kType>
void dot_all_rows(const LinearBlock& block) {
  constexpr int64_t kStrip = 16;
  const int64_t first_pass = block.rows <= 4 ? block.rows : (block.rows + 1) / 2;
  for (int64_t column = 0; column < block.columns; column += kStrip) {
    const int64_t columns = HWY_MIN(kStrip, block.columns - column);
    dot_some_rows<kType>(block, 0, first_pass, column, columns);
    if (first_pass < block.rows) dot_some_rows<kType>(block, first_pass, block.rows - first_pass, column, columns);
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
