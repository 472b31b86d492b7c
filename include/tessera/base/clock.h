// Wall and CPU time, reported side by side because test machines are shared.
#pragma once

namespace tessera {

struct Elapsed {
  double wall_ms = 0;
  double cpu_ms = 0;  // of the whole process, all threads
};

// Starts on construction.
class Stopwatch {
 public:
  Stopwatch();
  Elapsed elapsed() const;

 private:
  double wall_start_ms_;
  double cpu_start_ms_;
};

}  // namespace tessera
