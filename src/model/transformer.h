// Configuration, weights and the forward pass: a Model without its text side.
#pragma once

#include <filesystem>
#include <span>

#include "model/rope.h"
#include "model/weights.h"
#include "tessera/model/model.h"

namespace tessera::model {

class Transformer {
 public:
  static Transformer from_huggingface(const std::filesystem::path& directory);
  static Transformer from_gguf(const GgufFile& file);

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }

  // As Model::forward and Model::workspace_bytes.
  Tensor forward(std::span<const int32_t> tokens, int64_t first_position, LayerAttention& attention,
                 const ForwardOptions& options) const;
  int64_t workspace_bytes(int64_t tokens) const;

 private:
  struct Workspace;

  Transformer(ModelConfig config, ModelWeights weights);
  void project(const LayerWeights& layer, Workspace& work) const;
  void absorb(const LayerWeights& layer, int64_t first_row, Workspace& work) const;
  Tensor logits(int64_t first_row, Workspace& work) const;

  ModelConfig config_;
  ModelWeights weights_;
  RopeFrequencies frequencies_;
};

}  // namespace tessera::model
