// Token counters and tokens without a model. A token is one leading space with what follows up to the next space or
// line end, as the bundled tokenizer splits the `words` grammar; a long piece counts one token per four bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::scbench {

inline std::vector<std::string> split_pieces(std::string_view text) {
  std::vector<std::string> pieces;
  for (const char c : text) {
    const bool line = c == '\n' || (!pieces.empty() && pieces.back() == "\n");
    if (pieces.empty() || c == ' ' || line || pieces.back() == "?") pieces.emplace_back();
    pieces.back() += c;
  }
  return pieces;
}

inline int64_t count_pieces(std::string_view text) {
  int64_t tokens = 0;
  for (const std::string& piece : split_pieces(text)) {
    tokens += piece.size() <= 8 ? 1 : (static_cast<int64_t>(piece.size()) + 3) / 4;
  }
  return tokens;
}

}  // namespace tessera::scbench
