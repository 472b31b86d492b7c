// The program `tessera`: parses, calls, prints. Exit status: 0 done, 1 a run-time failure, 2 wrong usage or bad input.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/command.h"
#include "tessera/base/build_info.h"
#include "tessera/base/error.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/thread_pool.h"

namespace tessera::cli {
namespace {

constexpr int kRuntimeFailure = 1;
constexpr int kBadInput = 2;

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::interrupted:
    case ErrorCode::internal:
      return kRuntimeFailure;
    default:
      return kBadInput;
  }
}

int run(int argc, char** argv) {
  CLI::App app{"tessera: long-context language models computed from well-chosen parts, and what the choice costs"};
  app.set_version_flag("--version", "tessera " + version() + " (" + commit() + ")");
  app.require_subcommand(1);
  app.fallthrough();  // --threads may stand behind the command too
  app.option_defaults()->always_capture_default();
  int threads = 0;
  app.add_option("--threads", threads, "threads to compute with; 0: the CPUs this process may use")
      ->check(CLI::NonNegativeNumber);
  app.parse_complete_callback([&] {
    if (threads > 0) ThreadPool::set_default_threads(threads);
  });
  add_bench(app);
  add_experts(app);
  add_explain(app);
  add_generate(app);
  add_perplexity(app);
  add_models(app);
  const auto is_named = [&](const CLI::App* command) { return argc > 1 && command->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands(is_named).empty()) {
    std::fprintf(stderr, "tessera: unknown command '%s'; see 'tessera --help'\n", argv[1]);
    return kBadInput;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "tessera: %s; see 'tessera --help'\n", error.what());
    return kBadInput;
  }
  return 0;
}

}  // namespace
}  // namespace tessera::cli

int main(int argc, char** argv) {
  try {
    tessera::catch_interrupts();
    return tessera::cli::run(argc, argv);
  } catch (const tessera::Error& error) {
    std::fprintf(stderr, "tessera: %s\n", error.what());
    return tessera::cli::status_of(error.code());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "tessera: out of memory; try a shorter prompt or a smaller model\n");
    return tessera::cli::kRuntimeFailure;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tessera: unexpected failure: %s\n", error.what());
    return tessera::cli::kRuntimeFailure;
  }
}
