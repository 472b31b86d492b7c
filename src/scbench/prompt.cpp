#include "scbench/prompt.h"

#include <array>

#include "tessera/base/error.h"

namespace tessera::scbench {
namespace {

constexpr std::string_view kWhite = " \t\r\n";

std::string trim_front(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kWhite), text.size()));
  return std::string(text);
}

std::string trim(std::string_view text) {
  std::string result = trim_front(text);
  result.erase(result.find_last_not_of(kWhite) + 1);
  return result;
}

std::string trim_back(std::string_view text) { return std::string(text.substr(0, text.find_last_not_of(kWhite) + 1)); }

PromptPiece content(std::string text) { return {PieceKind::content, std::move(text)}; }
PromptPiece markup(std::string text) { return {PieceKind::markup, std::move(text)}; }

bool has_markup(const Prompt& prompt) {
  return std::any_of(prompt.begin(), prompt.end(), [](const auto& piece) { return piece.kind == PieceKind::markup; });
}

}  // namespace

PromptBuilder::PromptBuilder(const ChatRenderer& render) : chat_(static_cast<bool>(render)) {
  if (!chat_) return;
  // The template is read off a conversation whose messages are easy to find again.
  const std::array<model::ChatMessage, 3> messages = {
      {{"user", "<first question>"}, {"assistant", "<golden answer>"}, {"user", "<second question>"}}};
  const std::string text = render(messages);
  std::array<size_t, 3> at{};
  size_t from = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    at[i] = text.find(messages[i].content, from);
    if (at[i] == std::string::npos) {
      throw Error(ErrorCode::unsupported, "chat template: the rendered conversation lacks message {} of {}; found: {}",
                  i + 1, messages.size(), text);
    }
    from = at[i] + messages[i].content.size();
  }
  open_ = text.substr(0, at[0]);
  close_ = text.substr(at[1] + messages[1].content.size(), at[2] - at[1] - messages[1].content.size());
  ask_ = text.substr(from);
}

Prompt PromptBuilder::first(const Example& example) const {
  const std::string text = example.head + example.context + example.turns.at(0).input;
  if (!chat_) return {content(text)};
  return {markup(open_), content(trim(text)), markup(ask_)};
}

Prompt PromptBuilder::follow_up(const Example& example, size_t turn, History history) const {
  const std::string golden = history == History::golden ? example.turns.at(turn - 1).answer : "";
  const std::string& input = example.turns.at(turn).input;
  if (!chat_) return {content(golden + input)};
  return {content(trim(golden)), markup(close_), content(trim(input)), markup(ask_)};
}

Prompt PromptBuilder::context(const Example& example) const {
  if (!chat_) return {content(example.head + example.context)};
  return {markup(open_), content(trim_front(example.head + example.context))};
}

Prompt PromptBuilder::request(const Example& example, size_t turn) const {
  const std::string& input = example.turns.at(turn).input;
  if (!chat_) return {content(input)};
  return {content(trim_back(input)), markup(ask_)};
}

std::vector<std::string> PromptBuilder::stop_strings(Vocabulary vocabulary) const {
  if (chat_) return {};
  return {vocabulary == Vocabulary::words ? "\n" : "\n\n"};
}

int64_t PromptBuilder::markup_tokens(const model::Tokenizer& tokenizer, int turns) const {
  if (!chat_) return static_cast<int64_t>(tokenizer.encode("", {.add_special = true, .parse_special = false}).size());
  const auto count = [&](const std::string& text) {
    return static_cast<int64_t>(tokenizer.encode(text, {.add_special = false, .parse_special = true}).size());
  };
  return count(open_) + turns * count(ask_) + (turns - 1) * count(close_);
}

std::vector<int32_t> encode_prompt(const model::Tokenizer& tokenizer, const Prompt& prompt, Begin begin) {
  const bool special = begin == Begin::sequence && !has_markup(prompt);
  std::vector<int32_t> tokens;
  for (const PromptPiece& piece : prompt) {
    if (piece.text.empty()) continue;
    const bool parse = piece.kind == PieceKind::markup;
    const std::vector<int32_t> part =
        tokenizer.encode(piece.text, {.add_special = special && tokens.empty(), .parse_special = parse});
    tokens.insert(tokens.end(), part.begin(), part.end());
  }
  return tokens;
}

}  // namespace tessera::scbench
