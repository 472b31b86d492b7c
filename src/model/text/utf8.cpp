#include "model/text/utf8.h"

#include <algorithm>
#include <cstring>

namespace tessera::model::text {
namespace {

// What Unicode table 3-7 says about a lead byte: how many bytes follow, and the range of the first of them.
struct Lead {
  uint32_t following = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
};

bool lead_of(uint8_t byte, Lead& lead) {
  if (byte >= 0xC2 && byte <= 0xDF)
    lead = {1, 0x80, 0xBF};
  else if (byte == 0xE0)
    lead = {2, 0xA0, 0xBF};
  else if (byte == 0xED)
    lead = {2, 0x80, 0x9F};
  else if (byte >= 0xE1 && byte <= 0xEF)
    lead = {2, 0x80, 0xBF};
  else if (byte == 0xF0)
    lead = {3, 0x90, 0xBF};
  else if (byte == 0xF4)
    lead = {3, 0x80, 0x8F};
  else if (byte >= 0xF1 && byte <= 0xF3)
    lead = {3, 0x80, 0xBF};
  else
    return false;
  return true;
}

size_t ascii_prefix(std::string_view text) {
  size_t at = 0;
  for (uint64_t word = 0; at + sizeof(word) <= text.size(); at += sizeof(word)) {
    std::memcpy(&word, text.data() + at, sizeof(word));
    if ((word & 0x8080808080808080U) != 0) break;
  }
  while (at < text.size() && static_cast<uint8_t>(text[at]) < 0x80) ++at;
  return at;
}

}  // namespace

CodePoint first_code_point(std::string_view text) {
  const auto first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return {first, 1, true, false};
  Lead lead;
  if (!lead_of(first, lead)) return {0, 1, false, false};
  CodePoint result{first & (0x3FU >> lead.following), 1, false, false};
  for (; result.length <= lead.following; ++result.length) {
    if (result.length == text.size()) {
      result.cut = true;
      return result;
    }
    const auto byte = static_cast<uint8_t>(text[result.length]);
    if (byte < lead.low || byte > lead.high) return result;
    result.value = result.value << 6 | (byte & 0x3FU);
    lead.low = 0x80;
    lead.high = 0xBF;
  }
  result.valid = true;
  return result;
}

void append_utf8(std::string& text, uint32_t code_point) {
  const auto put = [&](uint32_t byte) { text += static_cast<char>(byte); };
  if (code_point < 0x80) return put(code_point);
  if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      put(0xE0 | code_point >> 12);
    } else {
      put(0xF0 | code_point >> 18);
      put(0x80 | (code_point >> 12 & 0x3F));
    }
    put(0x80 | (code_point >> 6 & 0x3F));
  }
  put(0x80 | (code_point & 0x3F));
}

size_t valid_prefix(std::string_view text) {
  size_t at = 0;
  while (true) {
    at += ascii_prefix(text.substr(at));
    if (at == text.size()) return at;
    const CodePoint next = first_code_point(text.substr(at));
    if (!next.valid) return at;
    at += next.length;
  }
}

std::string replace_invalid(std::string_view text) {
  std::string result;
  while (true) {
    const size_t valid = valid_prefix(text);
    result += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) return result;
    result += kReplacement;
    text.remove_prefix(first_code_point(text).length);
  }
}

size_t unfinished_tail(std::string_view text) {
  for (size_t length = 1; length <= std::min<size_t>(3, text.size()); ++length) {
    const std::string_view tail = text.substr(text.size() - length);
    if ((static_cast<uint8_t>(tail[0]) & 0xC0) == 0x80) continue;
    const CodePoint last = first_code_point(tail);
    return last.cut ? length : 0;
  }
  return 0;
}

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0;;) {
    const size_t found = text.find(pattern, at);
    result += text.substr(at, found == std::string_view::npos ? found : found - at);
    if (found == std::string_view::npos) return result;
    result += content;
    at = found + pattern.size();
  }
}

bool is_white_space(uint32_t code_point) {
  if (code_point < 0x80) return code_point == ' ' || (code_point >= 0x09 && code_point <= 0x0D);
  return code_point == 0x85 || code_point == 0xA0 || code_point == 0x1680 ||
         (code_point >= 0x2000 && code_point <= 0x200A) || code_point == 0x2028 || code_point == 0x2029 ||
         code_point == 0x202F || code_point == 0x205F || code_point == 0x3000;
}

}  // namespace tessera::model::text
