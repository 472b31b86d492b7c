#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "cli/command_experts.h"
#include "cli/experts_certificate.h"
#include "cli/experts_costs.h"
#include "tessera/base/error.h"
#include "tessera/base/progress.h"
#include "tessera/experts/covering.h"
#include "tessera/experts/design_file.h"
#include "tessera/experts/mixed_covering.h"

namespace tessera::cli {
namespace {

using namespace tessera::experts;

struct DesignCommand {
  CoveringProblem problem;
  std::vector<std::string> kinds;  // SIZE[:COST[:MOST]]
  std::string class_costs;         // a JSON file
  CoveringOptions options;
  std::string out;
  bool json = false;
};

// Runs `search` with one unit of progress per second that was granted; the line shows the best design so far.
template <typename Search>
void watch_progress(CoveringOptions& options, const Search& search) {
  Progress progress("design", std::max<int64_t>(1, std::llround(options.seconds)));
  double shown = 0;
  options.progress = [&](int64_t sets, double seconds, const std::string& method) {
    for (; shown + 1 <= std::min(seconds, options.seconds); ++shown) {
      progress.advance(fmt::format("{} sets ({})", sets, method.substr(0, 60)));
    }
    return true;
  };
  search();
}

void run_design(DesignCommand& command) {
  Covering covering;
  watch_progress(command.options, [&] { covering = find_covering(command.problem, command.options); });
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

// "12:3:4": experts of 12 classes at cost 3, at most 4 of them.
ExpertKind parse_kind(const std::string& text) {
  ExpertKind kind;
  char rest = 0;
  long most = 0;
  const int fields = std::sscanf(text.c_str(), "%d:%lf:%ld%c", &kind.size, &kind.cost, &most, &rest);
  const auto colons = std::count(text.begin(), text.end(), ':');
  if (fields < 1 || fields > 3 || colons != fields - 1) {
    throw Error(ErrorCode::invalid_argument,
                "--kind: expected SIZE, SIZE:COST or SIZE:COST:MOST such as 12:3:4, found \"{}\"", text);
  }
  kind.most = most;
  return kind;
}

// Sets with their cost: several kinds, or one whose classes cost something.
void run_mixed_design(DesignCommand& command) {
  MixedProblem problem{.classes = command.problem.classes, .kinds = {}, .lambda = command.problem.lambda};
  if (!command.kinds.empty() && command.problem.size != 0) {
    throw Error(ErrorCode::invalid_argument, "--kind stands in place of --size; give one of the two");
  }
  for (const std::string& text : command.kinds) problem.kinds.push_back(parse_kind(text));
  if (command.kinds.empty()) problem.kinds.push_back({.size = command.problem.size});
  if (!command.class_costs.empty()) {
    problem.class_costs = read_costs(command.class_costs, static_cast<size_t>(std::max(0, problem.classes)), "class");
  }
  watch_progress(command.options, [&] {
    const MixedCovering covering = find_mixed_covering(problem, command.options);
    DesignFile file{.design = covering.design, .class_names = {}, .certificate = nlohmann::json::object()};
    nlohmann::json kinds = nlohmann::json::array();
    for (const int k : covering.kind) kinds.push_back(problem.kinds[static_cast<size_t>(k)].size);
    file.certificate = {
        {"cost", covering.cost},    {"lower_bound", covering.lower_bound}, {"kinds", kinds},
        {"lambda", problem.lambda}, {"method", covering.method},           {"seed", command.options.seed}};
    if (!command.out.empty()) write_design(command.out, file);
    if (command.json) {
      fmt::print("{}", format_design(file));
      return;
    }
    fmt::print("{} sets, cost {:g}; no design of these kinds costs less than {:g} (knapsack bound), ratio {:.3f}\n",
               covering.design.sets.size(), covering.cost, covering.lower_bound, covering.cost / covering.lower_bound);
    if (problem.lambda > 1) fmt::print("every two classes share {} sets or more\n", problem.lambda);
    for (size_t k = 0; k < problem.kinds.size(); ++k) {
      fmt::print("  {} of size {} at cost {:g}\n",
                 std::count(covering.kind.begin(), covering.kind.end(), static_cast<int>(k)), problem.kinds[k].size,
                 problem.kinds[k].cost);
    }
    fmt::print("found by {}, seed {}\n{}", covering.method, command.options.seed, list_sets(file));
  });
}

}  // namespace

void add_experts_design(CLI::App& experts) {
  const auto command = std::make_shared<DesignCommand>();
  CLI::App* design = experts.add_subcommand("design", "few sets of R classes such that every two classes share one");
  design->add_option("--classes", command->problem.classes, "K, the number of classes")->required();
  design->add_option("--size", command->problem.size, "R, the most classes of one set");
  design->add_option("--kind", command->kinds,
                     "in place of --size, once per kind of expert: SIZE[:COST[:MOST]], for example 12:3:4 for at most "
                     "four experts of 12 classes at cost 3 each");
  design->add_option("--class-costs", command->class_costs,
                     "JSON list of K numbers, what each class costs in every set that holds it; then the cheapest sets "
                     "are looked for instead of the fewest");
  design->add_option("--lambda", command->problem.lambda,
                     "sets that every two classes share; 2 e + 1 survives e in-set errors");
  design->add_option("--seconds", command->options.seconds, "most time for the search; it ends at the lower bound");
  design->add_option("--seed", command->options.seed, "of everything random");
  design->add_option("--out", command->out, "design file to write");
  design->add_flag("--json", command->json, "print the design file");
  design->callback([command] {
    if (command->kinds.empty() && command->problem.size == 0) {
      throw Error(ErrorCode::invalid_argument, "design needs --size R, or --kind once per kind of expert");
    }
    if (command->kinds.empty() && command->class_costs.empty()) {
      run_design(*command);
    } else {
      run_mixed_design(*command);
    }
  });
}

}  // namespace tessera::cli
