#include "model/tokenizer_added.h"

#include <algorithm>

#include "model/text/utf8.h"
#include "tessera/base/error.h"

namespace tessera::model {
namespace {

// Length of the white space at the end of `text`.
size_t trailing_white_space(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t start = end - 1;
    while (start > 0 && end - start < 4 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    const text::CodePoint last = text::first_code_point(text.substr(start, end - start));
    if (!last.valid || last.length != end - start || !text::is_white_space(last.value)) break;
    end = start;
  }
  return text.size() - end;
}

size_t leading_white_space(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const text::CodePoint next = text::first_code_point(text.substr(at));
    if (!next.valid || !text::is_white_space(next.value)) break;
    at += next.length;
  }
  return at;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), roots_(256, -1) {
  for (size_t index = 0; index < tokens_.size(); ++index) {
    const std::string& content = tokens_[index].content;
    if (content.empty() || content.size() > kLongest) {
      throw Error(ErrorCode::bad_file, "added token {}: expected a text of 1 to {} bytes, found {}", tokens_[index].id,
                  kLongest, content.size());
    }
    int32_t node = -1;
    for (const char byte : content) {
      int32_t& first = node < 0 ? roots_[static_cast<uint8_t>(byte)] : nodes_[static_cast<size_t>(node)].child;
      int32_t next = node < 0 ? first : child_of(node, byte);
      if (next < 0) {
        next = static_cast<int32_t>(nodes_.size());
        const int32_t sibling = node < 0 ? -1 : first;
        first = next;
        nodes_.push_back({.sibling = sibling, .byte = byte});
      }
      node = next;
    }
    int32_t& token = nodes_[static_cast<size_t>(node)].token;
    if (token < 0) token = static_cast<int32_t>(index);
  }
}

int32_t AddedTokenFinder::child_of(int32_t node, char byte) const {
  int32_t child = nodes_[static_cast<size_t>(node)].child;
  while (child >= 0 && nodes_[static_cast<size_t>(child)].byte != byte)
    child = nodes_[static_cast<size_t>(child)].sibling;
  return child;
}

int32_t AddedTokenFinder::longest_at(std::string_view text) const {
  int32_t node = roots_[static_cast<uint8_t>(text[0])];
  int32_t longest = -1;
  for (size_t at = 1; node >= 0; ++at) {
    if (nodes_[static_cast<size_t>(node)].token >= 0) longest = nodes_[static_cast<size_t>(node)].token;
    node = at < text.size() ? child_of(node, text[at]) : -1;
  }
  return longest;
}

std::vector<AddedTokenFinder::Part> AddedTokenFinder::split(std::string_view text, bool parse_special) const {
  std::vector<Part> parts;
  size_t done = 0;  // text before this byte is in `parts`
  for (size_t at = 0; at < text.size();) {
    const int32_t found = nodes_.empty() ? -1 : longest_at(text.substr(at));
    if (found < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(found)];
    const size_t end = at + token.content.size();
    if (token.special && !parse_special) {  // stays text as a whole, as in the reference implementation
      at = end;
      continue;
    }
    size_t text_end = at;
    if (token.strip_left) text_end -= trailing_white_space(text.substr(done, at - done));
    if (text_end > done) parts.push_back({text.substr(done, text_end - done)});
    parts.push_back({text.substr(at, token.content.size()), token.id});
    at = end;
    if (token.strip_right) at += leading_white_space(text.substr(end));
    done = at;
  }
  if (done < text.size()) parts.push_back({text.substr(done)});
  return parts;
}

}  // namespace tessera::model
