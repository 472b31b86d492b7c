#include <algorithm>

#include "model/text/utf8.h"
#include "tessera/model/tokenizer.h"

namespace tessera::model {
namespace {

// Length of the longest end of `text` that is a beginning of `stop`, but not all of it.
size_t overlap(std::string_view text, std::string_view stop) {
  size_t length = std::min(text.size(), stop.size() - 1);
  while (length > 0 && !stop.starts_with(text.substr(text.size() - length))) --length;
  return length;
}

}  // namespace

Detokenizer::Detokenizer(const Tokenizer& tokenizer, std::vector<std::string> stop_strings)
    : tokenizer_(tokenizer), stop_strings_(std::move(stop_strings)) {
  std::erase(stop_strings_, std::string());
}

std::string Detokenizer::push(int32_t token) {
  if (stopped_) return {};
  std::string bytes = tokenizer_.token_bytes(token);
  if (bytes.empty()) return {};
  if (first_ && tokenizer_.strips_first_space() && bytes[0] == ' ') bytes.erase(0, 1);
  first_ = false;
  pending_ += bytes;
  return release(false);
}

std::string Detokenizer::finish() { return stopped_ ? std::string() : release(true); }

std::string Detokenizer::release(bool final) {
  size_t end = pending_.size();
  for (const std::string& stop : stop_strings_) end = std::min(end, pending_.find(stop));
  stopped_ = end < pending_.size();
  size_t held = 0;
  if (!final && !stopped_) {
    held = text::unfinished_tail(pending_);
    for (const std::string& stop : stop_strings_) held = std::max(held, overlap(pending_, stop));
  }
  std::string shown = text::replace_invalid(std::string_view(pending_).substr(0, end - held));
  pending_.erase(0, stopped_ ? pending_.size() : end - held);
  return shown;
}

}  // namespace tessera::model
