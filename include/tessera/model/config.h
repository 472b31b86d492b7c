// The hyper-parameters of a decoder-only transformer of the Llama family (Llama 2/3/3.1, SmolLM2, Yi) or Qwen2/2.5.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera::model {

enum class Architecture : uint8_t { llama, qwen2 };

enum class RopeScaling : uint8_t { none, linear, llama3 };

struct RopeConfig {
  float theta = 10000.0F;
  RopeScaling scaling = RopeScaling::none;
  float factor = 1;                  // linear, llama3
  float low_frequency_factor = 1;    // llama3
  float high_frequency_factor = 4;   // llama3
  int64_t original_context = 8192;   // llama3
  std::vector<float> frequency_divisors;  // [head_dim / 2], from a GGUF `rope_freqs` tensor; empty otherwise
};

struct ModelConfig {
  Architecture architecture = Architecture::llama;
  std::string name;           // for people
  int layers = 0;
  int64_t width = 0;          // of the hidden state
  int query_heads = 0;
  int kv_heads = 0;
  int64_t head_dim = 0;
  int64_t feed_forward = 0;
  int64_t vocabulary = 0;
  int64_t context_length = 0;  // tokens the model was trained for
  float rms_epsilon = 1e-5F;
  RopeConfig rope;
  std::vector<int32_t> end_tokens;  // generation stops at any of them
};

}  // namespace tessera::model
