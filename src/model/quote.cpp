#include "model/quote.h"

#include <fmt/format.h>
#include <utf8proc.h>

namespace tessera::model {

std::string quote(std::string_view name) {
  constexpr size_t kLongest = 80;
  std::string text = "'";
  for (const char character : name.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= 0x20 && byte < 0x7F) {
      text += character;
    } else {
      text += fmt::format("\\x{:02x}", byte);
    }
  }
  return text + (name.size() > kLongest ? "...'" : "'");
}

bool is_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  auto left = static_cast<utf8proc_ssize_t>(text.size());
  while (left > 0) {
    utf8proc_int32_t code_point = 0;
    const utf8proc_ssize_t length = utf8proc_iterate(bytes, left, &code_point);
    if (length <= 0) return false;
    bytes += length;
    left -= length;
  }
  return true;
}

}  // namespace tessera::model
