// The modes on the real engine: what the cache of a tiny random model holds, row by row.
#include "tessera/engine/session.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "scbench/modes.h"
#include "scbench/session_conversation.h"
#include "support/tiny_model.h"
#include "tessera/scbench/bench.h"

namespace tessera::scbench {
namespace {

class SessionModesTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = Model::load(tessera::testing::write_tiny_model(3)); }
  static void TearDownTestSuite() { model_.reset(); }

  static Example example() {
    Random random = example_random(1, "kv", 0);
    const auto count = [](std::string_view text) { return static_cast<int64_t>(tokens(text, false).size()); };
    return find_task("kv").generate({.tokens = 900, .turns = 3, .vocabulary = Vocabulary::words}, count, random);
  }

  static std::vector<int32_t> tokens(std::string_view text, bool start) {
    return model_->tokenizer().encode(text, {.add_special = start, .parse_special = false});
  }

  // Runs a mode; `check` sees the main session after each turn.
  static void run(Mode mode, History history, const std::string& method,
                  const std::function<void(const TurnRecord&, const engine::Session&)>& check) {
    const Example asked = example();
    const PromptBuilder prompts({});
    SessionConversation conversation(engine::Session(model_, Method::parse(method)));
    const auto all = [](size_t) { return true; };
    const auto on_turn = [&](const TurnRecord& record) { check(record, conversation.session()); };
    run_mode(
        mode, conversation,
        {asked, prompts, model_->tokenizer(), history, {6, prompts.stop_strings(Vocabulary::words)}, all, on_turn});
  }

  static std::vector<int32_t> cached(const engine::Session& session) {
    return {session.tokens().begin(), session.tokens().end()};
  }

  static std::shared_ptr<const Model> model_;
};

std::shared_ptr<const Model> SessionModesTest::model_;

TEST_F(SessionModesTest, MultiTurnCacheIsContextQuestionsAndGoldenAnswers) {
  const Example asked = example();
  std::string text = asked.context + asked.turns[0].input;
  run(Mode::multi_turn, History::golden, "dense", [&](const TurnRecord& record, const engine::Session& session) {
    if (record.turn > 0) text += asked.turns[record.turn - 1].answer + asked.turns[record.turn].input;
    const std::vector<int32_t> expected = tokens(text, true);
    EXPECT_EQ(cached(session), expected);
    EXPECT_EQ(session.cache().rows(0, 0), static_cast<int64_t>(expected.size()));
    EXPECT_EQ(record.prompt_tokens, static_cast<int64_t>(expected.size()));
    EXPECT_EQ(record.kv_bytes, session.kv_bytes());
    EXPECT_EQ(record.density, 1);
  });
}

TEST_F(SessionModesTest, MultiRequestCacheIsTheContext) {
  const std::vector<int32_t> expected = tokens(example().context, true);
  run(Mode::multi_request, History::golden, "dense", [&](const TurnRecord& record, const engine::Session& session) {
    EXPECT_EQ(cached(session), expected);
    EXPECT_EQ(session.cache().rows(1, 1), static_cast<int64_t>(expected.size()));
    EXPECT_EQ(record.reused_tokens, record.turn == 0 ? 0 : static_cast<int64_t>(expected.size()));
  });
}

// The first prompt alone is compressed, in multi-request without a question in it; later tokens are appended in full.
TEST_F(SessionModesTest, DroppingPoliciesActOnTheFirstPromptOnly) {
  const Example asked = example();
  constexpr int64_t kCapacity = 200;
  const std::string method = "snapkv(capacity=200, window=16)";
  run(Mode::multi_request, History::golden, method,
      [&](const TurnRecord&, const engine::Session& session) { EXPECT_EQ(session.cache().rows(0, 0), kCapacity); });
  const int64_t first = static_cast<int64_t>(tokens(asked.context + asked.turns[0].input, true).size());
  run(Mode::multi_turn, History::golden, method, [&](const TurnRecord& record, const engine::Session& session) {
    EXPECT_EQ(session.cache().rows(0, 0), kCapacity + record.prompt_tokens - first);
  });
}

TEST_F(SessionModesTest, SparsePrefillActsOnTheFirstPromptOnly) {
  run(Mode::multi_request, History::golden, "a-shape(sinks=16, window=64)",
      [](const TurnRecord& record, const engine::Session&) {
        if (record.turn == 0) {
          EXPECT_LT(record.density, 0.6);
        } else {
          EXPECT_EQ(record.density, 1);
        }
      });
}

// The rows of a generated answer stay; its last token is fed with the next question.
TEST_F(SessionModesTest, GeneratedHistoryGrowsByAnswersAndQuestions) {
  const Example asked = example();
  std::vector<int32_t> before;
  run(Mode::multi_turn, History::generated, "dense", [&](const TurnRecord& record, const engine::Session& session) {
    const std::vector<int32_t> held = cached(session);
    ASSERT_GT(held.size(), before.size());
    EXPECT_TRUE(std::equal(before.begin(), before.end(), held.begin()));
    EXPECT_EQ(record.reused_tokens, static_cast<int64_t>(before.size()));
    const std::vector<int32_t> question = tokens(asked.turns[record.turn].input, false);
    EXPECT_TRUE(std::equal(question.begin(), question.end(),
                           held.begin() + record.prompt_tokens - static_cast<int64_t>(question.size())));
    EXPECT_EQ(static_cast<int64_t>(held.size()),
              record.prompt_tokens + std::max<int64_t>(0, record.generated_tokens - 1));
    before = held;
  });
}

// The whole way: a model directory in, a report out, and the same again from the store.
TEST_F(SessionModesTest, RunBench) {
  const std::filesystem::path out = std::filesystem::path(::testing::TempDir()) / ("scbench_session" + std::to_string(getpid()));
  std::filesystem::remove_all(out);
  BenchOptions options;
  options.model = tessera::testing::write_tiny_model(3);
  options.tasks = {"kv", "passkey"};
  options.methods = {"dense", "vertical-slash", "snapkv(capacity=128)", "kivi(bits=4)", "quest(budget=128)"};
  options.length = 800;
  options.turns = 2;
  options.examples = 2;
  options.out = out;
  const Summary summary = run_bench(options);
  EXPECT_EQ(summary.scored_turns, 2 * 2 * 5 * 2 * 2);
  EXPECT_EQ(summary.header.settings["vocabulary"], "uuid");  // a byte-level tokenizer knows no words
  options.resume = true;
  EXPECT_EQ(to_json(run_bench(options))["cells"], to_json(summary)["cells"]);
  std::filesystem::remove_all(out);
}

}  // namespace
}  // namespace tessera::scbench
