// The two ways a model gets its tokenizer.
#pragma once

#include <filesystem>
#include <memory>

#include "tessera/model/gguf.h"
#include "tessera/model/tokenizer.h"

namespace tessera::model {

// From tokenizer.json (and tokenizer_config.json beside it). Throws Error(not_found, bad_file, unsupported).
std::unique_ptr<Tokenizer> tokenizer_from_huggingface(const std::filesystem::path& directory);

// From the keys tokenizer.ggml.*. Throws Error(bad_file, unsupported).
std::unique_ptr<Tokenizer> tokenizer_from_gguf(const GgufMetadata& metadata);

}  // namespace tessera::model
