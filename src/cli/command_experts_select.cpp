#include <fmt/format.h>

#include <memory>

#include "cli/command_experts.h"
#include "cli/experts_certificate.h"
#include "cli/experts_costs.h"
#include "tessera/base/error.h"
#include "tessera/experts/select.h"

namespace tessera::cli {
namespace {

using namespace tessera::experts;

constexpr size_t kListedPairs = 50;

struct SelectCommand {
  std::string file, costs, out;
  SelectOptions options;
  bool heuristic = false, json = false;
};

nlohmann::json to_json(const Selection& chosen) {
  return {{"experts", chosen.experts},
          {"cost", chosen.cost},
          {"lp_bound", chosen.lp_bound},
          {"lower_bound", chosen.lower_bound},
          {"lower_bound_source", chosen.bound_source},
          {"optimal", chosen.optimal},
          {"method", chosen.method},
          {"forced", chosen.forced},
          {"dominated", chosen.dominated},
          {"uncovered", chosen.uncovered}};
}

void run_select(SelectCommand& command) {
  const DesignFile file = read_design(command.file);
  SelectProblem problem{.candidates = file.design, .costs = {}};
  if (!command.costs.empty()) problem.costs = read_costs(command.costs, file.design.sets.size(), "candidate");
  command.options.effort = command.heuristic ? Effort::heuristic : Effort::exact;
  const Selection chosen = select_experts(problem, command.options);
  DesignFile kept{.design = {.classes = file.design.classes, .sets = {}}, .class_names = file.class_names};
  for (const int j : chosen.experts) kept.design.sets.push_back(file.design.sets[static_cast<size_t>(j)]);
  kept.certificate = to_json(chosen);
  if (!command.out.empty()) write_design(command.out, kept);
  if (command.json) {
    fmt::print("{}\n", to_json(chosen).dump(2));
    return;
  }
  fmt::print("{} of {} experts, cost {:g} ({}); {} forced, {} dominated\nlower bound {:g} ({}){}\n",
             chosen.experts.size(), file.design.sets.size(), chosen.cost, chosen.method, chosen.forced,
             chosen.dominated, chosen.lower_bound, chosen.bound_source,
             chosen.optimal ? ": no choice is cheaper"
                            : fmt::format(", gap {:.2f} %", 100 * (chosen.cost / chosen.lower_bound - 1)));
  fmt::print("experts:");
  for (const int j : chosen.experts) fmt::print(" {}", j);
  fmt::print("\n");
  if (chosen.uncovered.empty()) return;
  fmt::print(
      "{} pairs of classes are in no candidate; inputs of one can always be taken for the other, every other pair is "
      "told apart. Experts are missing for:\n",
      chosen.uncovered.size());
  for (size_t i = 0; i < std::min(kListedPairs, chosen.uncovered.size()); ++i) {
    const auto& [a, b] = chosen.uncovered[i];
    fmt::print("  {} and {}\n", class_text(file, a), class_text(file, b));
  }
  if (chosen.uncovered.size() > kListedPairs) fmt::print("  ... (--json lists all)\n");
}

}  // namespace

void add_experts_select(CLI::App& experts) {
  const auto command = std::make_shared<SelectCommand>();
  CLI::App* select = experts.add_subcommand("select", "the fewest or cheapest of given experts that hold every pair");
  select->add_option("DESIGN", command->file, "design file whose sets are the candidates")->required();
  select->add_option("--costs", command->costs, "JSON list of positive numbers, one per candidate; default: 1 each");
  select->add_option("--seconds", command->options.seconds, "most time");
  select->add_option("--seed", command->options.seed, "of the local search");
  select->add_flag("--heuristic", command->heuristic, "no branch and cut");
  select->add_option("--out", command->out, "design file of the chosen sets to write");
  select->add_flag("--json", command->json, "print JSON");
  select->callback([command] { run_select(*command); });
}

}  // namespace tessera::cli
