#include <array>

#include "model/architectures.h"
#include "model/json_fields.h"
#include "model/optional_file.h"
#include "model/quote.h"
#include "tessera/model/config.h"

namespace tessera::model {
namespace {

[[noreturn]] void fail_unsupported(const JsonFields& fields, std::string_view key, const std::string& what) {
  throw Error(ErrorCode::unsupported, "{}: field {}: {}", fields.name(), quote(key), what);
}

// Integers end in an int without wrapping; check_config knows the true limits.
int narrow(const JsonFields& fields, std::string_view key, int64_t value) {
  if (value < 0 || value > INT32_MAX) fields.fail(key, "an integer from 0 to 2^31 - 1");
  return static_cast<int>(value);
}

const ArchitectureTraits& read_architecture(const JsonFields& fields) {
  const nlohmann::json* list = fields.find("architectures");
  if (list == nullptr || !list->is_array() || list->empty() || !list->front().is_string()) {
    fields.fail("architectures", "a list of one class name");
  }
  return find_huggingface_architecture(list->front().get<std::string>(), fields.name());
}

// Qwen2 states a window in every file and uses it only with use_sliding_window, in the layers from max_window_layers
// on; for others its presence is its use.
bool uses_sliding_window(const JsonFields& fields, const ArchitectureTraits& traits) {
  if (fields.find("sliding_window") == nullptr) return false;
  if (traits.architecture != Architecture::qwen2) return true;
  constexpr int64_t kDefaultMaxWindowLayers = 28;  // of transformers
  return fields.find_bool("use_sliding_window").value_or(false) &&
         fields.find_integer("max_window_layers").value_or(kDefaultMaxWindowLayers) <
             fields.require_integer("num_hidden_layers");
}

void refuse_sliding_windows(const JsonFields& fields, const ArchitectureTraits& traits) {
  if (uses_sliding_window(fields, traits)) {
    fail_unsupported(fields, "sliding_window", "attention in sliding windows is not supported");
  }
  const nlohmann::json* types = fields.find("layer_types");
  if (types == nullptr) return;
  if (!types->is_array()) fields.fail("layer_types", "a list");
  for (const nlohmann::json& type : *types) {
    if (type != "full_attention") fail_unsupported(fields, "layer_types", "only 'full_attention' is supported");
  }
}

void refuse_unsupported(const JsonFields& fields, const ArchitectureTraits& traits) {
  const std::string activation = fields.find_string("hidden_act").value_or("silu");
  if (activation != "silu") {
    fail_unsupported(fields, "hidden_act", "expected 'silu', found " + quote(activation));
  }
  constexpr auto kForeign =
      std::to_array<std::string_view>({"quantization_config", "num_experts", "num_local_experts", "n_routed_experts",
                                       "logit_scale", "attn_logit_softcapping", "final_logit_softcapping",
                                       "residual_multiplier", "embedding_multiplier", "attention_multiplier"});
  for (const std::string_view key : kForeign) {
    if (fields.find(key) != nullptr) fail_unsupported(fields, key, "this feature is not supported");
  }
  if (fields.find_number("partial_rotary_factor").value_or(1.0) != 1.0) {
    fail_unsupported(fields, "partial_rotary_factor", "rotation of a part of the head is not supported");
  }
  refuse_sliding_windows(fields, traits);
}

void read_scaling(const JsonFields& fields, const std::string& key, RopeConfig& rope) {
  std::optional<std::string> type = fields.find_string("rope_type");
  if (!type) type = fields.find_string("type");
  const std::string name = type.value_or("default");
  if (fields.find_number("partial_rotary_factor").value_or(1.0) != 1.0) {
    fail_unsupported(fields, key, "rotation of a part of the head is not supported");
  }
  if (name == "default") return;
  if (name != "linear" && name != "llama3") {
    fail_unsupported(fields, key,
                     "rotary scaling " + quote(name) + " is not supported; supported are default, linear, llama3");
  }
  rope.factor = fields.require_number("factor");
  rope.scaling = RopeScaling::linear;
  if (name == "linear") return;
  rope.scaling = RopeScaling::llama3;
  rope.low_frequency_factor = fields.require_number("low_freq_factor");
  rope.high_frequency_factor = fields.require_number("high_freq_factor");
  rope.original_context = fields.require_integer("original_max_position_embeddings");
}

// Until transformers 4: rope_theta and rope_scaling; from 5 on one object rope_parameters.
RopeConfig read_rope(const JsonFields& fields) {
  RopeConfig rope;
  const std::optional<JsonFields> parameters = fields.find_object("rope_parameters");
  rope.theta = fields.find_number("rope_theta").value_or(rope.theta);
  if (parameters) {
    rope.theta = parameters->find_number("rope_theta").value_or(rope.theta);
    read_scaling(*parameters, "rope_parameters", rope);
  } else if (const std::optional<JsonFields> scaling = fields.find_object("rope_scaling")) {
    read_scaling(*scaling, "rope_scaling", rope);
  }
  return rope;
}

// One id or a list of ids.
std::vector<int32_t> read_end_tokens(const JsonFields& fields) {
  const nlohmann::json* value = fields.find("eos_token_id");
  if (value == nullptr) return {};
  std::vector<int32_t> tokens;
  for (const nlohmann::json& token : value->is_array() ? *value : nlohmann::json::array({*value})) {
    if (!token.is_number_unsigned() || token.get<uint64_t>() > INT32_MAX) {
      fields.fail("eos_token_id", "token ids from 0 to 2^31 - 1");
    }
    tokens.push_back(token.get<int32_t>());
  }
  return tokens;
}

ModelConfig read_config(const JsonFields& fields) {
  const ArchitectureTraits& traits = read_architecture(fields);
  refuse_unsupported(fields, traits);
  ModelConfig config;
  config.architecture = traits.architecture;
  config.name = fields.find_string("_name_or_path").value_or("");
  config.layers = narrow(fields, "num_hidden_layers", fields.require_integer("num_hidden_layers"));
  config.width = fields.require_integer("hidden_size");
  config.query_heads = narrow(fields, "num_attention_heads", fields.require_integer("num_attention_heads"));
  config.kv_heads =
      narrow(fields, "num_key_value_heads", fields.find_integer("num_key_value_heads").value_or(config.query_heads));
  const int64_t default_head_dim = config.query_heads == 0 ? 0 : config.width / config.query_heads;
  config.head_dim = fields.find_integer("head_dim").value_or(default_head_dim);
  config.feed_forward = fields.require_integer("intermediate_size");
  config.vocabulary = fields.require_integer("vocab_size");
  config.context_length = fields.require_integer("max_position_embeddings");
  config.rms_epsilon = static_cast<float>(fields.find_number("rms_norm_eps").value_or(1e-6));
  config.rope = read_rope(fields);
  const bool attention_bias = fields.find_bool("attention_bias").value_or(false);
  config.query_key_value_bias = traits.query_key_value_bias || attention_bias;
  config.attention_output_bias = attention_bias && !traits.query_key_value_bias;
  config.feed_forward_bias = fields.find_bool("mlp_bias").value_or(false);
  config.tied_embeddings = fields.find_bool("tie_word_embeddings").value_or(false);
  config.end_tokens = read_end_tokens(fields);
  return config;
}

}  // namespace

ModelConfig config_from_json(std::string_view config_text, std::string_view generation_text, const std::string& name) {
  const nlohmann::json json = parse_strict_json(config_text, name);
  ModelConfig config = read_config(JsonFields(json, name));
  if (!generation_text.empty()) {
    const std::string generation_name = name + " (generation_config.json)";
    const nlohmann::json generation = parse_strict_json(generation_text, generation_name);
    const std::vector<int32_t> tokens = read_end_tokens(JsonFields(generation, generation_name));
    if (!tokens.empty()) config.end_tokens = tokens;
  }
  check_config(config, name);
  return config;
}

ModelConfig config_from_huggingface(const std::filesystem::path& directory) {
  const std::string generation_text = read_file_or_empty(directory / "generation_config.json");
  const std::filesystem::path path = directory / "config.json";
  ModelConfig config = config_from_json(read_file(path), generation_text, path.string());
  if (config.name.empty()) config.name = std::filesystem::absolute(directory).lexically_normal().filename().string();
  return config;
}

}  // namespace tessera::model
