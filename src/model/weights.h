// The weights of a transformer under names of their roles, and how they are found in a file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/model/config.h"
#include "tessera/model/gguf.h"
#include "tessera/model/safetensors.h"
#include "tessera/tensor/tensor.h"

namespace tessera::model {

// Matrices are [out, in], borrowed from the map; norms and biases are small f32 copies. A bias may be undefined.
struct LayerWeights {
  Tensor attention_norm;     // [width]
  Tensor query;              // [query_heads * head_dim, width]
  Tensor key;                // [kv_heads * head_dim, width]
  Tensor value;              // [kv_heads * head_dim, width]
  Tensor query_bias;         // [query_heads * head_dim]
  Tensor key_bias;           // [kv_heads * head_dim]
  Tensor value_bias;         // [kv_heads * head_dim]
  Tensor output;             // [width, query_heads * head_dim]
  Tensor output_bias;        // [width]
  Tensor feed_forward_norm;  // [width]
  Tensor gate;               // [feed_forward, width]
  Tensor up;                 // [feed_forward, width]
  Tensor down;               // [width, feed_forward]
  Tensor gate_bias;          // [feed_forward]
  Tensor up_bias;            // [feed_forward]
  Tensor down_bias;          // [width]
};

struct ModelWeights {
  Tensor embedding;  // [vocabulary, width]
  std::vector<LayerWeights> layers;
  Tensor final_norm;   // [width]
  Tensor output;       // [vocabulary, width]; the embedding when tied
  int64_t bytes = 0;   // of all tensors as stored, the tied one once
  std::string digest;  // 16 hexadecimal digits over configuration, names, types, shapes and a sample of every tensor
};

// Every tensor must be there with the shape that the configuration gives it; one that the model would leave unused is
// Error(unsupported), because it means that the file's architecture is not quite the one it names.
ModelWeights load_weights(const ModelConfig& config, const SafetensorsCheckpoint& checkpoint, std::string_view file);
ModelWeights load_weights(const ModelConfig& config, const GgufFile& file);

}  // namespace tessera::model
