// How an example becomes prompts, for plain models and chat models, in one place.
//
// Plain: the texts of the example follow each other with nothing in between. Chat: context and first question are one
// user turn; a follow-up is [golden answer] end-of-turn, user turn, assistant header; a shared context is a user turn
// left open.
//
//   PromptBuilder prompts(renderer);
//   encode_prompt(tokenizer, prompts.first(example), Begin::sequence);
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tessera/model/chat_template.h"
#include "tessera/model/tokenizer.h"
#include "tessera/scbench/bench.h"
#include "tessera/scbench/task.h"

namespace tessera::scbench {

// Content is untrusted: control tokens written in it stay text. Markup comes from the model's chat template.
enum class PieceKind : uint8_t { content, markup };

struct PromptPiece {
  PieceKind kind;
  std::string text;
};

using Prompt = std::vector<PromptPiece>;

// A conversation as the model's chat template writes it, with the header of the next assistant turn. Empty function:
// the model has no template.
using ChatRenderer = std::function<std::string(std::span<const model::ChatMessage>)>;

class PromptBuilder {
 public:
  // Throws what the renderer throws; Error(unsupported) when its result does not hold the messages.
  explicit PromptBuilder(const ChatRenderer& render);

  bool chat() const { return chat_; }
  // Multi-turn, turn 0: head, context and the first question.
  Prompt first(const Example& example) const;
  // Multi-turn, turn i >= 1: what follows on the question of turn i - 1: its golden answer (left out when the history
  // is the generated one) and question i.
  Prompt follow_up(const Example& example, size_t turn, History history) const;
  // Multi-request: head and context, no question and nothing that closes the user turn.
  Prompt context(const Example& example) const;
  // Multi-request: question `turn` on the shared context.
  Prompt request(const Example& example, size_t turn) const;

  // Where the text of an answer ends, besides the model's end tokens.
  std::vector<std::string> stop_strings(Vocabulary vocabulary) const;
  // Tokens that the prompts of an example with `turns` turns have besides the example's own text.
  int64_t markup_tokens(const model::Tokenizer& tokenizer, int turns) const;

 private:
  bool chat_ = false;
  std::string open_;   // start of a sequence and of the first user turn
  std::string ask_;    // end of a user turn, assistant header
  std::string close_;  // end of an assistant turn, start of a user turn
};

// Whether the prompt starts a sequence: plain prompts then get the model's own first tokens (BOS); in chat prompts the
// template wrote them.
enum class Begin : uint8_t { sequence, continuation };

std::vector<int32_t> encode_prompt(const model::Tokenizer& tokenizer, const Prompt& prompt, Begin begin);

}  // namespace tessera::scbench
