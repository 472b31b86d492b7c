// Codes of pages, as write_pages() makes them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "decode_host.h"

namespace tessera::attention::cuda {
namespace {

using decode_host::Host;

TEST(DecodePages, CodesAreWithinHalfAStep) {
  Host<Int8Pages, 64> bytes({.lengths = {100}});
  Host<Int4Pages, 64> digits({.lengths = {100}});
  Host<Fp8Pages, 64> floats({.lengths = {100}});
  Host<Bf16Pages, 64> exact({.lengths = {100}});
  for (int32_t row = 0; row < 100; ++row) {
    for (int c = 0; c < 64; ++c) {
      EXPECT_NEAR(bytes.key(0, 0, row, c), bytes.original_key(0, 0, row, c), 0.02);
      EXPECT_NEAR(digits.key(0, 0, row, c), digits.original_key(0, 0, row, c), 0.25);
      EXPECT_NEAR(floats.key(0, 0, row, c), floats.original_key(0, 0, row, c),
                  1e-3 + std::abs(floats.original_key(0, 0, row, c)) / 15.5);
      EXPECT_NEAR(digits.value(0, 0, row, c), digits.original_value(0, 0, row, c), 0.25);
      EXPECT_EQ(exact.key(0, 0, row, c), exact.original_key(0, 0, row, c));
      EXPECT_EQ(exact.value(0, 0, row, c), exact.original_value(0, 0, row, c));
    }
  }
}

TEST(DecodePages, Fp8RoundsToTheNearestNumber) {
  std::vector<double> numbers;
  for (int code = 0; code < 0x7f; ++code) {
    const auto byte = static_cast<uint8_t>(code);
    numbers.push_back(code_number(PageFormat::fp8, &byte, 0));
  }
  ASSERT_EQ(numbers.back(), 448);
  for (int code = 0; code < 0x7f; ++code) {
    const auto x = static_cast<float>(numbers[static_cast<std::size_t>(code)]);
    EXPECT_EQ(encode_e4m3(x), static_cast<uint32_t>(code));
    if (code > 0) {
      EXPECT_EQ(encode_e4m3(-x), static_cast<uint32_t>(code) | 0x80u);
    }
    const auto byte = static_cast<uint8_t>(encode_e4m3(x * 1.02F));
    double best = 1e9;
    for (const double y : numbers) best = std::min(best, std::abs(y - x * 1.02F));
    EXPECT_NEAR(std::abs(code_number(PageFormat::fp8, &byte, 0) - x * 1.02F), best, 1e-12);
  }
}

}  // namespace
}  // namespace tessera::attention::cuda
