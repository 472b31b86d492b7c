// The two shared-context modes of SCBench (arXiv 2412.10319), on any Conversation.
#pragma once

#include <functional>
#include <string>

#include "scbench/conversation.h"
#include "scbench/prompt.h"

namespace tessera::scbench {

struct TurnRecord {
  size_t turn = 0;
  std::string prediction;
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;
  int64_t generated_tokens = 0;
  double prefill_ms = 0;
  double decode_ms = 0;
  double ttft_ms = 0;
  int64_t kv_bytes = 0;
  double density = 1;
  std::optional<double> skipped_mass = 0;
};

struct ModeRun {
  const Example& example;
  const PromptBuilder& prompts;
  const model::Tokenizer& tokenizer;
  History history = History::golden;  // multi-turn only
  AnswerLimits limits;
  // False for a turn scored earlier: it is fed, but answered only where its answer is part of the history.
  std::function<bool(size_t turn)> wanted;
  // Called after each wanted turn, with whatever belonged to its answer alone already dropped. What it throws passes
  // through.
  std::function<void(const TurnRecord&)> on_turn;
};

// Before turn i is decoded the cache holds C Q1 H1 Q2 H2 ... Qi (H: golden or generated answers). C and Q1 are one
// prompt. With the golden history an answer is decoded on a fork that is dropped.
void run_multi_turn(Conversation& conversation, const ModeRun& run);

// The cache holds C, fed once before any question; each question is fed and answered on a fork that is dropped.
void run_multi_request(Conversation& conversation, const ModeRun& run);

void run_mode(Mode mode, Conversation& conversation, const ModeRun& run);

}  // namespace tessera::scbench
