#include "model/rope.h"

#include <cmath>
#include <numbers>

namespace tessera::model {
namespace {

constexpr int64_t kGrain = 16;  // positions per task

// Llama 3.1: long waves are stretched by `factor`, short ones kept, those between blended.
double scale_llama3(double frequency, const RopeConfig& config) {
  const double turns = static_cast<double>(config.original_context) * frequency / (2 * std::numbers::pi);
  if (turns < config.low_frequency_factor) return frequency / config.factor;
  if (turns > config.high_frequency_factor) return frequency;
  const double kept =
      (turns - config.low_frequency_factor) / (config.high_frequency_factor - config.low_frequency_factor);
  return (1 - kept) * frequency / config.factor + kept * frequency;
}

// One head: elements a[i * step] and b[i * step] form pair i.
void rotate_head(float* a, float* b, int64_t step, const float* cosines, const float* sines, int64_t pairs) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float first = a[i * step];
    const float second = b[i * step];
    a[i * step] = first * cosines[i] - second * sines[i];
    b[i * step] = first * sines[i] + second * cosines[i];
  }
}

}  // namespace

RopeFrequencies::RopeFrequencies(const RopeConfig& config, int64_t head_dim) : layout_(config.layout) {
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    double frequency = std::pow(config.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (config.scaling == RopeScaling::linear) frequency /= config.factor;
    if (config.scaling == RopeScaling::llama3) frequency = scale_llama3(frequency, config);
    if (!config.frequency_divisors.empty()) frequency /= config.frequency_divisors[static_cast<size_t>(i)];
    frequencies_.push_back(frequency);
  }
}

RopeAngles RopeFrequencies::angles(int64_t first_position, int64_t n, ThreadPool& pool) const {
  const auto pairs = static_cast<int64_t>(frequencies_.size());
  RopeAngles angles;
  angles.layout_ = layout_;
  angles.cosines_ = Tensor::empty(DType::f32, {n, pairs});
  angles.sines_ = Tensor::empty(DType::f32, {n, pairs});
  float* cosines = angles.cosines_.data<float>();
  float* sines = angles.sines_.data<float>();
  pool.parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const auto position = static_cast<double>(first_position + row);
      for (int64_t i = 0; i < pairs; ++i) {
        const double angle = position * frequencies_[static_cast<size_t>(i)];
        cosines[row * pairs + i] = static_cast<float>(std::cos(angle));
        sines[row * pairs + i] = static_cast<float>(std::sin(angle));
      }
    }
  });
  return angles;
}

void RopeAngles::rotate(Tensor& x, ThreadPool& pool) const {
  const int64_t heads = x.shape()[1];
  const int64_t head_dim = x.shape()[2];
  const int64_t pairs = head_dim / 2;
  TESSERA_ASSERT(x.shape()[0] == cosines_.shape()[0] && pairs == cosines_.shape()[1]);
  auto* values = x.data<float>();
  const float* cosines = cosines_.data<float>();
  const float* sines = sines_.data<float>();
  pool.parallel_for(0, x.shape()[0], kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t head = 0; head < heads; ++head) {
        float* start = values + (row * heads + head) * head_dim;
        if (layout_ == RopeLayout::half_split) {
          rotate_head(start, start + pairs, 1, cosines + row * pairs, sines + row * pairs, pairs);
        } else {
          rotate_head(start, start + 1, 2, cosines + row * pairs, sines + row * pairs, pairs);
        }
      }
    }
  });
}

}  // namespace tessera::model
