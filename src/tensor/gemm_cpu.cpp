// linear_gemm_cpu: y = x W^T for many rows of x (prefill).
//
//   for each slice of kDepth of the inner dimension                      (a slice of one panel fits the first-level
//   cache)
//     expand and transpose W[columns, slice] into panels [slice, kTileColumns]                (per thread, second
//     level) for each kBlockRows rows of x
//       for each panel, for each kTileRows rows: a kTileRows x kTileColumns tile of y lives in registers
//
// This is the scheme of Goto and van de Geijn (2008) with the roles of the operands chosen so that the stored weights,
// of whatever type, are expanded once per block of x and x itself is read in place.
#include <cstdlib>
#include <memory>
#include <new>

#include "hwy/cache_control.h"
#include "tensor/linear_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/gemm_cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tensor/weights-inl.h"

#ifndef TESSERA_TENSOR_GEMM_CONSTANTS
#define TESSERA_TENSOR_GEMM_CONSTANTS
namespace tessera {

constexpr int64_t kDepth = 320;     // of one slice: 320 x 16 f32 of a panel and 6 x 320 of x, 28 KiB, in a 32 KiB cache
constexpr int64_t kBlockRows = 72;  // of x: 72 x 320 f32, 90 KiB
constexpr int64_t kMaxTileColumns = 32;

// The work space of one thread.
struct GemmSpace {
  float panels[kGemmColumns * kDepth];       // [panel][slice, kTileColumns]
  float x[kBlockRows * kDepth];              // [rows, slice]
  float expanded[kMaxTileColumns * kDepth];  // [kTileColumns, kDepth]
};

}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// Twelve accumulators, two vectors of W and one of x fit sixteen registers, and cover the latency of two multiply-adds
// a cycle.
constexpr int kTileRows = 6;
constexpr int kTileColumns = 2 * kLanes;

#if HWY_TARGET != HWY_SCALAR
// Four floats of each of Lanes(d) / 4 rows: block b of the vector comes from source + 4 * b * kDepth.
template <class D, hwy::EnableIf<hn::MaxLanes(D()) == 4>* = nullptr>
HWY_INLINE hn::Vec<D> load_blocks(D d, const float* source) {
  return hn::LoadU(d, source);
}
template <class D, hwy::EnableIf<(hn::MaxLanes(D()) > 4)>* = nullptr>
HWY_INLINE hn::Vec<D> load_blocks(D d, const float* source) {
  const hn::Half<D> half;
  return hn::Combine(d, load_blocks(half, source + hn::MaxLanes(half) * kDepth), load_blocks(half, source));
}
#endif

// Writes target[k * kTileColumns + row] = source[row * kDepth + k] for k < depth rounded up to a multiple of 4.
HWY_INLINE void transpose(const float* HWY_RESTRICT source, int64_t depth, float* HWY_RESTRICT target) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t k = 0; k < depth; ++k) {
    for (int row = 0; row < kTileColumns; ++row) target[k * kTileColumns + row] = source[row * kDepth + k];
  }
#else
  const FloatTag d;
  const hn::RepartitionToWide<FloatTag> dw;
  for (int row = 0; row < kTileColumns; row += kLanes) {
    const float* from = source + row * kDepth;
    float* to = target + row;
    for (int64_t k = 0; k < depth; k += 4, from += 4, to += 4 * kTileColumns) {
      // Block b of r_i holds four elements of row 4 b + i; the 4 x 4 transpositions happen inside the blocks.
      const auto r0 = load_blocks(d, from);
      const auto r1 = load_blocks(d, from + kDepth);
      const auto r2 = load_blocks(d, from + 2 * kDepth);
      const auto r3 = load_blocks(d, from + 3 * kDepth);
      const auto low01 = hn::BitCast(dw, hn::InterleaveLower(d, r0, r1));
      const auto low23 = hn::BitCast(dw, hn::InterleaveLower(d, r2, r3));
      const auto high01 = hn::BitCast(dw, hn::InterleaveUpper(d, r0, r1));
      const auto high23 = hn::BitCast(dw, hn::InterleaveUpper(d, r2, r3));
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, low01, low23)), d, to);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, low01, low23)), d, to + kTileColumns);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, high01, high23)), d, to + 2 * kTileColumns);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, high01, high23)), d, to + 3 * kTileColumns);
    }
  }
#endif
}

// Packs W[columns, first .. first + depth) into panels; columns beyond the block become zeros.
template <DType kType>
HWY_NOINLINE void pack_weights(const LinearBlock& block, int64_t first, int64_t depth, GemmSpace& space) {
  const int64_t offset = first / kGroup * Group<kType>::kBytes;
  for (int64_t column = 0; column < block.columns; column += kTileColumns) {
    const int64_t present = HWY_MIN(kTileColumns, block.columns - column);
    if (present < kTileColumns) std::memset(space.expanded, 0, sizeof(space.expanded));
    for (int64_t row = 0; row < present; ++row) {
      const std::byte* source = block.weight + (column + row) * block.weight_stride + offset;
      expand<kType>(source, depth, space.expanded + row * kDepth);
    }
    transpose(space.expanded, depth, space.panels + column * kDepth);
  }
}

void pack_weights_of_any_type(const LinearBlock& block, int64_t first, int64_t depth, GemmSpace& space) {
  switch (block.dtype) {
    case DType::f32:
      return pack_weights<DType::f32>(block, first, depth, space);
    case DType::f16:
      return pack_weights<DType::f16>(block, first, depth, space);
    case DType::bf16:
      return pack_weights<DType::bf16>(block, first, depth, space);
    case DType::q8_0:
      return pack_weights<DType::q8_0>(block, first, depth, space);
    case DType::q4_0:
      return pack_weights<DType::q4_0>(block, first, depth, space);
    case DType::q4_1:
      return pack_weights<DType::q4_1>(block, first, depth, space);
    case DType::i32:
      return;
  }
}

// A tile of y and where it comes from.
struct Tile {
  const float* x;      // [rows, depth], row stride x_stride
  int64_t x_stride;    // elements
  const float* panel;  // [depth, kTileColumns]
  int64_t depth;
  float* y;  // [rows, kTileColumns], row stride y_stride
  int64_t y_stride;
  Store store;
};

// The two accumulators of each row of a tile. A chain of structures rather than an array, which compilers keep in
// registers whatever the loops around it look like.
template <int kRows>
struct Sums {
  FloatVec left, right;
  Sums<kRows - 1> next;

  HWY_INLINE void clear_and_prefetch(const Tile& tile, int64_t row) {
    left = right = hn::Zero(FloatTag());
    hwy::Prefetch(tile.y + row * tile.y_stride);
    next.clear_and_prefetch(tile, row + 1);
  }
  HWY_INLINE void add(const float* HWY_RESTRICT x, int64_t x_stride, FloatVec w_left, FloatVec w_right) {
    const auto broadcast = hn::Set(FloatTag(), *x);
    left = hn::MulAdd(broadcast, w_left, left);
    right = hn::MulAdd(broadcast, w_right, right);
    next.add(x + x_stride, x_stride, w_left, w_right);
  }
  HWY_INLINE void store(float* y, int64_t y_stride) const {
    const FloatTag d;
    hn::StoreU(left, d, y);
    hn::StoreU(right, d, y + kLanes);
    next.store(y + y_stride, y_stride);
  }
  HWY_INLINE void accumulate(float* y, int64_t y_stride) const {
    const FloatTag d;
    hn::StoreU(hn::Add(hn::LoadU(d, y), left), d, y);
    hn::StoreU(hn::Add(hn::LoadU(d, y + kLanes), right), d, y + kLanes);
    next.accumulate(y + y_stride, y_stride);
  }
};

template <>
struct Sums<0> {
  HWY_INLINE void clear_and_prefetch(const Tile&, int64_t) {}
  HWY_INLINE void add(const float*, int64_t, FloatVec, FloatVec) {}
  HWY_INLINE void store(float*, int64_t) const {}
  HWY_INLINE void accumulate(float*, int64_t) const {}
};

template <int kRows>
HWY_NOINLINE void multiply_tile(const Tile& tile) {
  const FloatTag d;
  Sums<kRows> sums;
  sums.clear_and_prefetch(tile, 0);
  const float* HWY_RESTRICT panel = tile.panel;
  const float* HWY_RESTRICT x = tile.x;
  const int64_t x_stride = tile.x_stride;
  for (int64_t k = 0; k < tile.depth; ++k, panel += kTileColumns, ++x) {
    sums.add(x, x_stride, hn::LoadU(d, panel), hn::LoadU(d, panel + kLanes));
  }
  if (tile.store == Store::accumulate) return sums.accumulate(tile.y, tile.y_stride);
  sums.store(tile.y, tile.y_stride);
}

HWY_INLINE void multiply_some_rows(const Tile& tile, int64_t rows) {
  switch (rows) {
    case 1:
      return multiply_tile<1>(tile);
    case 2:
      return multiply_tile<2>(tile);
    case 3:
      return multiply_tile<3>(tile);
    case 4:
      return multiply_tile<4>(tile);
    case 5:
      return multiply_tile<5>(tile);
    default:
      return multiply_tile<6>(tile);
  }
}

// The first `columns` < kTileColumns columns of a tile, by way of a whole one.
HWY_NOINLINE void multiply_narrow(const Tile& tile, int64_t rows, int64_t columns) {
  HWY_ALIGN float values[kTileRows * kTileColumns];
  Tile whole = tile;
  whole.y = values;
  whole.y_stride = kTileColumns;
  whole.store = Store::overwrite;
  multiply_some_rows(whole, rows);
  for (int64_t row = 0; row < rows; ++row) {
    float* y = tile.y + row * tile.y_stride;
    for (int64_t column = 0; column < columns; ++column) {
      const float value = values[row * kTileColumns + column];
      y[column] = tile.store == Store::accumulate ? y[column] + value : value;
    }
  }
}

// Rows of the next tile when `rest` are left: six, or fewer so that the last tiles are of nearly equal height.
HWY_INLINE int64_t tile_rows(int64_t rest) {
  if (rest <= kTileRows || rest >= 2 * kTileRows) return HWY_MIN(rest, kTileRows);
  return (rest + 1) / 2;
}

// One slice of depth, all packed columns, `rows` <= kBlockRows rows of x.
HWY_INLINE void multiply_rows(const Tile& first, int64_t rows, int64_t columns) {
  for (int64_t column = 0; column < columns; column += kTileColumns) {
    Tile tile = first;
    tile.panel += column * kDepth;
    tile.y += column;
    const int64_t width = HWY_MIN(kTileColumns, columns - column);
    for (int64_t row = 0; row < rows;) {
      const int64_t height = tile_rows(rows - row);
      width == kTileColumns ? multiply_some_rows(tile, height) : multiply_narrow(tile, height, width);
      row += height;
      tile.x += height * tile.x_stride;
      tile.y += height * tile.y_stride;
    }
  }
}

// The depth in equal slices of at most kDepth, each but the last a multiple of 32.
HWY_INLINE int64_t slice_depth(int64_t depth) {
  const int64_t slices = (depth + kDepth - 1) / kDepth;
  const int64_t even = (depth + slices - 1) / slices;
  return (even + kGroup - 1) / kGroup * kGroup;
}

void linear_gemm(const LinearBlock& block, GemmSpace& space) {
  const int64_t slice = slice_depth(block.depth);
  for (int64_t first = 0; first < block.depth; first += slice) {
    const int64_t depth = HWY_MIN(slice, block.depth - first);
    pack_weights_of_any_type(block, first, depth, space);
    for (int64_t row = 0; row < block.rows; row += kBlockRows) {
      const int64_t rows = HWY_MIN(kBlockRows, block.rows - row);
      Tile tile = {};
      tile.x = block.x + row * block.x_stride + first;
      tile.x_stride = block.x_stride;
      if (depth < block.depth) {  // a contiguous copy spares the cache sets that long strides would share
        for (int64_t r = 0; r < rows; ++r) {
          std::memcpy(space.x + r * depth, tile.x + r * tile.x_stride, static_cast<size_t>(depth) * sizeof(float));
        }
        tile.x = space.x;
        tile.x_stride = depth;
      }
      tile.panel = space.panels;
      tile.depth = depth;
      tile.y = block.y + row * block.y_stride;
      tile.y_stride = block.y_stride;
      tile.store = first == 0 ? block.store : Store::accumulate;
      multiply_rows(tile, rows, block.columns);
    }
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {
namespace {

HWY_EXPORT(linear_gemm);

struct FreeSpace {
  void operator()(GemmSpace* space) const { std::free(space); }
};

GemmSpace& space_of_this_thread() {
  constexpr size_t kAlignment = 64;
  static_assert(sizeof(GemmSpace) % kAlignment == 0);
  thread_local std::unique_ptr<GemmSpace, FreeSpace> space;
  if (!space) {
    space.reset(static_cast<GemmSpace*>(std::aligned_alloc(kAlignment, sizeof(GemmSpace))));
    if (!space) throw std::bad_alloc();
  }
  return *space;
}

}  // namespace

void linear_gemm_cpu(const LinearBlock& block) { HWY_DYNAMIC_DISPATCH(linear_gemm)(block, space_of_this_thread()); }

}  // namespace tessera
#endif  // HWY_ONCE
