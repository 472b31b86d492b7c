#include "model/architectures.h"

#include <array>
#include <cmath>
#include <string>

#include "model/quote.h"
#include "tessera/base/error.h"

namespace tessera::model {
namespace {

constexpr auto kArchitectures = std::to_array<ArchitectureTraits>({
    {Architecture::llama, "LlamaForCausalLM", "llama", RopeLayout::interleaved, false},
    {Architecture::qwen2, "Qwen2ForCausalLM", "qwen2", RopeLayout::half_split, true},
});

const ArchitectureTraits& find(std::string_view name, std::string_view file,
                               std::string_view ArchitectureTraits::*column) {
  std::string known;
  for (const ArchitectureTraits& traits : kArchitectures) {
    if (traits.*column == name) return traits;
    known += (known.empty() ? "" : ", ") + std::string(traits.*column);
  }
  throw Error(ErrorCode::unsupported, "{}: the architecture {} is not supported; supported are {}", file, quote(name),
              known);
}

void check_range(std::string_view file, const char* what, int64_t value, int64_t largest) {
  if (value < 1 || value > largest) {
    throw Error(ErrorCode::bad_file, "{}: expected {} from 1 to {}, found {}", file, what, largest, value);
  }
}

void check_positive(std::string_view file, const char* what, double value) {
  if (!std::isfinite(value) || value <= 0) {
    throw Error(ErrorCode::bad_file, "{}: expected a positive {}, found {}", file, what, value);
  }
}

void check_rope(const RopeConfig& rope, int64_t head_dim, std::string_view file) {
  check_positive(file, "rotary base", rope.theta);
  check_positive(file, "rotary scaling factor", rope.factor);
  if (rope.scaling == RopeScaling::llama3) {
    check_positive(file, "rotary low_freq_factor", rope.low_frequency_factor);
    check_positive(file, "rotary high_freq_factor", rope.high_frequency_factor);
    check_range(file, "a rotary original context", rope.original_context, int64_t{1} << 40);
    if (rope.high_frequency_factor <= rope.low_frequency_factor) {
      throw Error(ErrorCode::bad_file, "{}: expected high_freq_factor above low_freq_factor, found {} and {}", file,
                  rope.high_frequency_factor, rope.low_frequency_factor);
    }
  }
  if (!rope.frequency_divisors.empty() && std::ssize(rope.frequency_divisors) != head_dim / 2) {
    throw Error(ErrorCode::bad_file, "{}: expected {} rotary frequency divisors, found {}", file, head_dim / 2,
                rope.frequency_divisors.size());
  }
  for (const float divisor : rope.frequency_divisors) check_positive(file, "rotary frequency divisor", divisor);
}

}  // namespace

const ArchitectureTraits& find_huggingface_architecture(std::string_view name, std::string_view file) {
  return find(name, file, &ArchitectureTraits::huggingface);
}

const ArchitectureTraits& find_gguf_architecture(std::string_view name, std::string_view file) {
  return find(name, file, &ArchitectureTraits::gguf);
}

void check_config(const ModelConfig& config, std::string_view file) {
  constexpr int64_t kManyLayers = 1 << 14;
  constexpr int64_t kManyHeads = 1 << 14;
  constexpr int64_t kWide = 1 << 22;
  constexpr int64_t kWideHead = 1 << 16;
  check_range(file, "a number of layers", config.layers, kManyLayers);
  check_range(file, "a hidden width", config.width, kWide);
  check_range(file, "a number of query heads", config.query_heads, kManyHeads);
  check_range(file, "a number of key-value heads", config.kv_heads, config.query_heads);
  check_range(file, "a head dimension", config.head_dim, kWideHead);
  check_range(file, "a feed-forward width", config.feed_forward, kWide);
  check_range(file, "a vocabulary", config.vocabulary, int64_t{1} << 30);
  check_range(file, "a context length", config.context_length, int64_t{1} << 40);
  check_positive(file, "epsilon of the norms", config.rms_epsilon);
  if (config.query_heads % config.kv_heads != 0) {
    throw Error(ErrorCode::bad_file, "{}: {} query heads cannot be shared evenly by {} key-value heads", file,
                config.query_heads, config.kv_heads);
  }
  if (config.head_dim % 2 != 0) {
    throw Error(ErrorCode::bad_file, "{}: expected an even head dimension, found {}", file, config.head_dim);
  }
  for (const int32_t token : config.end_tokens) {
    if (token < 0 || token >= config.vocabulary) {
      throw Error(ErrorCode::bad_file, "{}: end token {} is outside the vocabulary of {}", file, token,
                  config.vocabulary);
    }
  }
  check_rope(config.rope, config.head_dim, file);
}

}  // namespace tessera::model
