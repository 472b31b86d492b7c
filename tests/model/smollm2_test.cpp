// SmolLM2-135M-Instruct (GGUF Q4_1) against llama.cpp and transformers. Needs the file, which is not part of the
// source: the environment variable TESSERA_SMOLLM2 names it.
#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <numeric>

#include "model/support.h"
#include "model/transformer.h"
#include "tessera/base/file.h"

namespace tessera::model {
namespace {

constexpr std::string_view kRemakeSmolLm2 =
    "regenerate with: python3 tools/goldens/make_model_goldens.py --smollm2 SmolLM2-135M-Instruct.Q4_1.gguf";

// transformers computes on the dequantised weights in f32: only rounding lies between it and us.
constexpr double kTransformersBound = 1e-4;
// llama.cpp rounds every activation to 8 bits before each of the 210 quantised products.
constexpr double kLlamaCppBound = 5e-2;

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("TESSERA_SMOLLM2");
    if (path == nullptr) GTEST_SKIP() << "TESSERA_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf";
    golden_ = read_json(kGoldens / "smollm2.json");
    transformer_ = std::make_unique<Transformer>(Transformer::from_gguf(GgufFile::open(path)));
    tokens_ = golden_.at("tokens").get<std::vector<int32_t>>();
  }

  static std::vector<float> pick(std::span<const float> logits, const std::vector<int32_t>& tokens) {
    std::vector<float> picked;
    for (const int32_t token : tokens) picked.push_back(logits[static_cast<size_t>(token)]);
    return picked;
  }

  static std::vector<int32_t> top(std::span<const float> logits, size_t count) {
    std::vector<int32_t> tokens(logits.size());
    std::iota(tokens.begin(), tokens.end(), 0);
    std::partial_sort(
        tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count), tokens.end(),
        [&](int32_t a, int32_t b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
    tokens.resize(count);
    return tokens;
  }

  nlohmann::json golden_;
  std::unique_ptr<Transformer> transformer_;
  std::vector<int32_t> tokens_;
};

TEST_F(SmolLm2, LogitsAgreeWithBothReferences) {
  DenseAttention attention(transformer_->config());
  const Tensor logits = transformer_->forward(tokens_, 0, attention, {});
  const nlohmann::json& transformers = golden_.at("transformers");
  const nlohmann::json& llama_cpp = golden_.at("llama_cpp");

  const std::vector<float> sample = pick(values_of(logits), transformers.at("sample_tokens"));
  const double error = relative_error(sample, transformers.at("sample_logits").get<std::vector<float>>());
  EXPECT_LT(error, kTransformersBound) << kRemakeSmolLm2;
  EXPECT_EQ(top(values_of(logits), 20), transformers.at("top_tokens").get<std::vector<int32_t>>()) << kRemakeSmolLm2;

  const std::vector<float> of_llama_cpp = golden_.at("sample_of_llama_cpp");
  const double looser_error = relative_error(sample, of_llama_cpp);
  EXPECT_LT(looser_error, kLlamaCppBound) << kRemakeSmolLm2;
  const std::vector<float> best = pick(values_of(logits), llama_cpp.at("top_tokens"));
  EXPECT_LT(relative_error(best, llama_cpp.at("top_logits").get<std::vector<float>>()), kLlamaCppBound)
      << kRemakeSmolLm2;
  RecordProperty("transformers_error", fmt::format("{:.2e}", error));
  RecordProperty("llama_cpp_error", fmt::format("{:.2e}", looser_error));
}

// Each token of llama.cpp's greedy continuation is our best one too, or within what its rounding can turn round.
TEST_F(SmolLm2, GreedyContinuationAgreesWithLlamaCpp) {
  constexpr float kNearTie = 0.5F;  // logits
  DenseAttention attention(transformer_->config());
  Tensor logits = transformer_->forward(tokens_, 0, attention, {});
  auto position = std::ssize(tokens_);
  int equal = 0;
  const std::vector<int32_t> greedy = golden_.at("llama_cpp").at("greedy");
  for (const int32_t token : greedy) {
    const std::span<const float> row = values_of(logits);
    const int32_t ours = top(row, 1)[0];
    equal += ours == token ? 1 : 0;
    EXPECT_LT(row[static_cast<size_t>(ours)] - row[static_cast<size_t>(token)], kNearTie) << "at " << position;
    logits = transformer_->forward(std::span(&token, 1), position++, attention, {});
  }
  EXPECT_GE(equal, std::ssize(greedy) - 2) << kRemakeSmolLm2;
}

}  // namespace
}  // namespace tessera::model
