// Progress of long work on standard error: a bar with the time left on a terminal, otherwise one plain line per tenth.
//
//   Progress progress("bench", 240);
//   for (...) { ...; progress.advance("kv, dense"); }
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tessera/base/clock.h"

namespace tessera {

class Progress {
 public:
  // total >= 0 units of work; `done` of them were finished earlier (a resumed run).
  Progress(std::string name, int64_t total, int64_t done = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // One unit done; `what` names the one that just ended.
  void advance(std::string_view what);

 private:
  void draw(std::string_view what);

  std::string name_;
  int64_t total_;
  int64_t done_;
  int64_t first_;
  bool terminal_;
  Stopwatch watch_;
};

}  // namespace tessera
