#include <fmt/format.h>

#include <memory>

#include "cli/command_experts.h"
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

nlohmann::json certificate(const DesignCommand& command, const Covering& covering) {
  const PairCoverage pairs = count_pairs(covering.design);
  const auto sets = static_cast<int64_t>(covering.design.sets.size());
  return {{"method", covering.method},
          {"sets", sets},
          {"lower_bound", covering.bound.sets},
          {"lower_bound_source", covering.bound.source},
          {"ratio", static_cast<double>(sets) / static_cast<double>(covering.bound.sets)},
          {"lambda_min", pairs.lambda_min},
          {"errors_survived", pairs.errors_survived()},
          {"degrees", {pairs.degree_min, pairs.degree_max}},
          {"seed", command.options.seed}};
}

void run_design(const DesignCommand& command) {
  const Covering covering = find_covering(command.problem, command.options);
  const DesignFile file{.design = covering.design, .class_names = {}, .certificate = certificate(command, covering)};
  if (!command.out.empty()) write_design(command.out, file);
  fmt::print("{}", format_design(file));
}

}  // namespace

void add_experts_design(CLI::App& experts) {
  const auto command = std::make_shared<DesignCommand>();
  CLI::App* design = experts.add_subcommand("design", "few sets of R classes such that every two classes share one");
  design->add_option("--classes", command->problem.classes, "K, the number of classes")->required();
  design->add_option("--size", command->problem.size, "R, the most classes of one set")->required();
  design->add_option("--lambda", command->problem.lambda, "sets that every two classes share");
  design->add_option("--seconds", command->options.seconds, "time for the search");
  design->add_option("--seed", command->options.seed, "of everything random");
  design->add_option("--out", command->out, "design file to write");
  design->add_flag("--json", command->json, "print JSON");
  design->callback([command] { run_design(*command); });
}

}  // namespace tessera::cli
