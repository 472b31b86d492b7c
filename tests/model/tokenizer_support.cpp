#include "model/tokenizer_support.h"

#include <fmt/format.h>

#include <map>

#include "model/tokenizer_json.h"
#include "model/tokenizer_pipeline.h"
#include "tessera/base/file.h"

namespace tessera::model {

nlohmann::json tokenizer_golden(const std::string& file) {
  nlohmann::json golden = read_json(kTokenizers / file);
  const bool fits = golden.at("magic") == "tessera-tokenizer-goldens" && golden.at("version") == 1;
  if (!fits) {
    throw Error(ErrorCode::bad_file,
                "{}: not a golden of this version; regenerate with: python3 tools/goldens/make_tokenizer_goldens.py "
                "--out tests/goldens/tokenizers --smollm2 SmolLM2-135M-Instruct.Q4_1.gguf",
                file);
  }
  return golden;
}

std::string tokenizer_text(const std::string& name) { return read_file(kTokenizers / (name + ".json")); }

std::unique_ptr<Tokenizer> golden_tokenizer(const std::string& name) {
  return tokenizer_from_json(tokenizer_text(name), "", "", name);
}

const std::vector<std::string>& awkward_strings() {
  static const std::vector<std::string> strings = [] {
    std::vector<std::string> result;
    const nlohmann::json golden = tokenizer_golden("strings.json");
    for (const nlohmann::json& entry : golden.at("strings")) {
      const std::string& unit = (entry.is_string() ? entry : entry[0]).get_ref<const std::string&>();
      const int repeats = entry.is_string() ? 1 : entry[1].get<int>();
      result.emplace_back();
      for (int i = 0; i < repeats; ++i) result.back() += unit;
    }
    EXPECT_EQ(result.size(), 1000U);
    return result;
  }();
  return strings;
}

namespace {

class Fnv {
 public:
  void add(uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) hash_ = (hash_ ^ (value >> shift & 0xFF)) * 0x100000001B3U;
  }
  std::string text() const { return fmt::format("{:012x}", hash_ & 0xFFFFFFFFFFFFU); }

 private:
  uint64_t hash_ = 0xCBF29CE484222325U;
};

}  // namespace

std::string digest(std::span<const int32_t> ids) {
  Fnv hash;
  for (const int32_t id : ids) hash.add(static_cast<uint32_t>(id));
  return hash.text();
}

std::string digest(std::string_view bytes) {
  Fnv hash;
  for (const char byte : bytes) hash.add(static_cast<uint8_t>(byte));
  return hash.text();
}

GgufMetadata gguf_of(const nlohmann::json& golden) {
  const nlohmann::json source = nlohmann::json::parse(tokenizer_text(golden.at("source")));
  const std::string model = golden.at("model");
  std::map<int64_t, std::string> tokens;
  std::map<std::string, int64_t> added_types;
  for (const auto& [text, id] : source.at("model").at("vocab").items()) tokens[id] = text;
  for (const nlohmann::json& token : source.at("added_tokens")) {
    tokens[token.at("id")] = token.at("content");
    added_types[token.at("content")] = token.at("special").get<bool>() ? 3 : 4;
  }
  std::vector<std::string> texts;
  std::vector<int64_t> types;
  for (const auto& [id, text] : tokens) {
    EXPECT_EQ(id, static_cast<int64_t>(texts.size()));
    texts.push_back(text);
    const auto added = added_types.find(text);
    types.push_back(added != added_types.end()                        ? added->second
                    : model == "llama" && byte_of_spelling(text) >= 0 ? 6
                                                                      : 1);
  }
  GgufMetadata metadata("vocabulary.gguf");
  metadata.add("tokenizer.ggml.model", model);
  metadata.add("tokenizer.ggml.tokens", std::move(texts));
  metadata.add("tokenizer.ggml.token_type", std::move(types));
  metadata.add("tokenizer.ggml.bos_token_id", int64_t{1});
  metadata.add("tokenizer.ggml.eos_token_id", int64_t{2});
  if (model == "llama") {
    metadata.add("tokenizer.ggml.scores", golden.at("scores").get<std::vector<double>>());
    return metadata;
  }
  std::vector<std::string> merges;
  for (const nlohmann::json& merge : source.at("model").at("merges")) {
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  metadata.add("tokenizer.ggml.merges", std::move(merges));
  metadata.add("tokenizer.ggml.pre", golden.at("pre").get<std::string>());
  return metadata;
}

}  // namespace tessera::model
