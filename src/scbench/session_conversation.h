// The engine's Session as a Conversation.
#pragma once

#include <memory>

#include "scbench/conversation.h"
#include "tessera/engine/session.h"

namespace tessera::scbench {

class SessionConversation final : public Conversation {
 public:
  explicit SessionConversation(engine::Session session) : session_(std::move(session)) {}

  FedPrompt feed(std::span<const int32_t> prompt) override;
  Answer answer(const AnswerLimits& limits) override;
  std::unique_ptr<Conversation> fork() const override;
  int64_t length() const override { return static_cast<int64_t>(session_.tokens().size()); }
  int64_t kv_bytes() const override { return session_.kv_bytes(); }

  const engine::Session& session() const { return session_; }

 private:
  engine::Session session_;
};

}  // namespace tessera::scbench
