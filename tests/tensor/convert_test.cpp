#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tensor/reference.h"
#include "tensor/tensor_testing.h"

namespace tessera {
namespace {

class Convert : public EveryTarget {};
TESSERA_INSTANTIATE_FOR_EVERY_TARGET(Convert);

std::vector<uint16_t> all_patterns() {
  std::vector<uint16_t> patterns(65536);
  for (size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint16_t>(i);
  return patterns;
}

// IEEE half precision from its definition, independent of the code under test.
double f16_value(uint16_t bits) {
  const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST_P(Convert, EverySixteenBitPatternWidensExactly) {
  const std::vector<uint16_t> patterns = all_patterns();
  const auto* bytes = reinterpret_cast<const std::byte*>(patterns.data());
  std::vector<float> values(patterns.size());
  for (const DType dtype : {DType::f16, DType::bf16}) {
    convert_to_f32(dtype, bytes, static_cast<int64_t>(patterns.size()), values.data());
    for (size_t i = 0; i < values.size(); ++i) {
      const double expected =
          dtype == DType::f16 ? f16_value(patterns[i]) : std::bit_cast<float>(static_cast<uint32_t>(patterns[i]) << 16);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(values[i])) << i;
      } else {
        ASSERT_EQ(values[i], expected) << i;
        ASSERT_EQ(std::signbit(values[i]), std::signbit(expected)) << i;
      }
    }
  }
}

TEST_P(Convert, EverySixteenBitValueSurvivesTheRoundTrip) {
  const std::vector<uint16_t> patterns = all_patterns();
  std::vector<float> values(patterns.size());
  std::vector<uint16_t> back(patterns.size());
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const auto count = static_cast<int64_t>(patterns.size());
    convert_to_f32(dtype, reinterpret_cast<const std::byte*>(patterns.data()), count, values.data());
    convert_from_f32(values.data(), count, dtype, reinterpret_cast<std::byte*>(back.data()));
    for (size_t i = 0; i < patterns.size(); ++i) {
      if (std::isnan(values[i])) {
        const uint16_t exponent = dtype == DType::f16 ? 0x7C00U : 0x7F80U;
        ASSERT_TRUE((back[i] & exponent) == exponent && (back[i] & ~exponent & 0x7FFFU) != 0) << i;
      } else {
        ASSERT_EQ(back[i], patterns[i]);
      }
    }
  }
}

// The value at, just below and just above the middle between every two neighbours goes to the nearest one, ties to
// even.
TEST_P(Convert, RoundsToNearestEven) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const uint32_t infinity = dtype == DType::f16 ? 0x7C00U : 0x7F80U;
    std::vector<float> values;
    std::vector<uint16_t> expected;
    for (uint32_t i = 0; i < infinity; ++i) {
      const auto low = static_cast<uint16_t>(i);
      const auto high = static_cast<uint16_t>(i + 1);
      const double a = dtype == DType::f16 ? f16_value(low) : bf16_to_f32(low);
      double b = dtype == DType::f16 ? f16_value(high) : bf16_to_f32(high);
      if (high == infinity) b = dtype == DType::f16 ? 65536.0 : 0x1p128;
      const auto middle = static_cast<float>((a + b) / 2);
      for (const float sign : {1.0F, -1.0F}) {
        const uint16_t bit = sign < 0 ? 0x8000U : 0;
        values.push_back(sign * middle);
        expected.push_back(bit | ((i & 1U) == 0 ? low : high));
        values.push_back(sign * std::nextafter(middle, 0.0F));
        expected.push_back(bit | low);
        values.push_back(sign * std::nextafter(middle, std::numeric_limits<float>::infinity()));
        expected.push_back(bit | high);
      }
    }
    std::vector<uint16_t> found(values.size());
    convert_from_f32(values.data(), static_cast<int64_t>(values.size()), dtype,
                     reinterpret_cast<std::byte*>(found.data()));
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(found[i], expected[i]) << values[i];
  }
}

TEST_P(Convert, AnyCountAtAnyAddressTouchesNothingBeyond) {
  for (const DType dtype : kRealTypes) {
    const int64_t step = block_elements(dtype);
    for (int64_t count = 0; count <= 70 * step; count += step) {
      const Tensor source = random_f32({count}, static_cast<uint64_t>(count));
      const auto bytes = static_cast<size_t>(row_bytes(dtype, count));
      for (const size_t misalignment : {0, 1, 3}) {
        std::vector<std::byte> packed(bytes + 8, std::byte{0xA5});
        convert_from_f32(source.data<float>(), count, dtype, packed.data() + misalignment);
        for (size_t i = misalignment + bytes; i < packed.size(); ++i) ASSERT_EQ(packed[i], std::byte{0xA5});
        std::vector<float> values(static_cast<size_t>(count) + 4, -7.0F);
        convert_to_f32(dtype, packed.data() + misalignment, count, values.data());
        for (int64_t i = 0; i < count; ++i) {
          ASSERT_NEAR(values[static_cast<size_t>(i)], reference::element(dtype, packed.data() + misalignment, i), 1e-6)
              << to_string(dtype) << " element " << i << " of " << count;
        }
        for (size_t i = static_cast<size_t>(count); i < values.size(); ++i) ASSERT_EQ(values[i], -7.0F);
      }
      if (count >= 10 * step && is_quantised(dtype)) break;
    }
  }
}

TEST_P(Convert, QuantisesBlocksByTheDefinition) {
  for (const DType dtype : {DType::q8_0, DType::q4_0, DType::q4_1}) {
    for (uint64_t seed = 0; seed < 300; ++seed) {
      Tensor source = random_f32({kQuantBlock}, seed);
      float* x = source.data<float>();
      for (int64_t i = 0; i < kQuantBlock; ++i) {
        if (seed % 4 == 1) x[i] = std::round(8.0F * x[i]) / 8.0F;  // ties
        if (seed % 4 == 2) x[i] *= 1e-6F;
        if (seed % 4 == 3) x[i] = static_cast<float>(i % 2) * 300.0F;
      }
      const auto expected = reference::quantise_block(dtype, {x, static_cast<size_t>(kQuantBlock)});
      std::vector<std::byte> found(expected.size());
      convert_from_f32(x, kQuantBlock, dtype, found.data());
      ASSERT_EQ(found, expected) << to_string(dtype) << " seed " << seed;
    }
  }
}

// Bytes from gguf 0.19 (pip install gguf): gguf.quants.quantize(x, type) with
// x = numpy.float32([((i * 7) % 32 - 13.0) / 4 for i in range(32)]).
TEST_P(Convert, AgreesWithTheReferenceQuantiser) {
  std::vector<float> x(32);
  for (int i = 0; i < 32; ++i) x[static_cast<size_t>(i)] = (static_cast<float>((i * 7) % 32) - 13.0F) / 4.0F;
  const auto hex = [&](DType dtype) {
    std::vector<std::byte> bytes(static_cast<size_t>(block_bytes(dtype)));
    convert_from_f32(x.data(), 32, dtype, bytes.data());
    std::string text;
    for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<int>(byte));
    return text;
  };
  EXPECT_EQ(hex(DType::q8_0), "8928a4d607386ab9eb1c4e7fcf003163b2e4154778c8f92a5cabdd0e4071c0f22355");
  EXPECT_EQ(hex(DType::q4_0), "80b87e4b08c4815c29d6a3704b18c5926d3a");
  EXPECT_EQ(hex(DType::q4_1), "223880c280b3f72a6e91d5084c7fb3e62a5d91c4");
}

TEST_P(Convert, QuantisingIsAsCloseAsItsStep) {
  for (const DType dtype : {DType::q8_0, DType::q4_0, DType::q4_1}) {
    const double step = dtype == DType::q8_0 ? 1.0 / 127 : dtype == DType::q4_0 ? 1.0 / 8 : 2.0 / 15;
    const Tensor source = random_f32({3200}, 17);
    const Tensor packed = random_tensor(dtype, {3200}, 17);
    for (int64_t i = 0; i < 3200; ++i) {
      double largest = 0;
      for (int64_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j) {
        largest = std::max<double>(largest, std::fabs(source.data<float>()[j]));
      }
      // q4_0 has no +8: a value opposite to the extreme one may be off by a whole step.
      const double worst = (dtype == DType::q4_0 ? 1.0 : 0.5) * step * largest * 1.01 + 0.002 * largest;
      ASSERT_NEAR(reference::element(dtype, packed.raw(), i), source.data<float>()[i], worst);
    }
  }
}

TEST_P(Convert, OddBlocksStayDefined) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float filler : {0.0F, -0.0F, 5.0F, -5.0F, 1e-40F, 3e38F, infinity, -infinity, std::nanf("")}) {
    for (const DType dtype : {DType::q8_0, DType::q4_0, DType::q4_1}) {
      std::vector<float> x(32, filler);
      x[3] = 1.0F;
      std::vector<std::byte> bytes(static_cast<size_t>(block_bytes(dtype)));
      convert_from_f32(x.data(), 32, dtype, bytes.data());
      convert_to_f32(dtype, bytes.data(), 32, x.data());
    }
  }
  std::vector<float> zeros(32, 0.0F);
  for (const DType dtype : {DType::q8_0, DType::q4_0, DType::q4_1}) {
    std::vector<std::byte> bytes(static_cast<size_t>(block_bytes(dtype)));
    convert_from_f32(zeros.data(), 32, dtype, bytes.data());
    std::vector<float> back(32, 1.0F);
    convert_to_f32(dtype, bytes.data(), 32, back.data());
    for (const float value : back) EXPECT_EQ(value, 0.0F);
  }
}

TEST(ConvertChecks, RejectsPartsOfBlocksAndIntegers) {
  std::vector<float> x(64);
  std::vector<std::byte> bytes(256);
  for (const int64_t count : {-32, -1, 1, 31, 33}) {
    EXPECT_THROW(convert_from_f32(x.data(), count, DType::q4_1, bytes.data()), Error);
    EXPECT_THROW(convert_to_f32(DType::q8_0, bytes.data(), count, x.data()), Error);
  }
  EXPECT_THROW(convert_to_f32(DType::f16, bytes.data(), -1, x.data()), Error);
  EXPECT_THROW(convert_from_f32(x.data(), 1, DType::i32, bytes.data()), Error);
  EXPECT_THROW(convert_to_f32(DType::i32, bytes.data(), 1, x.data()), Error);
}

}  // namespace
}  // namespace tessera
