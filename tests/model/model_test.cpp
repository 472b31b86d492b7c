#include "tessera/model/model.h"

#include "model/support.h"

namespace tessera::model {
namespace {

TEST(Model, LoadsEveryFixtureWithItsTokenizerAndTemplate) {
  for (const GoldenCase& golden : golden_cases()) {
    const auto model = Model::load(golden.path);
    EXPECT_EQ(model->tokenizer().vocabulary(), model->config().vocabulary) << golden.name;
    const std::string text = "the tiger and 12 rivers, größer\n";
    const std::vector<int32_t> tokens = model->tokenizer().encode(text, {});
    EXPECT_EQ(model->tokenizer().decode(tokens), text) << golden.name;
    EXPECT_LT(tokens.size(), text.size()) << golden.name;
    EXPECT_EQ(model->config().end_tokens.front(), model->tokenizer().find("<|im_end|>")) << golden.name;
    EXPECT_EQ(model->config().end_tokens.size(), 2U) << golden.name;
    EXPECT_EQ(model->chat_template().family(), ChatFamily::chatml) << golden.name;
    EXPECT_EQ(model->digest().size(), 16U);
    EXPECT_GT(model->weight_bytes(), 15000);
  }
}

TEST(Model, ForwardIsThatOfTheTransformer) {
  const GoldenCase golden = golden_cases().front();
  const auto model = Model::load(golden.path);
  DenseAttention attention(model->config());
  const Tensor logits = model->forward(golden.tokens, 0, attention, {.logits = Logits::all});
  EXPECT_LT(relative_error(values_of(logits), values_of(golden_logits(golden.name, "transformers"))), 1e-4) << kRemake;
}

TEST(Model, PathsThatAreNoModelAreErrors) {
  error_of(ErrorCode::not_found, [] { Model::load("no/such/model"); });
  error_of(ErrorCode::not_found, [] { Model::load(kGoldens); });  // a directory without config.json
  const std::string message =
      error_of(ErrorCode::unsupported, [] { Model::load(kGoldens / "llama-tied" / "model.safetensors"); });
  EXPECT_NE(message.find("give the directory"), std::string::npos);
}

}  // namespace
}  // namespace tessera::model
