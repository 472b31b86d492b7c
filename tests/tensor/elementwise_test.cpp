#include <cmath>
#include <limits>
#include <vector>

#include "tensor/reference.h"
#include "tensor/tensor_testing.h"

namespace tessera {
namespace {

class Elementwise : public EveryTarget {};
TESSERA_INSTANTIATE_FOR_EVERY_TARGET(Elementwise);

TEST_P(Elementwise, RmsNormAgreesWithTheOracle) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (int64_t width = 1; width <= 150; width += width < 40 ? 1 : 11) {
      for (const int64_t rows : {0, 1, 3}) {
        const Tensor x = random_f32({rows, width}, static_cast<uint64_t>(width));
        const Tensor weight = random_tensor(dtype, {width}, 7, 3);
        Tensor y = Tensor::empty(DType::f32, {rows, width});
        rms_norm(x, weight, 1e-5F, y);
        const std::vector<double> expected = reference::rms_norm(x, weight, 1e-5);
        for (size_t i = 0; i < expected.size(); ++i) {
          ASSERT_NEAR(y.data<float>()[i], expected[i], 2e-6 * std::fabs(expected[i]) + 1e-30);
        }
      }
    }
  }
}

TEST_P(Elementwise, RmsNormInPlaceOfManyRows) {
  Tensor x = random_f32({700, 96}, 3);
  const Tensor weight = random_f32({96}, 4);
  const std::vector<double> expected = reference::rms_norm(x, weight, 0.5);
  rms_norm(x, weight, 0.5F, x);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(x.data<float>()[i], expected[i], 2e-6 * std::fabs(expected[i]) + 1e-30);
  }
}

TEST_P(Elementwise, RmsNormOfZerosIsZero) {
  Tensor x = Tensor::zeros(DType::f32, {1, 33});
  rms_norm(x, random_f32({33}, 4), 1e-6F, x);
  for (int64_t i = 0; i < 33; ++i) EXPECT_EQ(x.data<float>()[i], 0.0F);
}

TEST_P(Elementwise, SiluMultiplyIsAccurateOverTheWholeRange) {
  constexpr int64_t kCount = 40001;
  Tensor gate = Tensor::empty(DType::f32, {kCount});
  Tensor up = Tensor::empty(DType::f32, {kCount});
  for (int64_t i = 0; i < kCount; ++i) {
    gate.data<float>()[i] = static_cast<float>(i - kCount / 2) * (i % 3 == 0 ? 1e-5F : 0.0043F);  // to about +-86
    up.data<float>()[i] = i % 2 == 0 ? 1.0F : -3.5F;
  }
  const std::vector<double> expected = reference::silu_multiply(gate, up);
  silu_multiply(gate, up);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(gate.data<float>()[i], expected[i], 1e-6 * std::fabs(expected[i])) << i;
  }
}

TEST_P(Elementwise, SiluMultiplyOfExtremes) {
  const float infinity = std::numeric_limits<float>::infinity();
  Tensor gate = Tensor::empty(DType::f32, {6});
  Tensor up = Tensor::empty(DType::f32, {6});
  const float inputs[] = {0.0F, 1000.0F, -1000.0F, infinity, std::nanf(""), -90.0F};
  for (int i = 0; i < 6; ++i) {
    gate.data<float>()[i] = inputs[i];
    up.data<float>()[i] = 2.0F;
  }
  silu_multiply(gate, up);
  EXPECT_EQ(gate.data<float>()[0], 0.0F);
  EXPECT_EQ(gate.data<float>()[1], 2000.0F);
  EXPECT_NEAR(gate.data<float>()[2], 0.0F, 1e-35);
  EXPECT_EQ(gate.data<float>()[3], infinity);
  EXPECT_TRUE(std::isnan(gate.data<float>()[4]));
  EXPECT_NEAR(gate.data<float>()[5], 0.0F, 1e-35);
}

TEST_P(Elementwise, AnyCountIsHandledToTheLastElement) {
  for (int64_t count = 0; count <= 40; ++count) {
    const Tensor a = random_f32({count}, 1);
    const Tensor b = random_f32({count}, 2);
    Tensor sum = a.clone();
    add_inplace(sum, b);
    Tensor product = a.clone();
    silu_multiply(product, b);
    const std::vector<double> expected = reference::silu_multiply(a, b);
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(sum.data<float>()[i], a.data<float>()[i] + b.data<float>()[i]);
      ASSERT_NEAR(product.data<float>()[i], expected[static_cast<size_t>(i)], 1e-6);
    }
  }
}

TEST_P(Elementwise, AddInplaceOverSeveralTasks) {
  Tensor x = random_f32({300001}, 1);
  const Tensor before = x.clone();
  const Tensor y = random_f32({300001}, 2);
  add_inplace(x, y);
  for (int64_t i = 0; i < 300001; ++i) {
    ASSERT_EQ(x.data<float>()[i], before.data<float>()[i] + y.data<float>()[i]);
  }
}

TEST_P(Elementwise, GatherRowsOfEveryType) {
  for (const DType dtype : kRealTypes) {
    const int64_t width = is_quantised(dtype) ? 96 : 77;
    const Tensor table = random_tensor(dtype, {11, width}, 5, 1);
    const std::vector<int32_t> tokens = {10, 0, 3, 3, 7};
    Tensor y = Tensor::empty(DType::f32, {5, width});
    gather_rows(table, tokens, y);
    const std::vector<double> values = reference::values(table);
    for (size_t i = 0; i < tokens.size(); ++i) {
      for (int64_t k = 0; k < width; ++k) {
        ASSERT_NEAR(y.data<float>()[static_cast<int64_t>(i) * width + k],
                    values[static_cast<size_t>(tokens[i] * width + k)], 1e-6);
      }
    }
    Tensor none = Tensor::empty(DType::f32, {0, width});
    EXPECT_NO_THROW(gather_rows(table, {}, none));
  }
}

TEST(ElementwiseChecks, RejectWhatDoesNotFit) {
  Tensor x = random_f32({2, 8}, 1);
  Tensor other = random_f32({8, 2}, 1);
  Tensor half = Tensor::zeros(DType::f16, {2, 8});
  const Tensor weight = random_f32({8}, 1);
  EXPECT_THROW(rms_norm(x, weight, 1e-5F, other), Error);
  EXPECT_THROW(rms_norm(half, weight, 1e-5F, half), Error);
  EXPECT_THROW(rms_norm(x, random_f32({7}, 1), 1e-5F, x), Error);
  EXPECT_THROW(rms_norm(x, Tensor(), 1e-5F, x), Error);
  EXPECT_THROW(rms_norm(Tensor(), weight, 1e-5F, x), Error);
  EXPECT_THROW(silu_multiply(x, other), Error);
  EXPECT_THROW(silu_multiply(x, half), Error);
  EXPECT_THROW(add_inplace(x, other), Error);
  EXPECT_THROW(add_inplace(half, x), Error);

  const Tensor table = random_f32({4, 8}, 1);
  const std::vector<int32_t> tokens = {1, 2};
  EXPECT_THROW(gather_rows(table, tokens, other), Error);
  EXPECT_THROW(gather_rows(table, tokens, half), Error);
  EXPECT_THROW(gather_rows(weight, tokens, x), Error);
  EXPECT_THROW(gather_rows(Tensor::zeros(DType::i32, {4, 8}), tokens, x), Error);
  for (const int32_t bad : {-1, 4, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    const std::vector<int32_t> hostile = {0, bad};
    EXPECT_THROW(gather_rows(table, hostile, x), Error);
  }
}

}  // namespace
}  // namespace tessera
