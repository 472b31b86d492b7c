// Shared by the tests of tokenizers: golden vocabularies, awkward strings, digests.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "model/support.h"
#include "tessera/model/gguf.h"
#include "tessera/model/tokenizer.h"

namespace tessera::model {

inline const std::filesystem::path kTokenizers = std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/goldens/tokenizers";

// A golden file, its magic and version checked.
nlohmann::json tokenizer_golden(const std::string& file);
// The text of one of the golden tokenizer.json files.
std::string tokenizer_text(const std::string& name);
std::unique_ptr<Tokenizer> golden_tokenizer(const std::string& name);

const std::vector<std::string>& awkward_strings();

// As the script that makes the goldens computes it.
std::string digest(std::span<const int32_t> ids);
std::string digest(std::string_view bytes);

// The keys tokenizer.ggml.* of a golden vocabulary, as a converter would write them. `golden`: an entry of
// expected_gguf.json.
GgufMetadata gguf_of(const nlohmann::json& golden);

}  // namespace tessera::model
