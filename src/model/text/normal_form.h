// Unicode normal form C.
#pragma once

#include <string>
#include <string_view>

namespace tessera::model::text {

// `text` must be UTF-8. O(n log n) at worst: a run of n combining marks is sorted, not bubbled.
std::string to_nfc(std::string_view text);

}  // namespace tessera::model::text
