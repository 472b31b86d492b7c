// The bundled model against its own training side (tools/nano, PyTorch): the grammar, the tokenizer and the forward
// pass.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "scbench/tasks/common.h"
#include "scbench/words_grammar.h"
#include "tessera/base/file.h"
#include "tessera/engine/session.h"

namespace tessera::scbench {
namespace {

constexpr const char* kRegenerate = "regenerate with: python tools/nano/golden_tasks.py";

class NanoTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::filesystem::path root = TESSERA_SOURCE_DIR;
    golden_ = new nlohmann::json(read_json(root / "tests/goldens/nano_tasks.json"));
    model_ = Model::load(root / "models/nano");
  }
  static void TearDownTestSuite() {
    delete golden_;
    model_.reset();
  }

  static std::vector<int32_t> ids(const nlohmann::json& array) { return array.get<std::vector<int32_t>>(); }
  static std::vector<int32_t> encode(const nlohmann::json& text, bool add_special) {
    return model_->tokenizer().encode(text.get<std::string>(), {.add_special = add_special, .parse_special = false});
  }

  static nlohmann::json* golden_;
  static std::shared_ptr<const Model> model_;
};

nlohmann::json* NanoTest::golden_ = nullptr;
std::shared_ptr<const Model> NanoTest::model_;

TEST_F(NanoTest, WordsAreTheSame) {
  for (const auto& [index, text] : (*golden_)["words"].items()) {
    EXPECT_EQ(word(std::stoll(index)), text.get<std::string>()) << kRegenerate;
  }
}

TEST_F(NanoTest, TokensAreTheSame) {
  for (const nlohmann::json& item : (*golden_)["tokenizer"]) {
    // The reference library always reads control tokens.
    const std::vector<int32_t> found =
        model_->tokenizer().encode(item["text"].get<std::string>(), {.add_special = false, .parse_special = true});
    EXPECT_EQ(found, ids(item["ids"])) << item["text"] << "\n" << kRegenerate;
  }
  for (const nlohmann::json& item : (*golden_)["examples"]) {
    EXPECT_EQ(encode(item["context"], true), ids(item["context_ids"])) << kRegenerate;
    for (const nlohmann::json& turn : item["turns"]) {
      EXPECT_EQ(encode(turn["input"], false), ids(turn["input_ids"])) << kRegenerate;
      EXPECT_EQ(encode(turn["answer"], false), ids(turn["answer_ids"])) << kRegenerate;
    }
  }
}

TEST_F(NanoTest, TheTrainingSideWritesTheSameGrammar) {
  for (const nlohmann::json& item : (*golden_)["examples"]) {
    Example example{item["task"], "", item["context"], {}};
    for (const nlohmann::json& turn : item["turns"]) example.turns.push_back({turn["input"], turn["answer"], {}});
    EXPECT_THAT(words_faults(example), ::testing::IsEmpty()) << example.task << "\n" << kRegenerate;
  }
}

TEST_F(NanoTest, LogitsAgreeWithPyTorch) {
  for (const nlohmann::json& item : (*golden_)["forward_float32"]) {
    Session session(model_, Method::parse("dense"));
    session.prefill(ids(item["prompt_ids"]));
    const float* logits = session.logits().data<float>();
    const int64_t count = session.logits().elements();
    EXPECT_EQ(std::max_element(logits, logits + count) - logits, item["argmax"].get<int64_t>()) << kRegenerate;
    double squares = 0;
    for (int64_t i = 0; i < count; ++i) squares += static_cast<double>(logits[i]) * logits[i];
    const auto norm = item["last_logits_norm"].get<double>();
    EXPECT_NEAR(std::sqrt(squares) / norm, 1, 1e-4) << kRegenerate;
    const auto first = item["last_logits_first16"].get<std::vector<double>>();
    for (size_t i = 0; i < first.size(); ++i) {
      // 1e-4 of the largest logit: what f32 sums in another order may differ by.
      EXPECT_NEAR(logits[i], first[i], 1e-4 * item["max_logit"].get<double>()) << kRegenerate;
    }
    const engine::Generation answer = session.generate("", {.max_new_tokens = 8});
    std::vector<int32_t> expected = ids(item["greedy_ids"]);
    if (answer.ended) expected.pop_back();  // the newline, an end token
    EXPECT_EQ(answer.tokens, expected) << kRegenerate;
  }
}

}  // namespace
}  // namespace tessera::scbench
