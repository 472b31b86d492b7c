// Names that come out of untrusted files, made fit for an error message.
#pragma once

#include <string>
#include <string_view>

namespace tessera::model {

// The name in single quotes, control and non-ASCII bytes as \xNN, cut after 80 bytes.
std::string quote(std::string_view name);

bool is_utf8(std::string_view text);

}  // namespace tessera::model
