// Where things lie: shared-memory tiles, matrix descriptors, accumulator registers. Pure functions, tested on the host.
//
// A tile of R rows and D channels of 16-bit elements lies in shared memory as ceil(D / 64) boxes [R][64]: one box row
// is 128 bytes, the span of the 128-byte swizzle, and is what one copy-engine box delivers. The swizzle exchanges the
// 16-byte chunks of a row: chunk c of row r lies at chunk c ^ (r % 8). Boxes start at multiples of 1024 bytes.
// Source: PTX ISA, "Matrix descriptor", "Strides", "Register fragments for wgmma".
#pragma once

#include <cstdint>

#include "attention/cuda/host_device.h"

namespace tessera::attention::cuda {

constexpr int kBoxChannels = 64;
constexpr int kBoxRowBytes = 128;
constexpr int kSwizzleGroupBytes = 1024;  // 8 rows of 128 bytes: the period of the pattern

// Byte offset of (row, channel) in a swizzled tile of `rows` rows.
TESSERA_HOST_DEVICE uint32_t swizzled_offset(int rows, int row, int channel) {
  uint32_t box = static_cast<uint32_t>(channel / kBoxChannels);
  uint32_t chunk = static_cast<uint32_t>(channel % kBoxChannels) / 8;
  uint32_t in_chunk = static_cast<uint32_t>(channel % 8) * 2;
  uint32_t swizzled = chunk ^ (static_cast<uint32_t>(row) % 8);
  return (box * static_cast<uint32_t>(rows) + static_cast<uint32_t>(row)) * kBoxRowBytes + swizzled * 16 + in_chunk;
}

// Shared-memory matrix descriptor: bits 0-13 start address / 16, 16-29 leading byte offset / 16, 32-45 stride byte
// offset / 16, 49-51 base offset (0: the pattern starts at a multiple of 1024 bytes), 62-63 swizzle (1: 128 bytes).
TESSERA_HOST_DEVICE uint64_t matrix_descriptor(uint32_t address, uint32_t leading_bytes, uint32_t stride_bytes) {
  uint64_t descriptor = (address & 0x3ffffu) >> 4;
  descriptor |= static_cast<uint64_t>((leading_bytes & 0x3ffffu) >> 4) << 16;
  descriptor |= static_cast<uint64_t>((stride_bytes & 0x3ffffu) >> 4) << 32;
  descriptor |= uint64_t{1} << 62;
  return descriptor;
}

// A (queries) and B (keys) with channels as the contracted dimension ("K-major"): groups of 8 rows lie 1024 bytes
// apart; the leading offset is not used with a swizzle.
TESSERA_HOST_DEVICE uint64_t row_operand_descriptor(uint32_t address) {
  return matrix_descriptor(address, 16, kSwizzleGroupBytes);
}

// B (values) with rows as the contracted dimension ("MN-major"): groups of 8 rows lie 1024 bytes apart, the boxes of 64
// channels `rows` * 128 bytes.
TESSERA_HOST_DEVICE uint64_t column_operand_descriptor(uint32_t address, int rows) {
  return matrix_descriptor(address, static_cast<uint32_t>(rows) * kBoxRowBytes, kSwizzleGroupBytes);
}

// Byte offset, from the tile's start, of the operand slice that contraction step `step` (16 elements) reads.
TESSERA_HOST_DEVICE uint32_t row_operand_step(int rows, int step) {
  return static_cast<uint32_t>(step / 4) * static_cast<uint32_t>(rows) * kBoxRowBytes +
         static_cast<uint32_t>(step % 4) * 32;
}
TESSERA_HOST_DEVICE uint32_t column_operand_step(int step) { return static_cast<uint32_t>(step) * 16 * kBoxRowBytes; }

// Accumulator register `index` of thread `thread` (0..127 of the warpgroup) holds this element of the 64 x N product.
TESSERA_HOST_DEVICE int accumulator_row(int thread, int index) {
  return thread / 32 * 16 + thread % 32 / 4 + (index % 4 / 2) * 8;
}
TESSERA_HOST_DEVICE int accumulator_column(int thread, int index) { return index / 4 * 8 + thread % 4 * 2 + index % 2; }

// The A operand from registers: register `index` (0..3) of contraction step `step` packs two neighbouring accumulator
// columns, so the accumulator of a product is, packed pair by pair, the A operand of the next: registers 4 * step +
// index come from accumulators 2 * (4 * step + index) and the one after.
TESSERA_HOST_DEVICE int operand_row(int thread, int index) {
  return thread / 32 * 16 + thread % 32 / 4 + index % 2 * 8;
}
TESSERA_HOST_DEVICE int operand_column(int thread, int step, int index) {
  return step * 16 + index / 2 * 8 + thread % 4 * 2;
}

}  // namespace tessera::attention::cuda
