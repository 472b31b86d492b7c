// Text for pages.
//
//   page += "<td>" + escape_html(name) + "</td>";
#pragma once

#include <string>
#include <string_view>

namespace tessera {

// & < > " ' as entities; bytes that are not UTF-8 and control characters as U+FFFD.
std::string escape_html(std::string_view text);

}  // namespace tessera
