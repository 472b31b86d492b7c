// The log: one spdlog logger that writes to standard error, so that standard output carries results only.
//
//   log().info("loaded {} tensors", count);
//
// Level: environment variable TESSERA_LOG (trace, debug, info, warn, error, off); default warn.
#pragma once

#include <spdlog/spdlog.h>

namespace tessera {

spdlog::logger& log();

}  // namespace tessera
