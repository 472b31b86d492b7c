#include "model/text/normal_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "model/text/utf8.h"
#include "tessera/base/error.h"

namespace tessera::model::text {
namespace {

using Character = utf8proc_int32_t;

int combining_class(Character character) { return utf8proc_get_property(character)->combining_class; }

// Canonical decomposition, marks not yet in order.
std::vector<Character> decompose(std::string_view text) {
  std::vector<Character> characters;
  characters.reserve(text.size());
  std::array<Character, 32> expansion{};
  while (!text.empty()) {
    const CodePoint next = first_code_point(text);
    int boundary = 0;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(static_cast<Character>(next.value), expansion.data(), expansion.size(),
                                static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE), &boundary);
    TESSERA_ASSERT(count >= 0 && count <= static_cast<utf8proc_ssize_t>(expansion.size()));
    characters.insert(characters.end(), expansion.begin(), expansion.begin() + count);
    text.remove_prefix(next.length);
  }
  return characters;
}

// Canonical ordering. utf8proc's own is quadratic in the length of a run of marks.
void order_marks(std::vector<Character>& characters) {
  const auto is_mark = [](Character character) { return combining_class(character) != 0; };
  for (auto run = characters.begin(); run != characters.end();) {
    run = std::find_if(run, characters.end(), is_mark);
    const auto end = std::find_if_not(run, characters.end(), is_mark);
    std::stable_sort(run, end, [](Character a, Character b) { return combining_class(a) < combining_class(b); });
    run = end;
  }
}

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char byte) { return (static_cast<uint8_t>(byte) & 0x80) != 0; });
}

}  // namespace

std::string to_nfc(std::string_view text) {
  if (is_ascii(text)) return std::string(text);
  std::vector<Character> characters = decompose(text);
  order_marks(characters);
  const utf8proc_ssize_t count =
      utf8proc_normalize_utf32(characters.data(), static_cast<utf8proc_ssize_t>(characters.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  TESSERA_ASSERT(count >= 0);
  std::string result;
  result.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < count; ++i)
    append_utf8(result, static_cast<uint32_t>(characters[static_cast<size_t>(i)]));
  return result;
}

}  // namespace tessera::model::text
