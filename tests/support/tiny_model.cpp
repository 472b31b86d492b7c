#include "support/tiny_model.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/base/file.h"
#include "tessera/base/random.h"

namespace tessera::testing {
namespace {

constexpr int64_t kWidth = 64;
constexpr int64_t kFeedForward = 96;
constexpr int64_t kHeadDim = 32;
constexpr int64_t kQueryHeads = 4;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kVocabulary = 258;
constexpr int kLayers = 2;

struct Weight {
  std::string name;
  std::vector<int64_t> shape;
  double scale;  // standard deviation; 0 means all ones (norms)
};

std::vector<Weight> weights() {
  std::vector<Weight> all = {{"model.embed_tokens.weight", {kVocabulary, kWidth}, 1.0},
                             {"model.norm.weight", {kWidth}, 0}};
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    all.push_back({prefix + "input_layernorm.weight", {kWidth}, 0});
    all.push_back({prefix + "post_attention_layernorm.weight", {kWidth}, 0});
    all.push_back({prefix + "self_attn.q_proj.weight", {kQueryHeads * kHeadDim, kWidth}, 0.25});
    all.push_back({prefix + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kWidth}, 0.25});
    all.push_back({prefix + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kWidth}, 0.15});
    all.push_back({prefix + "self_attn.o_proj.weight", {kWidth, kQueryHeads * kHeadDim}, 0.1});
    all.push_back({prefix + "mlp.gate_proj.weight", {kFeedForward, kWidth}, 0.15});
    all.push_back({prefix + "mlp.up_proj.weight", {kFeedForward, kWidth}, 0.15});
    all.push_back({prefix + "mlp.down_proj.weight", {kWidth, kFeedForward}, 0.1});
  }
  return all;
}

void write_weights(const std::filesystem::path& path, uint64_t seed) {
  nlohmann::json header = nlohmann::json::object();
  std::string buffer;
  uint64_t stream = 0;
  for (const Weight& weight : weights()) {
    Random random = Random(seed).split(stream++);
    int64_t elements = 1;
    for (const int64_t dim : weight.shape) elements *= dim;
    const size_t begin = buffer.size();
    for (int64_t i = 0; i < elements; ++i) {
      const float value = weight.scale == 0 ? 1.0F : static_cast<float>(weight.scale * random.normal());
      buffer.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    header[weight.name] = {{"dtype", "F32"}, {"shape", weight.shape}, {"data_offsets", {begin, buffer.size()}}};
  }
  const std::string text = header.dump();
  const uint64_t size = text.size();
  write_file_atomically(path, std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + text + buffer);
}

// The printable stand-in for a byte in byte-level BPE files (GPT-2).
std::string byte_symbol(int byte) {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int earlier = 0; earlier < byte; ++earlier) code += printable(earlier) ? 0 : 1;
  }
  if (code < 128) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

nlohmann::json special_token(int id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

void write_tokenizer(const std::filesystem::path& folder) {
  nlohmann::json vocabulary = {{"<|end|>", 0}, {"<|begin|>", 1}};
  for (int byte = 0; byte < 256; ++byte) vocabulary[byte_symbol(byte)] = byte + 2;
  const nlohmann::json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const nlohmann::json begin = {{"SpecialToken", {{"id", "<|begin|>"}, {"type_id", 0}}}};
  const nlohmann::json single = {begin, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}};
  const nlohmann::json pair = {
      begin, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}};
  const nlohmann::json post = {
      {"type", "TemplateProcessing"},
      {"single", single},
      {"pair", pair},
      {"special_tokens", {{"<|begin|>", {{"id", "<|begin|>"}, {"ids", {1}}, {"tokens", {"<|begin|>"}}}}}}};
  const nlohmann::json model = {{"type", "BPE"},
                                {"dropout", nullptr},
                                {"unk_token", nullptr},
                                {"continuing_subword_prefix", nullptr},
                                {"end_of_word_suffix", nullptr},
                                {"fuse_unk", false},
                                {"byte_fallback", false},
                                {"ignore_merges", true},
                                {"vocab", vocabulary},
                                {"merges", nlohmann::json::array()}};
  const nlohmann::json tokenizer = {
      {"version", "1.0"},       {"truncation", nullptr},
      {"padding", nullptr},     {"added_tokens", {special_token(0, "<|end|>"), special_token(1, "<|begin|>")}},
      {"normalizer", nullptr},  {"pre_tokenizer", byte_level},
      {"post_processor", post}, {"decoder", byte_level},
      {"model", model}};
  write_file_atomically(folder / "tokenizer.json", tokenizer.dump());
  write_file_atomically(
      folder / "tokenizer_config.json",
      R"({"bos_token": "<|begin|>", "eos_token": "<|end|>", "tokenizer_class": "PreTrainedTokenizerFast"})");
}

// Removed when the test program ends.
struct Folder {
  explicit Folder(std::filesystem::path where) : path(std::move(where)) {}
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  const std::filesystem::path path;
};

}  // namespace

std::filesystem::path write_tiny_model(uint64_t seed) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / fmt::format("tessera-tiny-{}-{}", seed, getpid());
  std::filesystem::create_directories(folder);
  static std::map<uint64_t, Folder> folders;
  folders.try_emplace(seed, folder);
  const nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                                 {"model_type", "llama"},
                                 {"hidden_act", "silu"},
                                 {"hidden_size", kWidth},
                                 {"intermediate_size", kFeedForward},
                                 {"num_hidden_layers", kLayers},
                                 {"num_attention_heads", kQueryHeads},
                                 {"num_key_value_heads", kKvHeads},
                                 {"head_dim", kHeadDim},
                                 {"max_position_embeddings", 4096},
                                 {"rms_norm_eps", 1e-5},
                                 {"rope_theta", 10000.0},
                                 {"tie_word_embeddings", true},
                                 {"vocab_size", kVocabulary},
                                 {"bos_token_id", 1},
                                 {"eos_token_id", 0}};
  write_file_atomically(folder / "config.json", config.dump());
  write_weights(folder / "model.safetensors", seed);
  write_tokenizer(folder);
  return folder;
}

}  // namespace tessera::testing
