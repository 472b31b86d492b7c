#include "scbench/session_conversation.h"

namespace tessera::scbench {

FedPrompt SessionConversation::feed(std::span<const int32_t> prompt) {
  const engine::PrefillStats stats = session_.prefill(prompt);
  return {stats.tokens, stats.wall_ms, stats.density, stats.skipped_mass};
}

Answer SessionConversation::answer(const AnswerLimits& limits) {
  engine::Generation generation = session_.generate(
      std::span<const int32_t>(),
      {.max_new_tokens = limits.max_new_tokens, .sampling = {}, .stop_strings = limits.stop_strings, .on_text = {}});
  return {std::move(generation.text), std::move(generation.tokens), generation.ttft_ms, generation.decode_ms};
}

std::unique_ptr<Conversation> SessionConversation::fork() const {
  return std::make_unique<SessionConversation>(session_.fork());
}

}  // namespace tessera::scbench
