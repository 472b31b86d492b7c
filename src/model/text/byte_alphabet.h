// The alphabet in which byte-level vocabularies are written: every byte has a printable character of its own (GPT-2's
// table). Printable Latin-1 bytes stand for themselves, the other 68 are U+0100 onwards, in byte order.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tessera::model::text {

// Code point that stands for each byte.
const std::array<uint16_t, 256>& byte_alphabet();

// The bytes a token's spelling stands for; nothing when a character of it is not of the alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

// The spelling of bytes.
std::string spelling_of_bytes(std::string_view bytes);

}  // namespace tessera::model::text
