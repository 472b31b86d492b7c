// UTF-8 taken apart and put together. All functions accept any bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tessera::model::text {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// The first character of a text. When the bytes there are not UTF-8, `valid` is false and `length` counts the maximal
// subpart (Unicode, section 3.9): the bytes that one U+FFFD stands for.
struct CodePoint {
  uint32_t value = 0;
  uint32_t length = 0;  // bytes, at least 1
  bool valid = false;
  bool cut = false;  // not valid only because the text ends: more bytes may complete it
};
CodePoint first_code_point(std::string_view text);  // `text` must not be empty

void append_utf8(std::string& text, uint32_t code_point);

// Length in bytes of the longest prefix that is UTF-8.
size_t valid_prefix(std::string_view text);

// Every maximal subpart that is not UTF-8 becomes U+FFFD.
std::string replace_invalid(std::string_view text);

// Length in bytes (0 to 3) of an unfinished character at the end.
size_t unfinished_tail(std::string_view text);

// Every `pattern`, which is not empty, becomes `content`; O(n).
std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content);

// Unicode property White_Space.
bool is_white_space(uint32_t code_point);

}  // namespace tessera::model::text
