// The registry of architectures: one row each. docs/models.md says how to add one.
#pragma once

#include <string_view>

#include "tessera/model/config.h"

namespace tessera::model {

struct ArchitectureTraits {
  Architecture architecture;
  std::string_view huggingface;  // an entry of config.json's `architectures`
  std::string_view gguf;         // general.architecture, and the prefix of its keys
  RopeLayout gguf_layout;
  bool query_key_value_bias;  // always there; otherwise config.json's attention_bias decides
};

// Throws Error(unsupported) naming the architecture and those that are known. `file` is for the message.
const ArchitectureTraits& find_huggingface_architecture(std::string_view name, std::string_view file);
const ArchitectureTraits& find_gguf_architecture(std::string_view name, std::string_view file);

// Throws Error(bad_file) unless every number is in the range that this program computes with.
void check_config(const ModelConfig& config, std::string_view file);

}  // namespace tessera::model
