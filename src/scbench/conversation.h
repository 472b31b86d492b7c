// What the modes need of a model: a sequence that is fed, answers and forks. The engine's Session is one
// (session_conversation.h); tests use recording ones.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tessera::scbench {

struct FedPrompt {
  int64_t tokens = 0;  // computed, tokens left over from a generated answer included
  double wall_ms = 0;
  double density = 1;                      // executed
  std::optional<double> skipped_mass = 0;  // estimated share of the attention left out; nothing: not measured
};

struct AnswerLimits {
  int64_t max_new_tokens = 64;
  std::vector<std::string> stop_strings;
};

struct Answer {
  std::string text;             // up to the stop string
  std::vector<int32_t> tokens;  // of the text and the stop string; the end token excluded
  double ttft_ms = 0;           // from the call to the first token
  double decode_ms = 0;
};

class Conversation {
 public:
  virtual ~Conversation() = default;
  // Appends a prompt to the cache.
  virtual FedPrompt feed(std::span<const int32_t> prompt) = 0;
  // Decodes greedily. The generated tokens stay in this conversation's history.
  virtual Answer answer(const AnswerLimits& limits) = 0;
  // A copy that shares what is cached; dropping it leaves this one as it was.
  virtual std::unique_ptr<Conversation> fork() const = 0;
  // Tokens in the cache.
  virtual int64_t length() const = 0;
  virtual int64_t kv_bytes() const = 0;
};

}  // namespace tessera::scbench
