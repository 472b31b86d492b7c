#include "scbench/fake_model.h"

#include <algorithm>

#include "scbench/fake_tokens.h"

namespace tessera::scbench {

int32_t FakeTokenizer::number(const std::string& piece) const {
  const auto found = std::find(pieces_.begin(), pieces_.end(), piece);
  if (found != pieces_.end()) return static_cast<int32_t>(found - pieces_.begin());
  pieces_.push_back(piece);
  return static_cast<int32_t>(pieces_.size()) - 1;
}

std::vector<int32_t> FakeTokenizer::encode(std::string_view text, const model::EncodeOptions& options) const {
  std::vector<int32_t> tokens;
  if (options.add_special) tokens.push_back(kBegin);
  const auto plain = [&](std::string_view part) {
    for (const std::string& piece : split_pieces(part)) {
      const size_t control = piece.find("<|");  // only written like a control token
      const size_t cut = control == std::string::npos ? piece.size() : control + 1;
      tokens.push_back(number(piece.substr(0, cut)));
      if (cut < piece.size()) tokens.push_back(number(piece.substr(cut)));
    }
  };
  while (options.parse_special && text.find("<|") != std::string_view::npos) {
    const size_t begin = text.find("<|");
    const size_t end = text.find("|>", begin) + 2;
    plain(text.substr(0, begin));
    tokens.push_back(number(std::string(text.substr(begin, end - begin))));
    text.remove_prefix(end);
  }
  plain(text);
  return tokens;
}

std::string FakeTokenizer::token_bytes(int32_t token) const { return pieces_.at(static_cast<size_t>(token)); }

std::string FakeTokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text;
  for (const int32_t token : tokens) text += token_bytes(token);
  return text;
}

int32_t FakeTokenizer::find(std::string_view text) const {
  const auto found = std::find(pieces_.begin(), pieces_.end(), text);
  return found == pieces_.end() ? -1 : static_cast<int32_t>(found - pieces_.begin());
}

std::string answer_key_value(const std::string& history) {
  const std::string question = history.substr(history.rfind("\n?") + 2);
  const size_t at = history.find("\n" + question);
  if (at == std::string::npos) return "\n";
  const size_t begin = at + 1 + question.size();
  return history.substr(begin, history.find('\n', begin) + 1 - begin);
}

FedPrompt FakeConversation::feed(std::span<const int32_t> prompt) {
  const size_t before = tokens_.size();
  tokens_.insert(tokens_.end(), pending_.begin(), pending_.end());
  tokens_.insert(tokens_.end(), prompt.begin(), prompt.end());
  pending_.clear();
  fed_->push_back(tokenizer_.decode(prompt));
  return {static_cast<int64_t>(tokens_.size() - before), static_cast<double>(prompt.size()), before == 0 ? 0.25 : 1.0};
}

Answer FakeConversation::answer(const AnswerLimits& limits) {
  const std::string whole = oracle_(text());
  Answer answer;
  answer.tokens = tokenizer_.encode(whole, {.add_special = false, .parse_special = false});
  answer.text = whole;
  for (const std::string& stop : limits.stop_strings) answer.text = answer.text.substr(0, answer.text.find(stop));
  answer.ttft_ms = 1;
  answer.decode_ms = 2.0 * static_cast<double>(answer.tokens.size());
  tokens_.insert(tokens_.end(), answer.tokens.begin(), answer.tokens.end() - 1);
  pending_ = {answer.tokens.back()};
  return answer;
}

std::unique_ptr<Conversation> FakeConversation::fork() const {
  auto copy = std::make_unique<FakeConversation>(tokenizer_, oracle_);
  copy->tokens_ = tokens_;
  copy->pending_ = pending_;
  copy->fed_ = fed_;
  return copy;
}

std::string render_chat(std::span<const model::ChatMessage> messages) {
  std::string text = "<|im_start|>system\nBe brief.<|im_end|>\n";
  for (const model::ChatMessage& message : messages) {
    text += "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n";
  }
  return text + "<|im_start|>assistant\n";
}

}  // namespace tessera::scbench
