// The subcommands of `tessera experts`. Each lives in a file of its own: one function here, one line in
// command_experts.cpp.
#pragma once

#include <CLI/CLI.hpp>

namespace tessera::cli {

void add_experts_design(CLI::App& experts);

}  // namespace tessera::cli
