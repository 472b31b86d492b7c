// The subcommands of `tessera experts`. Each lives in a file of its own: one function here, one line in
// command_experts.cpp.
#pragma once

#include <CLI/CLI.hpp>

namespace tessera::cli {

void add_experts_bound(CLI::App& experts);
void add_experts_combine(CLI::App& experts);
void add_experts_design(CLI::App& experts);
void add_experts_fit(CLI::App& experts);
void add_experts_predict(CLI::App& experts);
void add_experts_report(CLI::App& experts);
void add_experts_select(CLI::App& experts);
void add_experts_simulate(CLI::App& experts);
void add_experts_verify(CLI::App& experts);

}  // namespace tessera::cli
