// The hyper-parameters of a decoder-only transformer of the Llama family (Llama 2/3/3.1, SmolLM2, Yi) or Qwen2/2.5.
//
//   const ModelConfig config = config_from_huggingface("models/nano");
//   const ModelConfig config = config_from_gguf(GgufFile::open("model.gguf"));
//
// A feature that would change the result and is not implemented (sliding windows in use, mixtures of experts, other
// activations, other rotary scalings, quantised Hugging Face checkpoints) is Error(unsupported); a value that is
// missing, of the wrong type or out of range is Error(bad_file). Both name the file and the field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/model/gguf.h"

namespace tessera::model {

enum class Architecture : uint8_t { llama, qwen2 };

enum class RopeScaling : uint8_t { none, linear, llama3 };

// Which two elements of a head rotate together (frequency i of head_dim / 2).
//   half_split   i and i + head_dim / 2: Hugging Face, and GGUF of Qwen2
//   interleaved  2i and 2i + 1: GGUF of Llama, whose query and key rows the converter permutes
enum class RopeLayout : uint8_t { half_split, interleaved };

struct RopeConfig {
  double theta = 10000.0;
  RopeLayout layout = RopeLayout::half_split;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;                      // linear, llama3
  double low_frequency_factor = 1;        // llama3
  double high_frequency_factor = 4;       // llama3
  int64_t original_context = 8192;        // llama3, tokens
  std::vector<float> frequency_divisors = {};  // [head_dim / 2], from a GGUF `rope_freqs` tensor; empty otherwise
};

struct ModelConfig {
  Architecture architecture = Architecture::llama;
  std::string name;  // for people
  int layers = 0;
  int64_t width = 0;  // of the hidden state
  int query_heads = 0;
  int kv_heads = 0;
  int64_t head_dim = 0;
  int64_t feed_forward = 0;
  int64_t vocabulary = 0;
  int64_t context_length = 0;  // tokens the model was trained for
  float rms_epsilon = 1e-5F;
  RopeConfig rope;
  bool query_key_value_bias = false;   // the three input projections of attention add a bias
  bool attention_output_bias = false;  // so does its output projection
  bool feed_forward_bias = false;      // so do gate, up and down
  bool tied_embeddings = false;        // the output matrix is the embedding table
  std::vector<int32_t> end_tokens;     // generation stops at any of them
};

// Reads config.json and, where there is one, generation_config.json of a Hugging Face model directory.
ModelConfig config_from_huggingface(const std::filesystem::path& directory);

// The same from text; `generation` may be empty, `name` stands for the files in messages.
ModelConfig config_from_json(std::string_view config, std::string_view generation, const std::string& name);

// From the metadata and the tensor table (the vocabulary, biases and a separate output matrix show there only).
ModelConfig config_from_gguf(const GgufFile& file);

}  // namespace tessera::model
