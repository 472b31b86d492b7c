#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tensor/linear_cpu.h"
#include "tensor/reference.h"
#include "tensor/tensor_testing.h"

namespace tessera {
namespace {

class Linear : public EveryTarget {};
TESSERA_INSTANTIATE_FOR_EVERY_TARGET(Linear);

ThreadPool& pool() {
  static ThreadPool two_threads(2);
  return two_threads;
}

// |y - expected| <= 2^-24 * (a modest constant + sqrt-like growth) * sum |x w|: the bound of any f32 summation order is
// in * 2^-24 * sum |x w|; ours adds in at least eight chains, so that a quarter of it must do.
void expect_close(const Tensor& y, const std::vector<double>& expected, const std::vector<double>& magnitude,
                  int64_t in) {
  const double unit = 0x1p-24;
  const double growth = 4.0 + 0.25 * static_cast<double>(in);
  ASSERT_EQ(static_cast<size_t>(y.elements()), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(y.data<float>()[i] - expected[i]);
    ASSERT_LE(error, unit * (growth * magnitude[i] + std::fabs(expected[i])))
        << "element " << i << " of " << y.shape().str();
  }
}

struct Case {
  DType dtype;
  int64_t rows, out, in;
  size_t misalignment = 0;
};

void check(const Case& c) {
  SCOPED_TRACE(
      fmt::format("{} rows {} out {} in {} misalignment {}", to_string(c.dtype), c.rows, c.out, c.in, c.misalignment));
  const auto seed = static_cast<uint64_t>(c.rows * 1000003 + c.out * 1009 + c.in);
  const Tensor x = random_f32({c.rows, c.in}, seed);
  const Tensor weight = random_tensor(c.dtype, {c.out, c.in}, seed + 1, c.misalignment);
  Tensor y = Tensor::empty(DType::f32, {c.rows, c.out});
  std::fill_n(y.data<float>(), y.elements(), std::numeric_limits<float>::quiet_NaN());  // overwriting must not read y
  linear(x, weight, Tensor(), y, {.pool = &pool()});
  expect_close(y, reference::linear(x, weight, Tensor()), reference::linear_magnitude(x, weight), c.in);
}

TEST_P(Linear, AgreesWithTheOracleForEveryNumberOfRowsAroundTheTiles) {
  for (const DType dtype : kRealTypes) {
    for (int64_t rows = 0; rows <= 20; ++rows) check({dtype, rows, 37, 96});
    for (const int64_t rows : {71, 72, 73, 80, 145}) check({dtype, rows, 35, 64});
  }
}

TEST_P(Linear, AgreesWithTheOracleForEveryWidthAroundTheTiles) {
  for (const DType dtype : kRealTypes) {
    for (int64_t out = 0; out <= 35; ++out) {
      check({dtype, 1, out, 64});
      check({dtype, 3, out, 32});
      check({dtype, 13, out, 64});
    }
    for (const int64_t out : {255, 256, 257, 300}) check({dtype, 9, out, 32});
  }
}

TEST_P(Linear, AgreesWithTheOracleForEveryDepthOfPlainTypes) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (int64_t in = 1; in <= 70; ++in) {
      check({dtype, 1, 5, in});
      check({dtype, 2, 4, in});
      check({dtype, 6, 3, in});
      check({dtype, 11, 19, in});
    }
  }
}

TEST_P(Linear, AgreesWithTheOracleAcrossSlicesOfTheDepth) {
  for (const DType dtype : kRealTypes) {
    for (const int64_t in : {288, 320, 352, 576, 640, 672, 1536}) {
      check({dtype, 1, 7, in});
      check({dtype, 7, 7, in});
      check({dtype, 10, 17, in});
      if (!is_quantised(dtype)) check({dtype, 10, 17, in + 5});
    }
  }
}

TEST_P(Linear, ReadsWeightsAtAnyAddress) {
  for (const DType dtype : kRealTypes) {
    for (size_t misalignment = 0; misalignment < 32; misalignment += dtype == DType::f32 ? 1 : 3) {
      check({dtype, 1, 6, 96, misalignment});
      check({dtype, 8, 18, 96, misalignment});
    }
  }
}

TEST_P(Linear, AddsTheBiasAndAccumulates) {
  for (const int64_t rows : {1, 5, 17}) {
    for (const bool accumulate : {false, true}) {
      const int64_t out = 41;
      const int64_t in = 64;
      const Tensor x = random_f32({rows, in}, 1);
      const Tensor weight = random_tensor(DType::q4_1, {out, in}, 2);
      const Tensor bias = random_tensor(DType::f32, {out}, 3, 1);
      Tensor y = random_f32({rows, out}, 4);
      std::vector<double> expected = reference::linear(x, weight, bias);
      std::vector<double> magnitude = reference::linear_magnitude(x, weight);
      for (size_t i = 0; i < expected.size(); ++i) {
        if (accumulate) expected[i] += y.data<float>()[i];
        magnitude[i] += 8.0;  // bias and the former value
      }
      linear(x, weight, bias, y, {.accumulate = accumulate, .pool = &pool()});
      expect_close(y, expected, magnitude, in);
    }
  }
}

TEST_P(Linear, WithoutInnerDimensionGivesTheBiasOrZero) {
  const Tensor x = Tensor::empty(DType::f32, {3, 0});
  const Tensor weight = Tensor::empty(DType::f32, {2, 0});
  const Tensor bias = random_f32({2}, 5);
  Tensor y = random_f32({3, 2}, 6);
  linear(x, weight, bias, y);
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(y.data<float>()[i], bias.data<float>()[i % 2]);
  linear(x, weight, Tensor(), y);
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(y.data<float>()[i], 0.0F);
}

TEST_P(Linear, DoesNotDependOnTheNumberOfThreads) {
  ThreadPool one(1);
  ThreadPool five(5);
  for (const int64_t rows : {1, 7, 40}) {
    const Tensor x = random_f32({rows, 352}, 7);
    const Tensor weight = random_tensor(DType::q4_0, {700, 352}, 8);
    Tensor a = Tensor::empty(DType::f32, {rows, 700});
    Tensor b = Tensor::empty(DType::f32, {rows, 700});
    linear(x, weight, Tensor(), a, {.pool = &one});
    linear(x, weight, Tensor(), b, {.pool = &five});
    EXPECT_TRUE(std::equal(a.data<float>(), a.data<float>() + a.elements(), b.data<float>()));
  }
}

// A prompt given in one go and token by token must agree closely; rows of one call must not influence each other.
TEST_P(Linear, RowsAreIndependentOfTheirNeighbours) {
  Tensor x = random_f32({9, 96}, 9);
  const Tensor weight = random_tensor(DType::q8_0, {33, 96}, 10);
  Tensor y = Tensor::empty(DType::f32, {9, 33});
  linear(x, weight, Tensor(), y);
  Tensor changed = x.clone();
  for (int64_t i = 0; i < 96; ++i) changed.data<float>()[4 * 96 + i] = std::numeric_limits<float>::infinity();
  Tensor z = Tensor::empty(DType::f32, {9, 33});
  linear(changed, weight, Tensor(), z);
  for (int64_t i = 0; i < 9 * 33; ++i) {
    if (i / 33 != 4) {
      EXPECT_EQ(y.data<float>()[i], z.data<float>()[i]);
    } else {
      EXPECT_FALSE(std::isfinite(z.data<float>()[i]));
    }
  }
}

TEST_P(Linear, TreatsLeadingDimensionsAsRows) {
  const Tensor x = random_f32({2, 3, 32}, 11);
  const Tensor weight = random_tensor(DType::bf16, {5, 32}, 12);
  Tensor y = Tensor::empty(DType::f32, {2, 3, 5});
  linear(x, weight, Tensor(), y);
  expect_close(y, reference::linear(x, weight, Tensor()), reference::linear_magnitude(x, weight), 32);
  Tensor vector = Tensor::empty(DType::f32, {5});
  linear(random_f32({32}, 13), weight, Tensor(), vector);
}

TEST(LinearChecks, RejectsWhatDoesNotFit) {
  const Tensor x = random_f32({2, 32}, 1);
  const Tensor weight = random_tensor(DType::q4_1, {4, 32}, 2);
  Tensor y = Tensor::empty(DType::f32, {2, 4});
  Tensor wrong_rows = Tensor::empty(DType::f32, {3, 4});
  Tensor wrong_width = Tensor::empty(DType::f32, {2, 5});
  Tensor wrong_type = Tensor::empty(DType::f16, {2, 4});
  EXPECT_NO_THROW(linear(x, weight, Tensor(), y));
  EXPECT_THROW(linear(random_f32({2, 64}, 1), weight, Tensor(), y), Error);
  EXPECT_THROW(linear(Tensor(), weight, Tensor(), y), Error);
  EXPECT_THROW(linear(x, Tensor(), Tensor(), y), Error);
  EXPECT_THROW(linear(x, random_f32({32}, 1), Tensor(), y), Error);
  EXPECT_THROW(linear(x, random_f32({1, 4, 32}, 1), Tensor(), y), Error);
  EXPECT_THROW(linear(x, Tensor::zeros(DType::i32, {4, 32}), Tensor(), y), Error);
  EXPECT_THROW(linear(random_tensor(DType::f16, {2, 32}, 1), weight, Tensor(), y), Error);
  EXPECT_THROW(linear(x, weight, Tensor(), wrong_rows), Error);
  EXPECT_THROW(linear(x, weight, Tensor(), wrong_width), Error);
  EXPECT_THROW(linear(x, weight, Tensor(), wrong_type), Error);
  EXPECT_THROW(linear(x, weight, random_f32({5}, 1), y), Error);
  EXPECT_THROW(linear(x, weight, random_f32({1, 4}, 1), y), Error);
  EXPECT_THROW(linear(x, weight, random_tensor(DType::f16, {4}, 1), y), Error);
  Tensor square = random_f32({32, 32}, 3);
  EXPECT_THROW(linear(square, square, Tensor(), square), Error);
}

}  // namespace
}  // namespace tessera
