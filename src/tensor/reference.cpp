#include "tensor/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tessera/base/error.h"

namespace tessera::reference {
namespace {

uint16_t u16_at(const std::byte* source) {
  uint16_t bits = 0;
  std::memcpy(&bits, source, sizeof(bits));
  return bits;
}

int nibble(const std::byte* nibbles, int64_t index) {
  const int packed = std::to_integer<int>(nibbles[index % 16]);
  return index < 16 ? packed & 15 : packed >> 4;
}

double block_element(DType dtype, const std::byte* block, int64_t index) {
  const double scale = f16_to_f32(u16_at(block));
  if (dtype == DType::q8_0) return scale * static_cast<int8_t>(block[2 + index]);
  if (dtype == DType::q4_0) return scale * (nibble(block + 2, index) - 8);
  return scale * nibble(block + 4, index) + f16_to_f32(u16_at(block + 2));
}

void put_f16(float value, std::byte* target) {
  const uint16_t bits = f32_to_f16(value);
  std::memcpy(target, &bits, sizeof(bits));
}

}  // namespace

double element(DType dtype, const std::byte* source, int64_t index) {
  if (is_quantised(dtype)) {
    return block_element(dtype, source + index / kQuantBlock * block_bytes(dtype), index % kQuantBlock);
  }
  if (dtype == DType::f16) return f16_to_f32(u16_at(source + 2 * index));
  if (dtype == DType::bf16) return bf16_to_f32(u16_at(source + 2 * index));
  TESSERA_ASSERT(dtype == DType::f32);
  float value = 0;
  std::memcpy(&value, source + 4 * index, sizeof(value));
  return value;
}

std::vector<double> values(const Tensor& tensor) {
  std::vector<double> all(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < all.size(); ++i) all[i] = element(tensor.dtype(), tensor.raw(), static_cast<int64_t>(i));
  return all;
}

std::vector<double> linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const auto out = static_cast<size_t>(weight.shape()[0]);
  const auto in = static_cast<size_t>(weight.shape()[1]);
  const std::vector<double> xs = values(x);
  const std::vector<double> ws = values(weight);
  const size_t rows = in == 0 ? 0 : xs.size() / in;
  std::vector<double> y(rows * out);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t n = 0; n < out; ++n) {
      double sum = bias.defined() ? element(DType::f32, bias.raw(), static_cast<int64_t>(n)) : 0.0;
      for (size_t k = 0; k < in; ++k) sum += xs[r * in + k] * ws[n * in + k];
      y[r * out + n] = sum;
    }
  }
  return y;
}

std::vector<double> linear_magnitude(const Tensor& x, const Tensor& weight) {
  const auto out = static_cast<size_t>(weight.shape()[0]);
  const auto in = static_cast<size_t>(weight.shape()[1]);
  const std::vector<double> xs = values(x);
  const std::vector<double> ws = values(weight);
  const size_t rows = in == 0 ? 0 : xs.size() / in;
  std::vector<double> y(rows * out);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t n = 0; n < out; ++n) {
      for (size_t k = 0; k < in; ++k) y[r * out + n] += std::fabs(xs[r * in + k] * ws[n * in + k]);
    }
  }
  return y;
}

std::vector<double> rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  const auto width = static_cast<size_t>(x.shape().last());
  std::vector<double> y = values(x);
  const std::vector<double> scale = values(weight);
  for (size_t row = 0; row * width < y.size(); ++row) {
    double sum = 0;
    for (size_t i = 0; i < width; ++i) sum += y[row * width + i] * y[row * width + i];
    const double factor = 1.0 / std::sqrt(sum / static_cast<double>(width) + epsilon);
    for (size_t i = 0; i < width; ++i) y[row * width + i] *= factor * scale[i];
  }
  return y;
}

std::vector<double> silu_multiply(const Tensor& gate, const Tensor& up) {
  std::vector<double> y = values(gate);
  const std::vector<double> factor = values(up);
  for (size_t i = 0; i < y.size(); ++i) y[i] = y[i] / (1.0 + std::exp(-y[i])) * factor[i];
  return y;
}

std::vector<std::byte> quantise_block(DType dtype, std::span<const float> block) {
  TESSERA_ASSERT(block.size() == static_cast<size_t>(kQuantBlock) && is_quantised(dtype));
  std::vector<std::byte> bytes(static_cast<size_t>(block_bytes(dtype)));
  const auto [low, high] = std::minmax_element(block.begin(), block.end());
  const auto extreme =
      std::max_element(block.begin(), block.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  float scale = 0;
  if (dtype == DType::q8_0) scale = std::fabs(*extreme) / 127.0F;
  if (dtype == DType::q4_0) scale = *extreme / -8.0F;
  if (dtype == DType::q4_1) scale = (*high - *low) / 15.0F;
  const float factor = scale != 0 ? 1.0F / scale : 0.0F;
  put_f16(scale, bytes.data());
  if (dtype == DType::q4_1) put_f16(*low, bytes.data() + 2);
  const size_t header = dtype == DType::q4_1 ? 4 : 2;
  for (size_t i = 0; i < block.size(); ++i) {
    if (dtype == DType::q8_0) {
      bytes[header + i] = static_cast<std::byte>(static_cast<int8_t>(std::lround(block[i] * factor)));
      continue;
    }
    const float shifted = dtype == DType::q4_0 ? block[i] * factor + 8.5F : (block[i] - *low) * factor + 0.5F;
    const int q = std::min(15, static_cast<int>(shifted));
    bytes[header + i % 16] |= static_cast<std::byte>(i < 16 ? q : q << 4);
  }
  return bytes;
}

}  // namespace tessera::reference
