// Shared-memory layouts and descriptors against a model of how the tensor cores address memory, written from the PTX
// ISA: an operand element's address is the descriptor's start plus multiples of its offsets, and the 128-byte swizzle
// then exchanges address bits 4-6 with their exclusive-or with bits 7-9.
#include "attention/cuda/layout.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "attention/cuda/tensor_map.h"

namespace tessera::attention::cuda {
namespace {

uint32_t start_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor & 0x3fff) << 4; }
uint32_t leading_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4; }
uint32_t stride_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4; }
uint32_t swizzle(uint32_t address) { return address ^ ((address >> 7 & 7) << 4); }

// Row r of the operand, contracted element k of 16.
uint32_t row_operand_address(uint64_t descriptor, int r, int k) {
  uint32_t group = static_cast<uint32_t>(r / 8);
  uint32_t within = static_cast<uint32_t>(r % 8);
  return swizzle(start_of(descriptor) + group * stride_of(descriptor) + within * 128 + static_cast<uint32_t>(k) * 2);
}

// Contracted row k of 16, column n.
uint32_t column_operand_address(uint64_t descriptor, int k, int n) {
  uint32_t address = start_of(descriptor) + static_cast<uint32_t>(n / 64) * leading_of(descriptor) +
                     static_cast<uint32_t>(k / 8) * stride_of(descriptor) + static_cast<uint32_t>(k % 8) * 128 +
                     static_cast<uint32_t>(n % 64) * 2;
  return swizzle(address);
}

TEST(CudaLayout, DescriptorsHaveTheExpectedBits) {
  // start 0x400 / 16 = 0x40; leading 16 / 16 = 1; stride 1024 / 16 = 0x40; swizzle mode 1.
  EXPECT_EQ(row_operand_descriptor(0x400), 0x4000004000010040u);
  // start 0x8000 / 16 = 0x800; leading 128 * 128 / 16 = 0x400; stride 0x40.
  EXPECT_EQ(column_operand_descriptor(0x8000, 128), 0x4000004004000800u);
  EXPECT_EQ(column_operand_descriptor(0x8000, 64), 0x4000004002000800u);
  // The last address of 227 KiB still fits the 14 bits.
  EXPECT_EQ(start_of(row_operand_descriptor(227 * 1024 - 16)), 227u * 1024 - 16);
}

TEST(CudaLayout, SwizzledOffsetsAreAPermutation) {
  std::set<uint32_t> offsets;
  for (int row = 0; row < 64; ++row) {
    for (int channel = 0; channel < 128; ++channel) offsets.insert(swizzled_offset(64, row, channel));
  }
  EXPECT_EQ(offsets.size(), 64u * 128);
  EXPECT_EQ(*offsets.rbegin(), 64u * 128 * 2 - 2);
}

TEST(CudaLayout, RowOperandStepsReadTheirChannels) {
  for (int rows : {64, 128}) {
    for (uint32_t base : {0u, 0x8000u}) {
      for (int step = 0; step < 16; ++step) {
        uint64_t descriptor = row_operand_descriptor(base + row_operand_step(rows, step));
        for (int r = 0; r < rows; ++r) {
          for (int k = 0; k < 16; ++k) {
            ASSERT_EQ(row_operand_address(descriptor, r, k), base + swizzled_offset(rows, r, step * 16 + k))
                << "rows " << rows << " step " << step << " row " << r << " k " << k;
          }
        }
      }
    }
  }
}

// The second consumer reads the query tile's rows 64 to 127.
TEST(CudaLayout, SecondHalfOfTheQueries) {
  uint32_t base = 0x2000 + 64 * kBoxRowBytes;
  for (int step = 0; step < 8; ++step) {
    uint64_t descriptor = row_operand_descriptor(base + row_operand_step(128, step));
    for (int r = 0; r < 64; ++r) {
      for (int k = 0; k < 16; ++k) {
        ASSERT_EQ(row_operand_address(descriptor, r, k), 0x2000 + swizzled_offset(128, 64 + r, step * 16 + k));
      }
    }
  }
}

TEST(CudaLayout, ColumnOperandStepsReadTheirRows) {
  for (int rows : {64, 128}) {
    for (int step = 0; step < rows / 16; ++step) {
      uint64_t descriptor = column_operand_descriptor(0x4000 + column_operand_step(step), rows);
      for (int k = 0; k < 16; ++k) {
        for (int n = 0; n < 256; ++n) {
          ASSERT_EQ(column_operand_address(descriptor, k, n), 0x4000 + swizzled_offset(rows, step * 16 + k, n));
        }
      }
    }
  }
}

TEST(CudaLayout, AccumulatorsCoverTheTileOnce) {
  std::set<std::pair<int, int>> seen;
  for (int thread = 0; thread < 128; ++thread) {
    for (int i = 0; i < 64; ++i) seen.emplace(accumulator_row(thread, i), accumulator_column(thread, i));
  }
  EXPECT_EQ(seen.size(), 64u * 128);
  EXPECT_EQ(seen.rbegin()->first, 63);
  // The fragment picture of the PTX ISA: thread 5 holds row 1, columns 2 and 3, then the same of row 9.
  EXPECT_EQ(accumulator_row(5, 0), 1);
  EXPECT_EQ(accumulator_column(5, 1), 3);
  EXPECT_EQ(accumulator_row(5, 2), 9);
  EXPECT_EQ(accumulator_row(37, 0), 17);
  EXPECT_EQ(accumulator_column(5, 4), 10);
}

// What the kernel packs from the scores is what the next product expects.
TEST(CudaLayout, PackedAccumulatorsAreTheNextOperand) {
  for (int thread = 0; thread < 128; ++thread) {
    for (int step = 0; step < 8; ++step) {
      for (int i = 0; i < 4; ++i) {
        int pair = 2 * (4 * step + i);
        EXPECT_EQ(operand_row(thread, i), accumulator_row(thread, pair));
        EXPECT_EQ(operand_row(thread, i), accumulator_row(thread, pair + 1));
        EXPECT_EQ(operand_column(thread, step, i), accumulator_column(thread, pair));
        EXPECT_EQ(operand_column(thread, step, i) + 1, accumulator_column(thread, pair + 1));
      }
    }
  }
}

TEST(CudaLayout, CopyBoxesFitTheSwizzleSpan) {
  TensorMapArguments arguments = tensor_map_arguments(
      {.rows = 1000, .heads = 8, .head_dim = 128, .row_stride = 1024, .head_stride = 128, .box_rows = 128});
  EXPECT_EQ(arguments.dimensions[0], 128u);
  EXPECT_EQ(arguments.dimensions[1], 8u);
  EXPECT_EQ(arguments.dimensions[2], 1000u);
  EXPECT_EQ(arguments.strides[0], 256u);
  EXPECT_EQ(arguments.strides[1], 2048u);
  EXPECT_EQ(arguments.box[0] * 2, 128u);
  EXPECT_EQ(arguments.box[1], 1u);
  EXPECT_EQ(arguments.box[2], 128u);
}

// Strides of dimensions with one entry may be anything in a caller's tensor.
TEST(CudaLayout, StridesOfSingleEntriesAreReplaced) {
  TensorMapArguments arguments =
      tensor_map_arguments({.rows = 1, .heads = 1, .head_dim = 64, .row_stride = 3, .head_stride = 0, .box_rows = 64});
  EXPECT_EQ(arguments.strides[0], 128u);
  EXPECT_EQ(arguments.strides[1], 128u);
}

}  // namespace
}  // namespace tessera::attention::cuda
