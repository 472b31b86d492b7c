// What the tests of this floor share: random tensors of every type at any alignment, and a loop over instruction sets.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tessera/base/random.h"
#include "tessera/tensor/ops.h"
#include "tessera/tensor/simd.h"
#include "tessera/tensor/tensor.h"

namespace tessera {

inline constexpr DType kRealTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1};

// Standard normal f32 values.
inline Tensor random_f32(const Shape& shape, uint64_t seed) {
  Tensor tensor = Tensor::empty(DType::f32, shape);
  Random random(seed);
  float* values = tensor.data<float>();
  for (int64_t i = 0; i < tensor.elements(); ++i) values[i] = static_cast<float>(random.normal());
  return tensor;
}

// Standard normal values stored as `dtype`, borrowed from memory that starts `misalignment` bytes after a cache line.
inline Tensor random_tensor(DType dtype, const Shape& shape, uint64_t seed, size_t misalignment = 0) {
  const Tensor source = random_f32(shape, seed);
  const auto bytes = static_cast<size_t>(row_bytes(dtype, shape.last()) * (shape.last() == 0 ? 0 : shape.rows()));
  auto memory = std::make_shared<std::vector<std::byte>>(bytes + 128);
  std::byte* start = memory->data();
  start += (64 - reinterpret_cast<uintptr_t>(start) % 64) % 64 + misalignment;
  convert_from_f32(source.data<float>(), source.elements(), dtype, start);
  return Tensor::borrow(dtype, shape, std::span<const std::byte>(start, bytes), memory);
}

// Runs every case once per instruction set that this CPU has.
class EveryTarget : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { set_simd_target(GetParam()); }
  void TearDown() override { set_simd_target(""); }
};

#define TESSERA_INSTANTIATE_FOR_EVERY_TARGET(Fixture)                                      \
  INSTANTIATE_TEST_SUITE_P(Targets, Fixture, testing::ValuesIn(::tessera::simd_targets()), \
                           [](const auto& instance) { return instance.param; })

}  // namespace tessera
