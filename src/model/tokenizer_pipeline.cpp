#include "model/tokenizer_pipeline.h"

#include <charconv>

#include "model/text/byte_alphabet.h"
#include "model/text/normal_form.h"
#include "model/text/utf8.h"

namespace tessera::model {
namespace {

std::string bytes_of(const TokenEntry& entry, const Decoding& decoding) {
  switch (entry.kind) {
    case TokenKind::absent:
    case TokenKind::special:
      return {};
    case TokenKind::byte:
      return std::string(1, static_cast<char>(byte_of_spelling(entry.text)));
    case TokenKind::normal:
    case TokenKind::added:
      break;
  }
  if (decoding.byte_level) return text::bytes_of_spelling(entry.text).value_or(entry.text);
  return decoding.space_mark ? text::replace_all(entry.text, kSpaceMark, " ") : entry.text;
}

}  // namespace

int byte_of_spelling(std::string_view spelling) {
  if (spelling.size() != 6 || !spelling.starts_with("<0x") || spelling[5] != '>') return -1;
  int byte = -1;
  const char* const digits = spelling.data() + 3;
  const auto [end, error] = std::from_chars(digits, digits + 2, byte, 16);
  return error == std::errc{} && end == digits + 2 && byte >= 0 ? byte : -1;
}

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts)
    : decoding_(parts.decoding),
      normalizer_(std::move(parts.normalizer)),
      word_steps_(std::move(parts.word_steps)),
      splits_(std::move(parts.splits)),
      before_(std::move(parts.before)),
      after_(std::move(parts.after)),
      bos_(parts.bos),
      eos_(parts.eos) {
  for (TokenEntry& entry : parts.entries) {
    kinds_.push_back(entry.kind);
    bytes_.push_back(bytes_of(entry, decoding_));
    spellings_.push_back(std::move(entry.text));
  }
  std::vector<AddedToken> raw;
  std::vector<AddedToken> normalized;
  for (AddedToken& token : parts.added) {
    added_ids_.emplace(token.content, token.id);
    if (token.normalized) token.content = apply(normalizer_, token.content, {.at_start = true});
    (token.normalized ? normalized : raw).push_back(std::move(token));
  }
  added_ = AddedTokenFinder(std::move(raw));
  added_normalized_ = AddedTokenFinder(std::move(normalized));
  model_ = std::make_unique<BpeModel>(complete(std::move(parts.tables)));
}

BpeTables PipelineTokenizer::complete(BpeTables tables) const {
  tables.vocabulary = static_cast<int32_t>(kinds_.size());
  for (int32_t id = 0; id < tables.vocabulary; ++id) {
    const auto index = static_cast<size_t>(id);
    // A control token is never a word: untrusted text must not become one.
    if (kinds_[index] != TokenKind::normal && kinds_[index] != TokenKind::added) continue;
    if (decoding_.byte_level && !text::bytes_of_spelling(spellings_[index])) continue;
    tables.whole.emplace(decoding_.byte_level ? bytes_[index] : spellings_[index], id);
  }
  return tables;
}

std::vector<int32_t> PipelineTokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<int32_t> tokens;
  if (options.add_special) tokens = before_;
  for (const AddedTokenFinder::Part& part : added_.split(text, options.parse_special)) {
    if (part.id >= 0) {
      tokens.push_back(part.id);
    } else {
      encode_plain(part.text, {.at_start = part.text.data() == text.data()}, options.parse_special, tokens);
    }
  }
  if (options.add_special) tokens.insert(tokens.end(), after_.begin(), after_.end());
  return tokens;
}

void PipelineTokenizer::encode_plain(std::string_view text, Place place, bool parse_special,
                                     std::vector<int32_t>& tokens) const {
  while (!text.empty()) {
    const size_t valid = text::valid_prefix(text);
    if (valid > 0) encode_utf8(text.substr(0, valid), place, parse_special, tokens);
    text.remove_prefix(valid);
    if (text.empty()) return;
    model_->encode_byte(static_cast<uint8_t>(text[0]), tokens);
    text.remove_prefix(1);
    place = {.after_bad_byte = true};
  }
}

void PipelineTokenizer::encode_utf8(std::string_view text, Place place, bool parse_special,
                                    std::vector<int32_t>& tokens) const {
  std::string normalized;
  if (!normalizer_.empty()) {
    normalized = apply(normalizer_, text, place);
    text = normalized;
  }
  for (const AddedTokenFinder::Part& part : added_normalized_.split(text, parse_special)) {
    if (part.id >= 0) {
      tokens.push_back(part.id);
    } else {
      encode_words(part.text, part.text.data() == text.data() ? place : Place{}, tokens);
    }
  }
}

void PipelineTokenizer::encode_words(std::string_view text, Place place, std::vector<int32_t>& tokens) const {
  std::string changed;
  if (!word_steps_.empty()) {
    changed = apply(word_steps_, text, place);
    text = changed;
  }
  std::vector<std::string_view> pieces = {text};
  std::vector<std::string_view> finer;
  for (const text::Regex& split : splits_) {
    finer.clear();
    for (const std::string_view piece : pieces) split.split(piece, finer);
    pieces.swap(finer);
  }
  for (const std::string_view piece : pieces) model_->encode(piece, tokens);
}

std::string PipelineTokenizer::apply(const std::vector<TextStep>& steps, std::string_view text, Place place) {
  std::string result(text);
  for (const TextStep& step : steps) {
    const bool may_prepend = !result.empty() && !place.after_bad_byte;
    const bool missing = !result.starts_with(step.content);
    switch (step.kind) {
      case TextStep::Kind::normal_form_c:
        result = text::to_nfc(result);
        break;
      case TextStep::Kind::replace:
        result = text::replace_all(result, step.pattern, step.content);
        break;
      case TextStep::Kind::prepend:
        if (may_prepend) result.insert(0, step.content);
        break;
      case TextStep::Kind::prepend_if_missing:
        if (may_prepend && missing) result.insert(0, step.content);
        break;
      case TextStep::Kind::prepend_if_missing_at_start:
        if (may_prepend && missing && place.at_start) result.insert(0, step.content);
        break;
    }
  }
  return result;
}

std::string PipelineTokenizer::token_bytes(int32_t token) const {
  return token >= 0 && token < vocabulary() ? bytes_[static_cast<size_t>(token)] : std::string();
}

std::string PipelineTokenizer::decode(std::span<const int32_t> tokens) const {
  std::string result;
  std::string run;  // of byte tokens; valid as a whole, or every byte is one U+FFFD (as the reference library does)
  const auto end_run = [&] {
    if (text::valid_prefix(run) == run.size()) {
      result += run;
    } else {
      for (size_t i = 0; i < run.size(); ++i) result += text::kReplacement;
    }
    run.clear();
  };
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocabulary()) continue;
    const auto index = static_cast<size_t>(token);
    if (kinds_[index] == TokenKind::special || kinds_[index] == TokenKind::absent) continue;
    if (kinds_[index] == TokenKind::byte) {
      run += bytes_[index];
      continue;
    }
    end_run();
    result += bytes_[index];
  }
  end_run();
  if (decoding_.strips_first_space && result.starts_with(' ')) result.erase(0, 1);
  return text::replace_invalid(result);
}

int32_t PipelineTokenizer::find(std::string_view text) const {
  const auto added = added_ids_.find(std::string(text));
  if (added != added_ids_.end()) return added->second;
  return model_->find(decoding_.space_mark ? text::replace_all(text, " ", kSpaceMark) : std::string(text));
}

}  // namespace tessera::model
