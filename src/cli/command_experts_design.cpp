#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "cli/command_experts.h"
#include "cli/experts_certificate.h"
#include "tessera/base/error.h"
#include "tessera/experts/covering.h"
#include "tessera/experts/design_file.h"

namespace tessera::cli {
namespace {

using namespace tessera::experts;

struct DesignCommand {
  CoveringProblem problem;
  CoveringOptions options;
  std::string out;
  bool json = false;
};

void run_design(DesignCommand& command) {
  const bool terminal = isatty(STDERR_FILENO) == 1;
  if (terminal) {
    command.options.progress = [](int64_t sets, double seconds, const std::string& method) {
      fmt::print(stderr, "\r\033[K{:.1f} s: {} sets ({})", seconds, sets, method.substr(0, 80));
      std::fflush(stderr);
      return true;
    };
  }
  const Covering covering = find_covering(command.problem, command.options);
  if (terminal) fmt::print(stderr, "\r\033[K");
  const DesignFacts facts = design_facts(covering.design, covering.bound);
  DesignFile file{.design = covering.design, .class_names = {}, .certificate = to_json(facts)};
  file.certificate["method"] = covering.method;
  file.certificate["seed"] = command.options.seed;
  if (!command.out.empty()) write_design(command.out, file);
  if (command.json) {
    fmt::print("{}", format_design(file));
    return;
  }
  fmt::print("{}found by {} after {:.2f} s, seed {}\n{}", describe(facts, file), covering.method, covering.seconds,
             command.options.seed, list_sets(file));
}

}  // namespace

void add_experts_design(CLI::App& experts) {
  const auto command = std::make_shared<DesignCommand>();
  CLI::App* design = experts.add_subcommand("design", "few sets of R classes such that every two classes share one");
  design->add_option("--classes", command->problem.classes, "K, the number of classes")->required();
  design->add_option("--size", command->problem.size, "R, the most classes of one set")->required();
  design->add_option("--lambda", command->problem.lambda,
                     "sets that every two classes share; 2 e + 1 survives e in-set errors");
  design->add_option("--seconds", command->options.seconds, "most time for the search; it ends at the lower bound");
  design->add_option("--seed", command->options.seed, "of everything random");
  design->add_option("--out", command->out, "design file to write");
  design->add_flag("--json", command->json, "print the design file");
  design->callback([command] { run_design(*command); });
}

}  // namespace tessera::cli
