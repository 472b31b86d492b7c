#include "model/weights.h"

#include <algorithm>
#include <array>
#include <functional>
#include <set>

#include "model/digest.h"
#include "model/quote.h"
#include "tessera/tensor/ops.h"

namespace tessera::model {
namespace {

// What one format calls the tensors. Those of a layer stand after layer_prefix, the number and a dot, and end in
// ".weight" or ".bias".
struct TensorNames {
  std::string_view embedding, final_norm, output, layer_prefix;
  std::string_view attention_norm, query, key, value, attention_output;
  std::string_view feed_forward_norm, gate, up, down;
};

constexpr TensorNames kHuggingface = {
    .embedding = "model.embed_tokens",
    .final_norm = "model.norm",
    .output = "lm_head",
    .layer_prefix = "model.layers.",
    .attention_norm = "input_layernorm",
    .query = "self_attn.q_proj",
    .key = "self_attn.k_proj",
    .value = "self_attn.v_proj",
    .attention_output = "self_attn.o_proj",
    .feed_forward_norm = "post_attention_layernorm",
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .down = "mlp.down_proj",
};

constexpr TensorNames kGguf = {
    .embedding = "token_embd",
    .final_norm = "output_norm",
    .output = "output",
    .layer_prefix = "blk.",
    .attention_norm = "attn_norm",
    .query = "attn_q",
    .key = "attn_k",
    .value = "attn_v",
    .attention_output = "attn_output",
    .feed_forward_norm = "ffn_norm",
    .gate = "ffn_gate",
    .up = "ffn_up",
    .down = "ffn_down",
};

// One file or set of files, whatever the format.
struct TensorSource {
  std::string file;
  const TensorNames& tensor_names;
  std::vector<std::string> names;
  std::function<Tensor(std::string_view)> tensor;
};

// Old checkpoints store the rotary frequencies, which follow from the configuration; `rope_freqs` is read with it.
bool is_rotary_table(std::string_view name) {
  return name.ends_with("rotary_emb.inv_freq") || name == "rope_freqs.weight";
}

class WeightLoader {
 public:
  WeightLoader(const ModelConfig& config, const TensorSource& source) : config_(config), source_(source) {}

  ModelWeights load() {
    const TensorNames& names = source_.tensor_names;
    ModelWeights weights;
    weights.embedding = matrix(weight_name(names.embedding), config_.vocabulary, config_.width);
    weights.final_norm = vector(weight_name(names.final_norm), config_.width);
    if (config_.tied_embeddings) {
      weights.output = weights.embedding;
      used_.insert(weight_name(names.output));
    } else {
      weights.output = matrix(weight_name(names.output), config_.vocabulary, config_.width);
    }
    for (int layer = 0; layer < config_.layers; ++layer) weights.layers.push_back(load_layer(layer));
    refuse_unused();
    weights.bytes = bytes_;
    weights.digest = digest_.hexadecimal();
    return weights;
  }

  void mix_config() { digest_.add(config_); }

 private:
  static std::string weight_name(std::string_view stem) { return std::string(stem) + ".weight"; }

  LayerWeights load_layer(int layer) {
    const TensorNames& names = source_.tensor_names;
    const std::string prefix = std::string(names.layer_prefix) + std::to_string(layer) + ".";
    const auto weight = [&](std::string_view stem) { return prefix + std::string(stem) + ".weight"; };
    const auto bias = [&](bool there, std::string_view stem, int64_t size) {
      return there ? vector(prefix + std::string(stem) + ".bias", size) : Tensor();
    };
    const int64_t width = config_.width;
    const int64_t hidden = config_.feed_forward;
    const int64_t query_width = config_.query_heads * config_.head_dim;
    const int64_t kv_width = config_.kv_heads * config_.head_dim;
    LayerWeights weights;
    weights.attention_norm = vector(weight(names.attention_norm), width);
    weights.query = matrix(weight(names.query), query_width, width);
    weights.key = matrix(weight(names.key), kv_width, width);
    weights.value = matrix(weight(names.value), kv_width, width);
    weights.query_bias = bias(config_.query_key_value_bias, names.query, query_width);
    weights.key_bias = bias(config_.query_key_value_bias, names.key, kv_width);
    weights.value_bias = bias(config_.query_key_value_bias, names.value, kv_width);
    weights.output = matrix(weight(names.attention_output), width, query_width);
    weights.output_bias = bias(config_.attention_output_bias, names.attention_output, width);
    weights.feed_forward_norm = vector(weight(names.feed_forward_norm), width);
    weights.gate = matrix(weight(names.gate), hidden, width);
    weights.up = matrix(weight(names.up), hidden, width);
    weights.down = matrix(weight(names.down), width, hidden);
    weights.gate_bias = bias(config_.feed_forward_bias, names.gate, hidden);
    weights.up_bias = bias(config_.feed_forward_bias, names.up, hidden);
    weights.down_bias = bias(config_.feed_forward_bias, names.down, width);
    return weights;
  }

  Tensor stored(const std::string& name, const Shape& shape) {
    Tensor tensor = source_.tensor(name);
    if (tensor.shape() != shape) {
      throw Error(ErrorCode::bad_file, "{}: tensor {}: the configuration asks for shape {}, found {}", source_.file,
                  quote(name), shape.str(), tensor.shape().str());
    }
    used_.insert(name);
    bytes_ += tensor.bytes();
    digest_.add(name, tensor);
    return tensor;
  }

  Tensor matrix(const std::string& name, int64_t rows, int64_t columns) { return stored(name, {rows, columns}); }

  // A norm or a bias, as f32 in memory of its own.
  Tensor vector(const std::string& name, int64_t size) {
    const Tensor tensor = stored(name, {size});
    Tensor copy = Tensor::empty(DType::f32, {size});
    convert_to_f32(tensor.dtype(), tensor.raw(), size, copy.data<float>());
    return copy;
  }

  void refuse_unused() const {
    for (const std::string& name : source_.names) {
      if (!used_.contains(name) && !is_rotary_table(name)) {
        throw Error(ErrorCode::unsupported, "{}: tensor {} has no place in the architecture that the file names",
                    source_.file, quote(name));
      }
    }
  }

  const ModelConfig& config_;
  const TensorSource& source_;
  std::set<std::string> used_;
  int64_t bytes_ = 0;
  Digest digest_;
};

ModelWeights load(const ModelConfig& config, const TensorSource& source) {
  WeightLoader loader(config, source);
  loader.mix_config();
  return loader.load();
}

}  // namespace

ModelWeights load_weights(const ModelConfig& config, const SafetensorsCheckpoint& checkpoint, std::string_view file) {
  return load(config, {.file = std::string(file),
                       .tensor_names = kHuggingface,
                       .names = checkpoint.names(),
                       .tensor = [&](std::string_view name) { return checkpoint.tensor(name); }});
}

ModelWeights load_weights(const ModelConfig& config, const GgufFile& file) {
  std::vector<std::string> names;
  for (const auto& [name, info] : file.tensors()) names.push_back(name);
  return load(config, {.file = file.metadata().name(),
                       .tensor_names = kGguf,
                       .names = std::move(names),
                       .tensor = [&](std::string_view name) { return file.tensor(name); }});
}

}  // namespace tessera::model
