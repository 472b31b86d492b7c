// Lengths of attempts of a random search that starts again and again.
#pragma once

#include <cstdint>

namespace tessera::experts {

// Term i >= 1 of 1, 1, 2, 1, 1, 2, 4, ...: restarts that are never far from the best fixed length (Luby, Sinclair,
// Zuckerman, 1993).
inline int64_t restart_length(int64_t i) {
  int64_t length = 1;
  while (length < i + 1) length *= 2;
  return length == i + 1 ? length / 2 : restart_length(i - length / 2 + 1);
}

}  // namespace tessera::experts
