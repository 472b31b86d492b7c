#include <algorithm>
#include <array>

#include "model/architectures.h"
#include "model/quote.h"
#include "tessera/model/config.h"

namespace tessera::model {
namespace {

// Reads the keys "<architecture>.<key>".
class ArchitectureKeys {
 public:
  ArchitectureKeys(const GgufMetadata& metadata, std::string_view prefix) : metadata_(metadata), prefix_(prefix) {}

  const GgufMetadata& metadata() const { return metadata_; }
  std::string name(std::string_view key) const { return prefix_ + "." + std::string(key); }
  bool contains(std::string_view key) const { return metadata_.contains(name(key)); }
  std::optional<int64_t> find_integer(std::string_view key) const { return metadata_.find_integer(name(key)); }
  std::optional<double> find_float(std::string_view key) const { return metadata_.find_float(name(key)); }
  const std::string* find_string(std::string_view key) const { return metadata_.find_string(name(key)); }
  int64_t require_integer(std::string_view key) const { return metadata_.require_integer(name(key)); }
  double require_float(std::string_view key) const { return metadata_.require_float(name(key)); }

  [[noreturn]] void fail(ErrorCode code, std::string_view key, const std::string& what) const {
    throw Error(code, "{}: key {}: {}", metadata_.name(), quote(name(key)), what);
  }

 private:
  const GgufMetadata& metadata_;
  std::string prefix_;
};

int narrow(const ArchitectureKeys& keys, std::string_view key, int64_t value) {
  if (value < 0 || value > INT32_MAX) keys.fail(ErrorCode::bad_file, key, fmt::format("{} is out of range", value));
  return static_cast<int>(value);
}

// One number, or one per layer; then all must agree.
std::optional<int64_t> read_per_layer(const ArchitectureKeys& keys, std::string_view key) {
  if (!keys.contains(key)) return std::nullopt;
  const auto& values = keys.metadata().values();
  if (!std::holds_alternative<std::vector<int64_t>>(values.find(keys.name(key))->second)) {
    return keys.require_integer(key);
  }
  const std::vector<int64_t>& list = *keys.metadata().find_integers(keys.name(key));
  if (list.empty()) keys.fail(ErrorCode::bad_file, key, "the list is empty");
  if (std::ranges::any_of(list, [&](int64_t value) { return value != list.front(); })) {
    keys.fail(ErrorCode::unsupported, key, "layers of different shapes are not supported");
  }
  return list.front();
}

void refuse_unsupported(const ArchitectureKeys& keys) {
  if (keys.find_integer("expert_count").value_or(0) > 0) {
    keys.fail(ErrorCode::unsupported, "expert_count", "mixtures of experts are not supported");
  }
  if (keys.find_integer("attention.sliding_window").value_or(0) > 0) {
    keys.fail(ErrorCode::unsupported, "attention.sliding_window", "attention in sliding windows is not supported");
  }
  constexpr auto kForeign = std::to_array<std::string_view>(
      {"attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias", "attn_logit_softcapping",
       "final_logit_softcapping", "logit_scale", "residual_scale", "embedding_scale", "use_parallel_residual"});
  for (const std::string_view key : kForeign) {
    if (keys.contains(key)) keys.fail(ErrorCode::unsupported, key, "this feature is not supported");
  }
}

RopeConfig read_rope(const ArchitectureKeys& keys, const GgufFile& file, int64_t head_dim, RopeLayout layout) {
  RopeConfig rope;
  rope.layout = layout;
  rope.theta = keys.find_float("rope.freq_base").value_or(rope.theta);
  const int64_t rotated = keys.find_integer("rope.dimension_count").value_or(head_dim);
  if (rotated != head_dim) {
    keys.fail(ErrorCode::unsupported, "rope.dimension_count",
              fmt::format("expected the head dimension {}, found {}; rotation of a part is not supported", head_dim,
                          rotated));
  }
  const std::string* type = keys.find_string("rope.scaling.type");
  const std::string name = type != nullptr ? *type : keys.contains("rope.scale_linear") ? "linear" : "none";
  if (name == "linear") {
    rope.scaling = RopeScaling::linear;
    rope.factor = keys.contains("rope.scaling.factor") ? keys.require_float("rope.scaling.factor")
                                                       : keys.require_float("rope.scale_linear");
  } else if (name != "none") {
    keys.fail(ErrorCode::unsupported, "rope.scaling.type",
              quote(name) + " is not supported; supported are none and linear");
  }
  if (file.contains("rope_freqs.weight")) {
    const Tensor divisors = file.tensor("rope_freqs.weight");
    if (divisors.dtype() != DType::f32 || divisors.shape().rank() != 1) {
      throw Error(ErrorCode::bad_file, "{}: tensor 'rope_freqs.weight': expected one row of F32, found {} of {}",
                  file.metadata().name(), divisors.shape().str(), to_string(divisors.dtype()));
    }
    rope.frequency_divisors.resize(static_cast<size_t>(divisors.elements()));
    std::copy_n(divisors.raw(), divisors.bytes(), reinterpret_cast<std::byte*>(rope.frequency_divisors.data()));
  }
  return rope;
}

// The tokens that llama.cpp too takes for the end of a generation: by key, and control tokens by their text, because
// many files name only one of several.
std::vector<int32_t> read_end_tokens(const GgufMetadata& metadata, int64_t vocabulary) {
  constexpr auto kKeys = std::to_array<std::string_view>(
      {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"});
  constexpr auto kTexts =
      std::to_array<std::string_view>({"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end_of_text|>", "<|endoftext|>"});
  constexpr int64_t kControl = 3;
  std::vector<int32_t> tokens;
  const auto add = [&](int64_t token) {
    if (token < 0 || token >= vocabulary) {
      throw Error(ErrorCode::bad_file, "{}: end token {} is outside the vocabulary of {}", metadata.name(), token,
                  vocabulary);
    }
    if (std::ranges::find(tokens, token) == tokens.end()) tokens.push_back(static_cast<int32_t>(token));
  };
  for (const std::string_view key : kKeys) {
    if (const std::optional<int64_t> token = metadata.find_integer(key)) add(*token);
  }
  const std::vector<std::string>* texts = metadata.find_strings("tokenizer.ggml.tokens");
  const std::vector<int64_t>* types = metadata.find_integers("tokenizer.ggml.token_type");
  if (texts == nullptr || types == nullptr) return tokens;
  const size_t count = std::min(texts->size(), types->size());
  for (size_t token = 0; token < count; ++token) {
    if ((*types)[token] == kControl && std::ranges::find(kTexts, (*texts)[token]) != kTexts.end()) {
      add(static_cast<int64_t>(token));
    }
  }
  return tokens;
}

int64_t read_vocabulary(const GgufFile& file) {
  const auto embedding = file.tensors().find("token_embd.weight");
  if (embedding == file.tensors().end() || embedding->second.dims.size() != 2) {
    throw Error(ErrorCode::bad_file, "{}: expected a matrix 'token_embd.weight', found none", file.metadata().name());
  }
  return embedding->second.dims[0];
}

}  // namespace

ModelConfig config_from_gguf(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  const ArchitectureTraits& traits =
      find_gguf_architecture(metadata.require_string("general.architecture"), metadata.name());
  const ArchitectureKeys keys(metadata, traits.gguf);
  if (metadata.find_integer("split.count").value_or(0) > 1) {
    throw Error(ErrorCode::unsupported, "{}: the model is split into {} files; join them with llama-gguf-split --merge",
                metadata.name(), metadata.require_integer("split.count"));
  }
  refuse_unsupported(keys);
  ModelConfig config;
  config.architecture = traits.architecture;
  const std::string* name = metadata.find_string("general.name");
  config.name = name == nullptr ? std::filesystem::path(metadata.name()).stem().string() : *name;
  config.layers = narrow(keys, "block_count", keys.require_integer("block_count"));
  config.width = keys.require_integer("embedding_length");
  config.query_heads = narrow(keys, "attention.head_count", read_per_layer(keys, "attention.head_count").value_or(0));
  config.kv_heads = narrow(keys, "attention.head_count_kv",
                           read_per_layer(keys, "attention.head_count_kv").value_or(config.query_heads));
  const int64_t default_head_dim = config.query_heads == 0 ? 0 : config.width / config.query_heads;
  config.head_dim = keys.find_integer("attention.key_length").value_or(default_head_dim);
  if (keys.find_integer("attention.value_length").value_or(config.head_dim) != config.head_dim) {
    keys.fail(ErrorCode::unsupported, "attention.value_length",
              "keys and values of different lengths are not supported");
  }
  config.feed_forward = read_per_layer(keys, "feed_forward_length").value_or(0);
  config.vocabulary = read_vocabulary(file);
  config.context_length = keys.require_integer("context_length");
  config.rms_epsilon = static_cast<float>(keys.require_float("attention.layer_norm_rms_epsilon"));
  config.rope = read_rope(keys, file, config.head_dim, traits.gguf_layout);
  config.query_key_value_bias = traits.query_key_value_bias || file.contains("blk.0.attn_q.bias");
  config.attention_output_bias = file.contains("blk.0.attn_output.bias");
  config.feed_forward_bias = file.contains("blk.0.ffn_gate.bias");
  config.tied_embeddings = !file.contains("output.weight");
  config.end_tokens = read_end_tokens(metadata, config.vocabulary);
  check_config(config, metadata.name());
  return config;
}

}  // namespace tessera::model
