#include "tessera/engine/session.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/tiny_model.h"
#include "tessera/base/error.h"
#include "tessera/base/random.h"

namespace tessera::engine {
namespace {

class SessionTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = Model::load(tessera::testing::write_tiny_model(1)); }
  static void TearDownTestSuite() { model_.reset(); }

  static std::vector<int32_t> tokens(int64_t count, uint64_t seed = 5) {
    Random random(seed);
    std::vector<int32_t> result(static_cast<size_t>(count));
    for (int32_t& token : result) token = static_cast<int32_t>(2 + random.below(256));
    return result;
  }

  static Session session(const std::string& method, SessionOptions options = {}) {
    return Session(model_, Method::parse(method), options);
  }

  // ||a - b|| / ||b|| of two logit rows.
  static double distance(const Tensor& a, const Tensor& b) {
    EXPECT_EQ(a.elements(), b.elements());
    double difference = 0;
    double norm = 0;
    for (int64_t i = 0; i < a.elements(); ++i) {
      difference += std::pow(a.data<float>()[i] - b.data<float>()[i], 2);
      norm += std::pow(b.data<float>()[i], 2);
    }
    return std::sqrt(difference / norm);
  }

  static std::shared_ptr<const Model> model_;
};

std::shared_ptr<const Model> SessionTest::model_;

constexpr double kRounding = 2e-5;  // f32 sums in another order

TEST_F(SessionTest, ChunksGiveTheSameAsTheWhole) {
  const std::vector<int32_t> prompt = tokens(331);
  for (const char* method : {"dense", "a-shape(sinks=16, window=80)", "tri-shape(sinks=16, window=80, last=40)",
                             "snapkv(capacity=100, window=48)", "streaming-llm(sinks=8, window=70)", "kivi(bits=4)"}) {
    Session whole = session(method);
    whole.prefill(prompt);
    for (const int64_t chunk : {37, 64, 200, 1000}) {
      Session parts = session(method, {.prefill_chunk = chunk});
      parts.prefill(prompt);
      EXPECT_LT(distance(parts.logits(), whole.logits()), kRounding) << method << " in chunks of " << chunk;
      EXPECT_EQ(parts.kv_bytes(), whole.kv_bytes()) << method;
    }
  }
}

TEST_F(SessionTest, DecodingEqualsPrefill) {
  const std::vector<int32_t> prompt = tokens(150);
  Session whole = session("dense");
  whole.prefill(prompt);
  Session stepped = session("dense");
  stepped.prefill(std::span(prompt).first(100));
  for (size_t i = 100; i < prompt.size(); ++i) stepped.step(prompt[i]);
  EXPECT_LT(distance(stepped.logits(), whole.logits()), kRounding);
  EXPECT_EQ(stepped.cache().rows(0, 0), 150);
}

TEST_F(SessionTest, FullBudgetsEqualDense) {
  const std::vector<int32_t> prompt = tokens(300);
  Session dense = session("dense");
  dense.prefill(prompt);
  dense.step(7);
  for (const char* method :
       {"a-shape(sinks=0, window=400)", "tri-shape(sinks=400, window=1)", "vertical-slash(vertical=400, slash=400)",
        "vertical-slash(recall=1)", "block-sparse(top_k=99)", "auto(crossover=100000)", "snapkv(capacity=400)",
        "streaming-llm(sinks=0, window=400)", "quest(budget=400, dense_layers=0)"}) {
    Session other = session(method);
    other.prefill(prompt);
    other.step(7);
    EXPECT_LT(distance(other.logits(), dense.logits()), kRounding) << method;
  }
}

TEST_F(SessionTest, LessBudgetCostsSomethingAndIsReported) {
  const std::vector<int32_t> prompt = tokens(1500);
  Session dense = session("dense");
  const PrefillStats whole = dense.prefill(prompt);
  EXPECT_EQ(whole.density, 1);
  EXPECT_EQ(whole.skipped_mass, 0);
  EXPECT_FALSE(session("a-shape(sinks=64, window=128)").prefill(prompt).skipped_mass.has_value());
  for (const char* method : {"a-shape(sinks=64, window=128)", "block-sparse(top_k=3)"}) {
    Session sparse = session(method, {.measure_skipped_mass = true});
    const PrefillStats stats = sparse.prefill(prompt);
    EXPECT_LT(stats.density, 0.6) << method;
    EXPECT_GT(stats.density, 0.02) << method;
    ASSERT_TRUE(stats.skipped_mass.has_value());
    EXPECT_GT(*stats.skipped_mass, 0.001) << method;
    EXPECT_LT(*stats.skipped_mass, 1) << method;
    EXPECT_GT(distance(sparse.logits(), dense.logits()), kRounding) << method;
  }
  Session snap = session("snapkv(capacity=256)");
  snap.prefill(prompt);
  EXPECT_EQ(snap.cache().rows(0, 0), 256);
  EXPECT_EQ(snap.cache().next_position(), 1500);
  EXPECT_LT(snap.kv_bytes(), dense.kv_bytes() / 4);
}

TEST_F(SessionTest, AForkDoesNotTouchItsParent) {
  Session parent = session("dense");
  parent.prefill(tokens(130));
  const Tensor before = parent.logits().clone();
  Session fork = parent.fork();
  fork.prefill(tokens(70, 9));
  const Generation answer = fork.generate(tokens(3, 10), {.max_new_tokens = 8});
  EXPECT_FALSE(answer.tokens.empty());
  EXPECT_EQ(parent.cache().rows(1, 1), 130);
  EXPECT_EQ(distance(parent.logits(), before), 0);
  Session again = parent.fork();
  again.prefill(tokens(70, 9));
  EXPECT_EQ(again.generate(tokens(3, 10), {.max_new_tokens = 8}).tokens, answer.tokens);
}

TEST_F(SessionTest, AGeneratedHistoryIsTheSameAsFeedingIt) {
  Session generated = session("dense");
  const std::vector<int32_t> prompt = tokens(90);
  const Generation answer = generated.generate(prompt, {.max_new_tokens = 6});
  generated.prefill(tokens(20, 4));
  Session fed = session("dense");
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), answer.tokens.begin(), answer.tokens.end());
  const std::vector<int32_t> more = tokens(20, 4);
  all.insert(all.end(), more.begin(), more.end());
  fed.prefill(all);
  EXPECT_EQ(std::vector<int32_t>(generated.tokens().begin(), generated.tokens().end()), all);
  EXPECT_LT(distance(generated.logits(), fed.logits()), kRounding);
}

TEST_F(SessionTest, StopStringsEndTheAnswer) {
  Session first = session("dense");
  const Generation free = first.generate("Hello there", {.max_new_tokens = 12});
  ASSERT_GE(free.text.size(), 4U);
  const std::string stop = free.text.substr(2, 1);
  Session second = session("dense");
  const Generation stopped = second.generate("Hello there", {.max_new_tokens = 12, .stop_strings = {stop}});
  EXPECT_TRUE(stopped.ended);
  EXPECT_EQ(stopped.text, free.text.substr(0, free.text.find(stop)));
}

TEST_F(SessionTest, TextStreamsAsItIsReturned) {
  std::string streamed;
  Session streaming = session("dense");
  const Generation answer =
      streaming.generate("abc", {.max_new_tokens = 20, .on_text = [&](std::string_view piece) { streamed += piece; }});
  EXPECT_EQ(streamed, answer.text);
}

TEST_F(SessionTest, LossesMatchTheLogits) {
  const std::vector<int32_t> prompt = tokens(600);  // more than one part of logits
  Session losses = session("dense");
  const std::vector<double> found = losses.token_losses(prompt);
  ASSERT_EQ(found.size(), prompt.size() - 1);
  Session plain = session("dense");
  plain.prefill(std::span(prompt).first(550));
  double sum = 0;
  for (int64_t i = 0; i < plain.logits().elements(); ++i) sum += std::exp(plain.logits().data<float>()[i]);
  EXPECT_NEAR(found[549], std::log(sum) - plain.logits().data<float>()[prompt[550]], 1e-3);
}

TEST_F(SessionTest, RefusesWhatItCannotDo) {
  Session small = session("dense");
  EXPECT_THROW(small.generate("", {}), Error);
  EXPECT_THROW(small.prefill(std::vector<int32_t>{258}), Error);
  EXPECT_THROW(small.prefill(std::vector<int32_t>{-1}), Error);
  EXPECT_THROW(small.generate("a", {.max_new_tokens = -1}), Error);
  EXPECT_THROW(session("dense", {.prefill_chunk = 0}), Error);
  try {
    small.prefill(tokens(4097));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::limit_exceeded);
  }
  Session beyond = session("streaming-llm(sinks=4, window=60)", {.allow_beyond_context = true});
  EXPECT_EQ(beyond.prefill(tokens(4100)).tokens, 4100);
}

TEST_F(SessionTest, ARefusedPromptLeavesTheSessionAsItWas) {
  Session kept = session("dense");
  kept.prefill(tokens(50));
  const Tensor before = kept.logits().clone();
  EXPECT_THROW(kept.prefill(tokens(5000)), Error);
  EXPECT_EQ(kept.tokens().size(), 50U);
  EXPECT_EQ(kept.cache().rows(0, 0), 50);
  EXPECT_EQ(distance(kept.logits(), before), 0);
}

}  // namespace
}  // namespace tessera::engine
