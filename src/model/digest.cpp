#include "model/digest.h"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::model {

void Digest::add_bytes(std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    state_ ^= static_cast<uint64_t>(byte);
    state_ *= 0x100000001B3ULL;
  }
}

void Digest::add_text(std::string_view text) {
  add_bytes(std::as_bytes(std::span(text)));
  add_bytes(std::array{std::byte{0}});
}

void Digest::add(const ModelConfig& config) {
  add_text(fmt::format("{} {} {} {} {} {} {} {} {}", static_cast<int>(config.architecture), config.layers, config.width,
                       config.query_heads, config.kv_heads, config.head_dim, config.feed_forward, config.vocabulary,
                       config.rms_epsilon));
  const RopeConfig& rope = config.rope;
  add_text(fmt::format("{} {} {} {} {} {} {}", rope.theta, static_cast<int>(rope.layout),
                       static_cast<int>(rope.scaling), rope.factor, rope.low_frequency_factor,
                       rope.high_frequency_factor, rope.original_context));
  for (const float divisor : rope.frequency_divisors) add_text(fmt::format("{}", divisor));
}

void Digest::add(std::string_view name, const Tensor& tensor) {
  constexpr int64_t kSample = 64;
  add_text(name);
  add_text(to_string(tensor.dtype()));
  add_text(tensor.shape().str());
  const int64_t sample = std::min(kSample, tensor.bytes());
  const int64_t begin = (tensor.bytes() - sample) / 2;
  add_bytes({tensor.raw() + begin, static_cast<size_t>(sample)});
}

std::string Digest::hexadecimal() const { return fmt::format("{:016x}", state_); }

}  // namespace tessera::model
