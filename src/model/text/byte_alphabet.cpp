#include "model/text/byte_alphabet.h"

#include "model/text/utf8.h"

namespace tessera::model::text {
namespace {

constexpr uint32_t kCharacters = 256 + 68;

struct Tables {
  std::array<uint16_t, 256> of_byte{};
  std::array<int16_t, kCharacters> byte_of{};  // -1: not of the alphabet

  Tables() {
    byte_of.fill(-1);
    uint16_t next = 256;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
      of_byte[byte] = printable ? static_cast<uint16_t>(byte) : next++;
      byte_of[of_byte[byte]] = static_cast<int16_t>(byte);
    }
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

}  // namespace

const std::array<uint16_t, 256>& byte_alphabet() { return tables().of_byte; }

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  std::string bytes;
  bytes.reserve(spelling.size());
  while (!spelling.empty()) {
    const CodePoint character = first_code_point(spelling);
    if (!character.valid || character.value >= kCharacters) return std::nullopt;
    const int16_t byte = tables().byte_of[character.value];
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
    spelling.remove_prefix(character.length);
  }
  return bytes;
}

std::string spelling_of_bytes(std::string_view bytes) {
  std::string spelling;
  for (const char byte : bytes) append_utf8(spelling, byte_alphabet()[static_cast<uint8_t>(byte)]);
  return spelling;
}

}  // namespace tessera::model::text
