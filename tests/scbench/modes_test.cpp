// What the cache holds in the two modes, and the prompts that get it there.
#include "scbench/modes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scbench/fake_model.h"
#include "tessera/base/error.h"

namespace tessera::scbench {
namespace {

using testing::ElementsAre;

Example tiny() {
  return {"kv",
          "",
          " pairs\n ba be = bi bo\n da de = di do\n fa fe = fi fo",
          {{"\n? da de =", " di do", {"di do"}},
           {"\n? ba be =", " bi bo", {"bi bo"}},
           {"\n? fa fe =", " fi fo", {"fi fo"}}}};
}

Example tiny_chat() {
  return {"kv", "Read this.\n\n", "{a: 1}", {{"\n\nWhat is a?", " 1", {"1"}}, {"\n\nAnd b?", " 2", {"2"}}}};
}

// Runs a mode on a fake and keeps, per scored turn, the record and what is in the main cache afterwards.
class ModesTest : public testing::Test {
 protected:
  void run(
      Mode mode, const Example& example, const ChatRenderer& render, History history,
      const std::function<bool(size_t)>& wanted = [](size_t) { return true; }) {
    const PromptBuilder prompts(render);
    records_.clear();
    caches_.clear();
    conversation_ = std::make_unique<FakeConversation>(tokenizer_, oracle_);
    const auto on_turn = [&](const TurnRecord& record) {
      records_.push_back(record);
      caches_.push_back(conversation_->text());
    };
    run_mode(mode, *conversation_,
             {example, prompts, tokenizer_, history, {8, prompts.stop_strings(Vocabulary::words)}, wanted, on_turn});
  }

  int64_t tokens(const std::string& text) const {
    return static_cast<int64_t>(tokenizer_.encode(text, {.add_special = false, .parse_special = false}).size());
  }

  FakeTokenizer tokenizer_;
  Oracle oracle_ = answer_key_value;
  std::unique_ptr<FakeConversation> conversation_;
  std::vector<TurnRecord> records_;
  std::vector<std::string> caches_;
};

TEST_F(ModesTest, MultiTurnHoldsContextQuestionsAndGoldenAnswers) {
  const Example example = tiny();
  run(Mode::multi_turn, example, {}, History::golden);
  const std::string first = "<|begin|>" + example.context + "\n? da de =";
  EXPECT_THAT(caches_, ElementsAre(first, first + " di do\n? ba be =", first + " di do\n? ba be = bi bo\n? fa fe ="));
  // The first question is part of the first prompt.
  EXPECT_THAT(conversation_->fed(), ElementsAre(first, " di do\n? ba be =", " bi bo\n? fa fe ="));
}

TEST_F(ModesTest, MultiTurnLengthsFollowTheTraceRule) {
  const Example example = tiny();
  run(Mode::multi_turn, example, {}, History::golden);
  int64_t expected = 1 + tokens(example.context + example.turns[0].input);
  for (size_t t = 0; t < example.turns.size(); ++t) {
    if (t > 0) expected += tokens(example.turns[t - 1].answer + example.turns[t].input);
    EXPECT_EQ(records_[t].prompt_tokens, expected);
    EXPECT_EQ(records_[t].reused_tokens, t == 0 ? 0 : records_[t - 1].prompt_tokens);
    EXPECT_EQ(records_[t].kv_bytes, 100 * expected);
  }
  EXPECT_EQ(conversation_->length(), expected);
}

TEST_F(ModesTest, MultiRequestHoldsTheContextAlone) {
  const Example example = tiny();
  run(Mode::multi_request, example, {}, History::golden);
  const std::string context = "<|begin|>" + example.context;
  EXPECT_THAT(caches_, ElementsAre(context, context, context));
  EXPECT_THAT(conversation_->fed(), ElementsAre(context, "\n? da de =", "\n? ba be =", "\n? fa fe ="));
  for (const TurnRecord& record : records_) {
    EXPECT_EQ(record.prompt_tokens, tokens(example.context) + 1 + 5);
    EXPECT_EQ(record.reused_tokens, record.turn == 0 ? 0 : tokens(example.context) + 1);
  }
}

TEST_F(ModesTest, PredictionsTimesAndDensity) {
  run(Mode::multi_request, tiny(), {}, History::golden);
  EXPECT_EQ(records_[0].prediction, " di do");
  EXPECT_EQ(records_[1].prediction, " bi bo");
  EXPECT_EQ(records_[2].generated_tokens, 3);  // and the line end
  // The first request pays for the context; its density is the context's.
  const auto context = static_cast<double>(tokens(tiny().context)) + 1;
  EXPECT_EQ(records_[0].prefill_ms, context + 5);
  EXPECT_EQ(records_[0].ttft_ms, context + 5 + 1);
  EXPECT_EQ(records_[0].density, 0.25);
  EXPECT_EQ(records_[1].prefill_ms, 5);
  EXPECT_EQ(records_[1].decode_ms, 6);
  EXPECT_EQ(records_[1].density, 1);
}

TEST_F(ModesTest, GoldenHistoryForgetsWrongAnswers) {
  oracle_ = [](const std::string&) { return " zu zu\n"; };
  run(Mode::multi_turn, tiny(), {}, History::golden);
  EXPECT_EQ(records_[1].prediction, " zu zu");
  EXPECT_EQ(conversation_->text().find("zu"), std::string::npos);
}

TEST_F(ModesTest, GeneratedHistoryKeepsThemAndOneLineEnd) {
  oracle_ = [](const std::string&) { return " zu zo\n"; };
  const Example example = tiny();
  run(Mode::multi_turn, example, {}, History::generated);
  EXPECT_EQ(caches_.back() + "\n",  // the last line end is not fed yet
            "<|begin|>" + example.context + "\n? da de = zu zo\n? ba be = zu zo\n? fa fe = zu zo\n");
  // An answer that ends by the limit or an end token leaves the line end to the next question.
  oracle_ = [](const std::string&) { return " zu zo"; };
  run(Mode::multi_turn, example, {}, History::generated);
  EXPECT_EQ(caches_.back() + " zo",
            "<|begin|>" + example.context + "\n? da de = zu zo\n? ba be = zu zo\n? fa fe = zu zo");
}

TEST_F(ModesTest, ScoredTurnsAreFedButNotAnsweredAgain) {
  const auto last_two = [](size_t turn) { return turn >= 1; };
  run(Mode::multi_turn, tiny(), {}, History::golden, last_two);
  const std::vector<std::string> caches = caches_;
  EXPECT_EQ(records_.size(), 2U);
  EXPECT_EQ(records_[0].turn, 1U);
  run(Mode::multi_turn, tiny(), {}, History::golden);
  EXPECT_THAT(caches, ElementsAre(caches_[1], caches_[2]));

  run(Mode::multi_request, tiny(), {}, History::golden, last_two);
  EXPECT_EQ(conversation_->fed().size(), 3U);
  EXPECT_EQ(records_[0].prefill_ms, 5);  // the lost first request had paid for the context

  run(Mode::multi_turn, tiny(), {}, History::generated, last_two);
  EXPECT_EQ(records_.size(), 2U);
  EXPECT_EQ(conversation_->fed().size(), 3U);

  run(Mode::multi_turn, tiny(), {}, History::golden, [](size_t turn) { return turn == 0; });
  EXPECT_EQ(conversation_->fed().size(), 1U);
  run(Mode::multi_request, tiny(), {}, History::golden, [](size_t) { return false; });
  EXPECT_TRUE(conversation_->fed().empty());
}

TEST_F(ModesTest, ChatMultiTurn) {
  oracle_ = [](const std::string&) { return " 1"; };
  run(Mode::multi_turn, tiny_chat(), render_chat, History::golden);
  EXPECT_THAT(conversation_->fed(),
              ElementsAre("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nRead this.\n\n{a: 1}\n\nWhat is "
                          "a?<|im_end|>\n<|im_start|>assistant\n",
                          "1<|im_end|>\n<|im_start|>user\nAnd b?<|im_end|>\n<|im_start|>assistant\n"));
  run(Mode::multi_turn, tiny_chat(), render_chat, History::generated);
  EXPECT_THAT(conversation_->text(), testing::EndsWith("assistant\n 1<|im_end|>\n<|im_start|>user\nAnd b?<|im_end|>\n"
                                                       "<|im_start|>assistant\n"));
}

TEST_F(ModesTest, ChatMultiRequestLeavesTheUserTurnOpen) {
  oracle_ = [](const std::string&) { return " 1"; };
  run(Mode::multi_request, tiny_chat(), render_chat, History::golden);
  EXPECT_THAT(conversation_->fed(),
              ElementsAre("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nRead this.\n\n{a: 1}",
                          "\n\nWhat is a?<|im_end|>\n<|im_start|>assistant\n",
                          "\n\nAnd b?<|im_end|>\n<|im_start|>assistant\n"));
}

TEST_F(ModesTest, ControlTokensWrittenInContentStayText) {
  Example example = tiny_chat();
  example.context = "<|im_end|> x";
  const PromptBuilder prompts(render_chat);
  const std::vector<int32_t> encoded = encode_prompt(tokenizer_, prompts.context(example), Begin::sequence);
  const int32_t control = tokenizer_.find("<|im_end|>");
  EXPECT_EQ(std::count(encoded.begin(), encoded.end(), control), 1);  // the template's own
  EXPECT_THAT(tokenizer_.decode(encoded), testing::EndsWith("<|im_end|> x"));
}

TEST_F(ModesTest, MarkupIsCounted) {
  EXPECT_EQ(PromptBuilder({}).markup_tokens(tokenizer_, 5), 1);
  const PromptBuilder prompts(render_chat);
  for (int turns = 1; turns <= 2; ++turns) {
    Example example = tiny_chat();
    example.turns.resize(static_cast<size_t>(turns));
    int64_t all = static_cast<int64_t>(encode_prompt(tokenizer_, prompts.first(example), Begin::sequence).size());
    int64_t contents = tokens("Read this.\n\n{a: 1}\n\nWhat is a?");
    if (turns == 2) {
      all += static_cast<int64_t>(
          encode_prompt(tokenizer_, prompts.follow_up(example, 1, History::golden), Begin::continuation).size());
      contents += tokens("1") + tokens("And b?");
    }
    EXPECT_EQ(prompts.markup_tokens(tokenizer_, turns), all - contents);
  }
}

TEST(PromptBuilder, RefusesATemplateThatLosesMessages) {
  try {
    const PromptBuilder prompts([](std::span<const model::ChatMessage>) { return std::string("nothing"); });
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
  }
}

TEST(PromptBuilder, StopStrings) {
  EXPECT_THAT(PromptBuilder({}).stop_strings(Vocabulary::words), ElementsAre("\n"));
  EXPECT_THAT(PromptBuilder({}).stop_strings(Vocabulary::uuid), ElementsAre("\n\n"));
  EXPECT_TRUE(PromptBuilder(render_chat).stop_strings(Vocabulary::uuid).empty());
}

}  // namespace
}  // namespace tessera::scbench
