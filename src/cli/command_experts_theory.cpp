#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_experts.h"
#include "tessera/base/error.h"
#include "tessera/experts/design_file.h"
#include "tessera/experts/theory.h"

namespace tessera::cli {
namespace {

using namespace tessera::experts;

struct BoundCommand {
  BoundQuestion question;
  bool json = false;
};

void run_bound(const BoundCommand& command) {
  const std::vector<BoundLine> lines = expert_bounds(command.question);
  nlohmann::json document = nlohmann::json::array();
  if (!command.json) {
    fmt::print("K = {}, R = {}, delta = {}, e = {}\n{:48} {:>16}  {}\n", command.question.classes,
               command.question.size, command.question.target_error, command.question.in_set_errors, "model", "experts",
               "formula");
  }
  for (const BoundLine& line : lines) {
    document.push_back({{"model", line.model},
                        {"experts", line.experts},
                        {"kind", line.necessary ? "necessary" : "sufficient"},
                        {"formula", line.formula}});
    if (!command.json) {
      fmt::print("{:48} {:>16}  {}\n", line.model,
                 fmt::format("{} {}", line.necessary ? "at least" : "suffice:", line.experts), line.formula);
    }
  }
  if (command.json) fmt::print("{}\n", document.dump(2));
}

struct SimulateCommand {
  std::string file, outsiders = "adversarial";
  SimulateOptions options;
  bool json = false;
};

void run_simulate(SimulateCommand& command) {
  const DesignFile file = read_design(command.file);
  const bool adversarial = command.outsiders == "adversarial";
  command.options.outsiders = adversarial ? Outsiders::adversarial : Outsiders::uniform;
  const Simulation result = simulate(file.design, command.options);
  if (command.json) {
    nlohmann::json document = {{"trials", result.trials},
                               {"error_bound", result.error_bound},
                               {"formula", result.formula},
                               {"outsiders", command.outsiders},
                               {"seed", command.options.seed}};
    for (const RuleErrors& rule : result.rules) {
      document["rules"].push_back({{"rule", rule.rule},
                                   {"errors", rule.errors},
                                   {"rate", rule.rate},
                                   {"lower", rule.lower},
                                   {"upper", rule.upper}});
    }
    fmt::print("{}\n", document.dump(2));
    return;
  }
  fmt::print("{} {}, seed {}\n", result.trials, adversarial ? "pairs of truth and rival" : "inputs",
             command.options.seed);
  for (const RuleErrors& rule : result.rules) {
    fmt::print("  {:20} wrong in {} ({:.4f}, 95 % interval {:.4f} to {:.4f})\n", rule.rule, rule.errors, rule.rate,
               rule.lower, rule.upper);
  }
  fmt::print("bound on the error of maximum likelihood: {:.4g}; {}\n", result.error_bound, result.formula);
}

}  // namespace

void add_experts_bound(CLI::App& experts) {
  const auto command = std::make_shared<BoundCommand>();
  CLI::App* bound = experts.add_subcommand("bound", "how many experts K, R and a target error need");
  bound->add_option("--classes", command->question.classes, "K, the number of classes")->required();
  bound->add_option("--size", command->question.size, "R, classes of one expert")->required();
  bound->add_option("--error", command->question.target_error, "delta, the chance of a wrong class (uniform model)");
  bound->add_option("--mistakes", command->question.in_set_errors,
                    "e, in-set experts that may err (adversarial model)");
  bound->add_flag("--json", command->json, "print JSON");
  bound->callback([command] { run_bound(*command); });
}

void add_experts_simulate(CLI::App& experts) {
  const auto command = std::make_shared<SimulateCommand>();
  CLI::App* simulate = experts.add_subcommand("simulate", "what adversarial, uniform or noisy experts do to a design");
  simulate->add_option("DESIGN", command->file, "design file")->required();
  simulate->add_option("--outsiders", command->outsiders, "answers of experts that do not know the true class")
      ->check(CLI::IsMember({"adversarial", "uniform"}));
  simulate->add_option("--in-set-error", command->options.in_set_error, "chance that an in-set expert errs (uniform)");
  simulate->add_option("--mistakes", command->options.in_set_mistakes, "in-set experts that err (adversarial)");
  simulate->add_option("--trials", command->options.trials, "inputs drawn (uniform)");
  simulate->add_option("--seed", command->options.seed, "of the inputs and answers");
  simulate->add_flag("--json", command->json, "print JSON");
  simulate->callback([command] { run_simulate(*command); });
}

}  // namespace tessera::cli
