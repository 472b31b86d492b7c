// The commands of the program. Each adds its subcommand with its options to the application and runs in its callback.
#pragma once

#include <CLI/CLI.hpp>

namespace tessera::cli {

void add_bench(CLI::App& app);
void add_experts(CLI::App& app);
void add_explain(CLI::App& app);
void add_generate(CLI::App& app);
void add_models(CLI::App& app);
void add_perplexity(CLI::App& app);

}  // namespace tessera::cli
