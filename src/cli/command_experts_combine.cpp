#include <fmt/format.h>

#include <memory>

#include "cli/command_experts.h"
#include "cli/experts_data.h"
#include "tessera/base/error.h"
#include "tessera/experts/answers_file.h"

namespace tessera::cli {
namespace {

using namespace tessera::experts;

struct CombineCommand {
  std::string design, answers, gate, truth, out, calibrate, calibrate_truth;
  bool json = false;
  RuleOptions rule;
};

void check_command(const CombineCommand& command) {
  check_output(command.out);
  check_rule(command.rule);
  if (command.calibrate.empty() != command.calibrate_truth.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "--calibrate and --calibrate-truth: expected both, held-out answers and their classes");
  }
}

// Temperature on held-out answers; the one that was asked for where there are none.
double temperature_of(const CombineCommand& command, const DesignFile& file, std::span<const std::string> names) {
  if (command.calibrate.empty()) return command.rule.temperature;
  const Answers held_out = read_answers(command.calibrate, file);
  const std::vector<int32_t> truth = read_truth(command.calibrate_truth, names, held_out.inputs);
  RuleOptions rule = command.rule;
  rule.temperature = 1;
  const Combination result = apply_rule(file.design, held_out, rule).combination;
  return fit_temperature(result.probabilities, result.classes, truth);
}

void run_combine(CombineCommand command) {
  check_command(command);
  const DesignFile file = read_design(command.design);
  const std::vector<std::string> names = names_of(file);
  Answers answers = read_answers(command.answers, file);
  if (!command.gate.empty()) {
    answers.gate = read_gate(command.gate, file.design, answers.inputs);
    check_answers(file.design, answers, command.gate);
  }
  std::vector<int32_t> truth;
  if (!command.truth.empty()) truth = read_truth(command.truth, names, answers.inputs);
  command.rule.temperature = temperature_of(command, file, names);
  const RuleResult result = apply_rule(file.design, answers, command.rule);
  print_warnings(result.combination);
  if (!command.out.empty()) write_predictions(command.out, result.combination, names);
  nlohmann::json document = {{"rule", command.rule.rule},
                             {"inputs", answers.inputs},
                             {"experts", file.design.sets.size()},
                             {"temperature", command.rule.temperature},
                             {"warnings", result.combination.warnings}};
  document.update(result.details);
  if (!command.json) {
    fmt::print("{} inputs, {} experts, rule {}{}\n", answers.inputs, file.design.sets.size(), command.rule.rule,
               command.calibrate.empty() ? "" : fmt::format(", temperature {:.3f}", command.rule.temperature));
  }
  if (!truth.empty()) {
    const Scores scores =
        score(result.combination.probabilities, result.combination.labels, truth, file.design.classes);
    document["scores"] = to_json(scores);
    if (!command.json) fmt::print("{}", describe(scores));
  }
  if (!command.json) return;
  document["labels"] = nlohmann::json::array();
  for (const int32_t label : result.combination.labels) document["labels"].push_back(names[static_cast<size_t>(label)]);
  fmt::print("{}\n", document.dump(2));
}

}  // namespace

void add_experts_combine(CLI::App& experts) {
  const auto command = std::make_shared<CombineCommand>();
  CLI::App* combine = experts.add_subcommand("combine", "one label and probabilities from the answers of any experts");
  combine->add_option("DESIGN", command->design, "design file: which classes each expert knows")->required();
  combine
      ->add_option("ANSWERS", command->answers,
                   "CSV or NPY, a row per input: a label per expert, or all experts' probabilities side by side")
      ->required();
  combine->add_option("--out", command->out, "labels and probabilities: CSV, or NPY where the name ends in .npy");
  combine->add_option("--truth", command->truth, "true classes, one per input, to score against");
  combine->add_option("--gate", command->gate, "weights in [0, 1] per input and expert");
  combine->add_option("--calibrate", command->calibrate, "held-out answers: fit one temperature on them");
  combine->add_option("--calibrate-truth", command->calibrate_truth, "the classes of the held-out answers");
  combine->add_flag("--json", command->json, "print JSON");
  add_rule_options(*combine, command->rule);
  combine->callback([command] { run_combine(*command); });
}

}  // namespace tessera::cli
