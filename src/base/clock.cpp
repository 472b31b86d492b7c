#include "tessera/base/clock.h"

#include <ctime>

namespace tessera {
namespace {

double read_ms(clockid_t clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

}  // namespace

Stopwatch::Stopwatch() : wall_start_ms_(read_ms(CLOCK_MONOTONIC)), cpu_start_ms_(read_ms(CLOCK_PROCESS_CPUTIME_ID)) {}

Elapsed Stopwatch::elapsed() const {
  return {read_ms(CLOCK_MONOTONIC) - wall_start_ms_, read_ms(CLOCK_PROCESS_CPUTIME_ID) - cpu_start_ms_};
}

}  // namespace tessera
