// A tokenizer, a conversation and a chat template without a model, which record what they are given.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "scbench/conversation.h"
#include "scbench/prompt.h"
#include "tessera/model/tokenizer.h"

namespace tessera::scbench {

// Tokens are the pieces of fake_tokens.h, numbered as they come; "<|...|>" is one control token where that is asked
// for.
class FakeTokenizer final : public model::Tokenizer {
 public:
  static constexpr int32_t kBegin = 0;  // BOS, "<|begin|>"

  std::vector<int32_t> encode(std::string_view text, const model::EncodeOptions& options) const override;
  std::string token_bytes(int32_t token) const override;
  // Control tokens included, so that tests see them.
  std::string decode(std::span<const int32_t> tokens) const override;
  int64_t vocabulary() const override { return static_cast<int64_t>(pieces_.size()); }
  int32_t find(std::string_view text) const override;
  int32_t bos() const override { return kBegin; }
  int32_t eos() const override { return -1; }

 private:
  int32_t number(const std::string& piece) const;

  mutable std::vector<std::string> pieces_ = {"<|begin|>"};
};

// Looks at everything in the cache and says what to answer, the line end included.
using Oracle = std::function<std::string(const std::string& history)>;

// Answers what the lines of a `words` key-value context say.
std::string answer_key_value(const std::string& history);

class FakeConversation final : public Conversation {
 public:
  FakeConversation(const FakeTokenizer& tokenizer, Oracle oracle) : tokenizer_(tokenizer), oracle_(std::move(oracle)) {}

  FedPrompt feed(std::span<const int32_t> prompt) override;
  // Like the engine, leaves the last token of the answer to be fed with the next prompt.
  Answer answer(const AnswerLimits& limits) override;
  std::unique_ptr<Conversation> fork() const override;
  int64_t length() const override { return static_cast<int64_t>(tokens_.size()); }
  int64_t kv_bytes() const override { return 100 * length(); }

  std::string text() const { return tokenizer_.decode(tokens_); }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  // Prompts fed so far, forks included, as text.
  const std::vector<std::string>& fed() const { return *fed_; }

 private:
  const FakeTokenizer& tokenizer_;
  Oracle oracle_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> pending_;
  std::shared_ptr<std::vector<std::string>> fed_ = std::make_shared<std::vector<std::string>>();
};

// ChatML with a system turn in front, as SmolLM2 and Qwen2 write it.
std::string render_chat(std::span<const model::ChatMessage> messages);

}  // namespace tessera::scbench
