#include "tessera/model/config.h"

#include <nlohmann/json.hpp>

#include "model/gguf_builder.h"
#include "model/support.h"

namespace tessera::model {
namespace {

using nlohmann::json;

void expect_contains(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

json llama() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"vocab_size", 100},
          {"intermediate_size", 96},
          {"max_position_embeddings", 128},
          {"rms_norm_eps", 0.00001},
          {"eos_token_id", 2}};
}

// The Llama configuration with some fields replaced (null removes one).
ModelConfig parse(const json& changes, const std::string& generation = "") {
  json config = llama();
  if (!changes.is_null()) config.merge_patch(changes);
  return config_from_json(config.dump(), generation, "config.json");
}

std::string refusal(const json& changes, ErrorCode code = ErrorCode::bad_file, const std::string& generation = "") {
  return error_of(code, [&] { parse(changes, generation); });
}

std::string unsupported(const json& changes) { return refusal(changes, ErrorCode::unsupported); }

TEST(HuggingFaceConfig, DefaultsFollowTransformers) {
  const ModelConfig config = parse({});
  EXPECT_EQ(config.architecture, Architecture::llama);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.rope.scaling, RopeScaling::none);
  EXPECT_EQ(config.rope.layout, RopeLayout::half_split);
  EXPECT_EQ(config.end_tokens, std::vector<int32_t>{2});
  EXPECT_FALSE(config.tied_embeddings || config.query_key_value_bias || config.attention_output_bias);
  EXPECT_FLOAT_EQ(config.rms_epsilon, 1e-5F);
  EXPECT_FLOAT_EQ(parse({{"rms_norm_eps", nullptr}}).rms_epsilon, 1e-6F);
}

TEST(HuggingFaceConfig, StatedValuesWin) {
  const ModelConfig config = parse({{"num_key_value_heads", 2},
                                    {"head_dim", 32},
                                    {"tie_word_embeddings", true},
                                    {"attention_bias", true},
                                    {"mlp_bias", true},
                                    {"rope_theta", 500000},
                                    {"eos_token_id", {2, 3}}});
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_TRUE(config.tied_embeddings && config.query_key_value_bias && config.attention_output_bias &&
              config.feed_forward_bias);
  EXPECT_EQ(config.rope.theta, 500000.0);
  EXPECT_EQ(config.end_tokens, (std::vector<int32_t>{2, 3}));
}

TEST(HuggingFaceConfig, Qwen2HasBiasesOnTheThreeInputProjectionsOnly) {
  const ModelConfig config =
      parse({{"architectures", {"Qwen2ForCausalLM"}}, {"sliding_window", 32768}, {"use_sliding_window", false}});
  EXPECT_EQ(config.architecture, Architecture::qwen2);
  EXPECT_TRUE(config.query_key_value_bias);
  EXPECT_FALSE(config.attention_output_bias);
}

TEST(HuggingFaceConfig, RotaryScalingInTheFieldsOfBothTransformersVersions) {
  const json llama3 = {
      {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 8192}};
  json old_style = llama3;
  old_style["rope_type"] = "llama3";
  json new_style = old_style;
  new_style["rope_theta"] = 500000.0;
  for (const ModelConfig& config :
       {parse({{"rope_theta", 500000.0}, {"rope_scaling", old_style}}), parse({{"rope_parameters", new_style}})}) {
    EXPECT_EQ(config.rope.scaling, RopeScaling::llama3);
    EXPECT_EQ(config.rope.theta, 500000.0);
    EXPECT_EQ(config.rope.factor, 8.0);
    EXPECT_EQ(config.rope.low_frequency_factor, 1.0);
    EXPECT_EQ(config.rope.high_frequency_factor, 4.0);
    EXPECT_EQ(config.rope.original_context, 8192);
  }
  const ModelConfig linear = parse({{"rope_scaling", {{"type", "linear"}, {"factor", 4}}}});
  EXPECT_EQ(linear.rope.scaling, RopeScaling::linear);
  EXPECT_EQ(linear.rope.factor, 4.0);
  EXPECT_EQ(parse({{"rope_scaling", nullptr}}).rope.scaling, RopeScaling::none);
  EXPECT_EQ(parse({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 7.0}}}}).rope.theta, 7.0);
}

TEST(HuggingFaceConfig, EndTokensOfTheGenerationConfigWin) {
  EXPECT_EQ(parse({}, R"({"eos_token_id": [5, 7]})").end_tokens, (std::vector<int32_t>{5, 7}));
  EXPECT_EQ(parse({}, R"({"eos_token_id": 9})").end_tokens, std::vector<int32_t>{9});
  EXPECT_EQ(parse({}, R"({"bos_token_id": 1})").end_tokens, std::vector<int32_t>{2});
  EXPECT_TRUE(parse({{"eos_token_id", nullptr}}).end_tokens.empty());
}

TEST(HuggingFaceConfig, WhatIsNotSupportedIsNamed) {
  expect_contains(unsupported({{"architectures", {"MambaForCausalLM"}}}), "MambaForCausalLM");
  expect_contains(unsupported({{"architectures", {"MambaForCausalLM"}}}), "LlamaForCausalLM, Qwen2ForCausalLM");
  expect_contains(unsupported({{"sliding_window", 4096}}), "sliding_window");
  const json qwen2 = {{"architectures", {"Qwen2ForCausalLM"}}, {"sliding_window", 64}, {"use_sliding_window", true}};
  EXPECT_NO_THROW(parse(qwen2));  // from layer 28 on, and there are two
  json windowed = qwen2;
  windowed["max_window_layers"] = 1;
  expect_contains(unsupported(windowed), "sliding_window");
  expect_contains(unsupported({{"layer_types", {"full_attention", "sliding_attention"}}}), "layer_types");
  expect_contains(unsupported({{"num_local_experts", 8}}), "num_local_experts");
  expect_contains(unsupported({{"quantization_config", {{"bits", 4}}}}), "quantization_config");
  expect_contains(unsupported({{"hidden_act", "gelu"}}), "gelu");
  expect_contains(unsupported({{"partial_rotary_factor", 0.5}}), "partial_rotary_factor");
  expect_contains(unsupported({{"rope_scaling", {{"type", "yarn"}, {"factor", 4}}}}), "yarn");
  expect_contains(unsupported({{"rope_parameters", {{"rope_type", "dynamic"}, {"factor", 4}}}}), "dynamic");
}

TEST(HuggingFaceConfig, MissingWrongAndOutOfRangeFieldsAreNamed) {
  for (const char* key : {"architectures", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
                          "intermediate_size", "max_position_embeddings"}) {
    for (const json& value : {json(nullptr), json("x"), json(-1), json(0), json(1.5), json(1e300), json(true),
                              json::array(), json(18446744073709551615ULL)}) {
      json config = llama();
      config[key] = value;
      error_of(ErrorCode::bad_file, [&] { config_from_json(config.dump(), "", "config.json"); });
    }
  }
  expect_contains(refusal({{"num_attention_heads", "four"}}), "'num_attention_heads'");
  expect_contains(refusal({{"num_key_value_heads", 3}}), "shared evenly");
  expect_contains(refusal({{"num_key_value_heads", 8}}), "key-value heads");
  expect_contains(refusal({{"head_dim", 7}}), "even head dimension");
  expect_contains(refusal({{"rms_norm_eps", 0}}), "epsilon");
  expect_contains(refusal({{"rope_theta", -1}}), "rotary base");
  expect_contains(refusal({{"eos_token_id", 100}}), "outside the vocabulary");
  expect_contains(refusal({{"eos_token_id", -1}}), "eos_token_id");
  expect_contains(refusal({{"eos_token_id", {1, "x"}}}), "eos_token_id");
  expect_contains(refusal({{"rope_scaling", 4}}), "rope_scaling");
  expect_contains(refusal({{"rope_scaling", {{"type", "linear"}}}}), "'factor'");
  expect_contains(refusal({{"rope_scaling", {{"type", "linear"}, {"factor", 0}}}}), "scaling factor");
  expect_contains(refusal({{"layer_types", "full_attention"}}), "layer_types");
  expect_contains(refusal({}, ErrorCode::bad_file, R"({"eos_token_id": "x"})"), "generation_config.json");
  expect_contains(refusal({}, ErrorCode::bad_file, "[]"), "JSON object");
}

TEST(HuggingFaceConfig, TextThatIsNoConfigIsRefused) {
  for (const char* text : {"", "{", "[]", "null", "3", "{\"a\":1,\"a\":2}", "\xff"}) {
    error_of(ErrorCode::bad_file, [&] { config_from_json(text, "", "config.json"); });
  }
  error_of(ErrorCode::not_found, [] { config_from_huggingface("no/such/directory"); });
}

// The smallest header from which a configuration can be read.
GgufBuilder gguf(const std::string& architecture = "llama") {
  const auto key = [&](const char* name) { return architecture + "." + name; };
  return {.values = {{"general.architecture", gguf_text(architecture)},
                     {key("block_count"), gguf_u32(2)},
                     {key("context_length"), le<uint32_t>(10) + le<uint64_t>(128)},
                     {key("embedding_length"), le<uint32_t>(2) + le<uint16_t>(8)},
                     {key("feed_forward_length"), le<uint32_t>(11) + le<int64_t>(16)},
                     {key("attention.head_count"), gguf_u32(2)},
                     {key("attention.layer_norm_rms_epsilon"), gguf_f32(1e-5F)}},
          .tensors = {{"token_embd.weight", {8, 10}, 0, std::string(320, '\0')}}};
}

ModelConfig parse(const GgufBuilder& builder) {
  auto copy = exact_copy(builder.build());
  const std::span<const std::byte> span(*copy);
  return config_from_gguf(GgufFile::parse(span, "folder/tiny.gguf", std::move(copy)));
}

std::string gguf_refusal(const std::string& key, const std::string& value, ErrorCode code = ErrorCode::unsupported) {
  GgufBuilder builder = gguf();
  std::erase_if(builder.values, [&](const auto& entry) { return entry.first == key; });
  builder.values.emplace_back(key, value);
  return error_of(code, [&] { parse(builder); });
}

TEST(GgufConfig, ReadsIntegersOfAnyWidth) {
  const ModelConfig config = parse(gguf());
  EXPECT_EQ(config.name, "tiny");
  EXPECT_EQ(config.layers, 2);
  EXPECT_EQ(config.context_length, 128);
  EXPECT_EQ(config.width, 8);
  EXPECT_EQ(config.feed_forward, 16);
  EXPECT_EQ(config.vocabulary, 10);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(config.rope.layout, RopeLayout::interleaved);
  EXPECT_FALSE(config.query_key_value_bias);
}

TEST(GgufConfig, Qwen2IsNotPermutedAndHasBiases) {
  const ModelConfig config = parse(gguf("qwen2"));
  EXPECT_EQ(config.rope.layout, RopeLayout::half_split);
  EXPECT_TRUE(config.query_key_value_bias);
  EXPECT_FALSE(config.attention_output_bias);
}

TEST(GgufConfig, TheTensorTableTellsWhatTheKeysDoNot) {
  GgufBuilder builder = gguf();
  builder.tensors.push_back({"output.weight", {8, 10}, 0, std::string(320, '\0')});
  builder.tensors.push_back({"rope_freqs.weight", {2}, 0, le(1.0F) + le(8.0F)});
  const ModelConfig config = parse(builder);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_EQ(config.rope.frequency_divisors, (std::vector<float>{1, 8}));

  builder.tensors.back() = {"rope_freqs.weight", {3}, 0, le(1.0F) + le(8.0F) + le(8.0F)};
  expect_contains(error_of(ErrorCode::bad_file, [&] { parse(builder); }), "frequency divisors");
  builder.tensors.back() = {"rope_freqs.weight", {2}, 0, le(1.0F) + le(0.0F)};
  expect_contains(error_of(ErrorCode::bad_file, [&] { parse(builder); }), "positive rotary frequency divisor");
  builder.tensors.erase(builder.tensors.begin());
  expect_contains(error_of(ErrorCode::bad_file, [&] { parse(builder); }), "token_embd.weight");
}

TEST(GgufConfig, KeysPerLayerMustAgree) {
  GgufBuilder builder = gguf();
  builder.values.emplace_back("llama.attention.head_count_kv", gguf_array(4, 2, le<uint32_t>(1) + le<uint32_t>(1)));
  EXPECT_EQ(parse(builder).kv_heads, 1);
  expect_contains(gguf_refusal("llama.attention.head_count_kv", gguf_array(4, 2, le<uint32_t>(1) + le<uint32_t>(2))),
                  "different shapes");
  gguf_refusal("llama.attention.head_count_kv", gguf_array(4, 0, ""), ErrorCode::bad_file);
}

TEST(GgufConfig, EndTokensComeFromKeysAndFromControlTokens) {
  GgufBuilder builder = gguf();
  builder.values.emplace_back("tokenizer.ggml.eos_token_id", gguf_u32(4));
  builder.values.emplace_back("tokenizer.ggml.eot_token_id", gguf_u32(4));
  builder.values.emplace_back(
      "tokenizer.ggml.tokens",
      gguf_array(8, 3, gguf_string("<|im_end|>") + gguf_string("<|im_end|>") + gguf_string("a")));
  builder.values.emplace_back("tokenizer.ggml.token_type",
                              gguf_array(5, 3, le<int32_t>(1) + le<int32_t>(3) + le<int32_t>(3)));
  EXPECT_EQ(parse(builder).end_tokens, (std::vector<int32_t>{4, 1}));
  expect_contains(gguf_refusal("tokenizer.ggml.eos_token_id", gguf_u32(10), ErrorCode::bad_file),
                  "outside the vocabulary");
}

TEST(GgufConfig, LinearScaling) {
  GgufBuilder builder = gguf();
  builder.values.emplace_back("llama.rope.scaling.type", gguf_text("linear"));
  builder.values.emplace_back("llama.rope.scaling.factor", gguf_f32(4));
  EXPECT_EQ(parse(builder).rope.scaling, RopeScaling::linear);
  EXPECT_EQ(parse(builder).rope.factor, 4.0);
  gguf_refusal("llama.rope.scaling.type", gguf_text("linear"), ErrorCode::bad_file);
}

TEST(GgufConfig, WhatIsNotSupportedIsNamed) {
  GgufBuilder other = gguf("mamba");
  expect_contains(error_of(ErrorCode::unsupported, [&] { parse(other); }), "supported are llama, qwen2");
  expect_contains(gguf_refusal("llama.expert_count", gguf_u32(8)), "expert_count");
  expect_contains(gguf_refusal("llama.attention.sliding_window", gguf_u32(4096)), "sliding_window");
  expect_contains(gguf_refusal("llama.rope.scaling.type", gguf_text("yarn")), "yarn");
  expect_contains(gguf_refusal("llama.rope.dimension_count", gguf_u32(2)), "dimension_count");
  expect_contains(gguf_refusal("llama.attention.value_length", gguf_u32(2)), "value_length");
  expect_contains(gguf_refusal("llama.logit_scale", gguf_f32(2)), "logit_scale");
  expect_contains(gguf_refusal("split.count", gguf_u32(3)), "split into 3 files");
}

TEST(GgufConfig, MissingWrongAndOutOfRangeKeysAreNamed) {
  for (const char* name :
       {"general.architecture", "llama.block_count", "llama.context_length", "llama.embedding_length",
        "llama.feed_forward_length", "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"}) {
    GgufBuilder missing = gguf();
    std::erase_if(missing.values, [&](const auto& entry) { return entry.first == name; });
    error_of(ErrorCode::bad_file, [&] { parse(missing); });
    gguf_refusal(name, le<uint32_t>(7) + "\1", ErrorCode::bad_file);
  }
  for (const char* name :
       {"llama.block_count", "llama.attention.head_count", "llama.attention.head_count_kv", "llama.embedding_length"}) {
    gguf_refusal(name, le<uint32_t>(11) + le<int64_t>(-1), ErrorCode::bad_file);
    gguf_refusal(name, le<uint32_t>(11) + le(INT64_MAX), ErrorCode::bad_file);
    gguf_refusal(name, gguf_u32(0), ErrorCode::bad_file);
  }
  gguf_refusal("llama.attention.layer_norm_rms_epsilon", gguf_f32(-1), ErrorCode::bad_file);
  gguf_refusal("llama.rope.freq_base", gguf_f32(0), ErrorCode::bad_file);
}

}  // namespace
}  // namespace tessera::model
