#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "cli/command_experts.h"
#include "cli/experts_certificate.h"
#include "tessera/base/error.h"
#include "tessera/base/progress.h"
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
  // One unit per second that was granted; the line shows the best design so far.
  Progress progress("design", std::max<int64_t>(1, std::llround(command.options.seconds)));
  double shown = 0;
  command.options.progress = [&](int64_t sets, double seconds, const std::string& method) {
    for (; shown + 1 <= std::min(seconds, command.options.seconds); ++shown) {
      progress.advance(fmt::format("{} sets ({})", sets, method.substr(0, 60)));
    }
    return true;
  };
  const Covering covering = find_covering(command.problem, command.options);
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
