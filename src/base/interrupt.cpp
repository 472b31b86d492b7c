#include "tessera/base/interrupt.h"

#include <csignal>

#include "tessera/base/error.h"

namespace tessera {
namespace {

volatile std::sig_atomic_t requested = 0;

void handle(int signal) {
  if (requested != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  requested = 1;
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, handle);
  std::signal(SIGTERM, handle);
}

bool interrupted() { return requested != 0; }

void throw_if_interrupted() {
  if (interrupted()) throw Error(ErrorCode::interrupted, "stopped on request; what was finished is kept");
}

}  // namespace tessera
