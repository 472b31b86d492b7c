#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <numeric>

#include "cli/command_experts.h"
#include "cli/experts_data.h"
#include "tessera/base/error.h"
#include "tessera/experts/adaptive.h"
#include "tessera/experts/answers_file.h"
#include "tessera/experts/gate.h"

namespace tessera::cli {
namespace {

using namespace tessera::experts;

struct PredictCommand {
  std::string folder, data, out, answers, calibrate, adaptive;
  int errors = 0;
  bool gate = false, unlabelled = false, json = false;
  RuleOptions rule;
  DataOptions reading;
};

void check_command(const PredictCommand& command) {
  check_output(command.out);
  check_output(command.answers);
  check_rule(command.rule);
  if (command.gate && command.calibrate.empty()) {
    throw Error(ErrorCode::invalid_argument, "--gate: expected --calibrate DATA with held-out rows of all classes");
  }
  if (!command.adaptive.empty()) {
    if (parse_guarantee(command.adaptive) == Guarantee::same_label && command.rule.rule != "deficit" &&
        command.rule.rule != "quadratic" && command.rule.rule != "balance") {
      throw Error(ErrorCode::invalid_argument,
                  "--adaptive same-label: expected --rule quadratic, balance or deficit, whose label can be known "
                  "early, found {}",
                  command.rule.rule);
    }
    if (!command.calibrate.empty() || !command.answers.empty()) {
      throw Error(ErrorCode::invalid_argument,
                  "--adaptive asks few experts for their labels; it goes with neither --calibrate nor --answers");
    }
  }
  if (command.unlabelled && command.out.empty() && command.answers.empty() && !command.json) {
    throw Error(ErrorCode::invalid_argument, "--unlabelled: expected --out FILE, --answers FILE or --json");
  }
}

struct Prediction {
  Combination combination;
  nlohmann::json details = nlohmann::json::object();
};

Prediction predict_adaptively(const PredictCommand& command, const Ensemble& ensemble, const Dataset& data) {
  const Guarantee guarantee = parse_guarantee(command.adaptive);
  const Rule rule = guarantee == Guarantee::same_label ? parse_rule(command.rule.rule) : Rule::deficit;
  const AdaptiveResult result = ask_adaptively(ensemble, data.values, data.rows,
                                               {.guarantee = guarantee, .rule = rule, .errors = command.errors});
  Prediction prediction;
  // Probabilities of few experts: naive Bayes of labels, or the balance of the probabilities that were asked for.
  prediction.combination = combine(ensemble.design, result.answers,
                                   {.rule = rule == Rule::deficit ? Rule::naive_bayes : Rule::balance,
                                    .in_set_error = command.rule.in_set_error,
                                    .temperature = command.rule.temperature});
  prediction.combination.labels = result.labels;
  const double asked = std::accumulate(result.asked.begin(), result.asked.end(), 0.0);
  prediction.details = {{"rule", to_string(rule)},
                        {"guarantee", command.adaptive},
                        {"experts", ensemble.experts.size()},
                        {"mean_experts_asked", asked / static_cast<double>(data.rows)},
                        {"most_experts_asked", *std::max_element(result.asked.begin(), result.asked.end())}};
  return prediction;
}

Prediction predict_with_all(const PredictCommand& command, const Ensemble& ensemble, const DesignFile& file,
                            const Dataset& data) {
  RuleOptions rule = command.rule;
  Gate gate;
  Prediction prediction;
  if (!command.calibrate.empty()) {
    const Dataset held_out = read_data(command.calibrate, command.reading, ensemble.classes, data.features);
    Answers answers = ask(ensemble, held_out.values, held_out.rows);
    if (command.gate) {
      gate = fit_gate(ensemble.design, answers, held_out.labels);
      answers.gate = open_gate(gate, answers);
    }
    rule.temperature = 1;
    const RuleResult result = apply_rule(ensemble.design, answers, rule);
    rule.temperature = fit_temperature(result.combination.probabilities, result.combination.classes, held_out.labels);
    prediction.details["temperature"] = rule.temperature;
  }
  Answers answers = ask(ensemble, data.values, data.rows);
  if (command.gate) answers.gate = open_gate(gate, answers);
  if (!command.answers.empty()) write_answers(command.answers, answers, file);
  RuleResult result = apply_rule(ensemble.design, answers, rule);
  prediction.combination = std::move(result.combination);
  prediction.details.update(result.details);
  return prediction;
}

void print_result(const PredictCommand& command, const Ensemble& ensemble, const Dataset& data,
                  const Prediction& prediction) {
  const Combination& result = prediction.combination;
  nlohmann::json document = {{"rule", command.rule.rule}, {"inputs", data.rows}};
  document.update(prediction.details);
  if (command.unlabelled) {
    if (!command.json) fmt::print("{} rows labelled\n", data.rows);
  } else {
    const Scores scores = score(result.probabilities, result.labels, data.labels, result.classes);
    document["scores"] = to_json(scores);
    if (!command.json) fmt::print("{} rows, {}", data.rows, describe(scores));
  }
  if (!command.json && prediction.details.contains("mean_experts_asked")) {
    fmt::print("experts asked per row: {:.2f} on average, at most {}, of {}\n",
               prediction.details["mean_experts_asked"].get<double>(),
               prediction.details["most_experts_asked"].get<int>(), ensemble.experts.size());
  }
  if (!command.json && prediction.details.contains("temperature")) {
    fmt::print("temperature {:.3f}\n", prediction.details["temperature"].get<double>());
  }
  if (!command.json) return;
  document["warnings"] = result.warnings;
  document["labels"] = nlohmann::json::array();
  for (const int32_t label : result.labels) document["labels"].push_back(ensemble.classes[static_cast<size_t>(label)]);
  fmt::print("{}\n", document.dump(2));
}

void run_predict(const PredictCommand& command) {
  check_command(command);
  const Ensemble ensemble = load_experts(command.folder);
  const int64_t features = ensemble.experts.front()->features();
  const DesignFile file{.design = ensemble.design, .class_names = ensemble.classes};
  Dataset data;
  if (command.unlabelled) {
    data = read_unlabelled(command.data);
    if (data.features != features) {
      throw Error(ErrorCode::bad_file, "{}: expected rows of {} features, as the experts were trained on, found {}",
                  command.data, features, data.features);
    }
  } else {
    data = read_data(command.data, command.reading, ensemble.classes, features);
  }
  const Prediction prediction = command.adaptive.empty() ? predict_with_all(command, ensemble, file, data)
                                                         : predict_adaptively(command, ensemble, data);
  print_warnings(prediction.combination);
  if (!command.out.empty()) write_predictions(command.out, prediction.combination, ensemble.classes);
  print_result(command, ensemble, data, prediction);
}

}  // namespace

void add_experts_predict(CLI::App& experts) {
  const auto command = std::make_shared<PredictCommand>();
  CLI::App* predict = experts.add_subcommand("predict", "labels and probabilities from the experts of a folder");
  predict->add_option("FOLDER", command->folder, "what fit wrote")->required();
  predict->add_option("DATA", command->data, "rows to label, in any format that fit reads")->required();
  predict->add_option("--out", command->out, "labels and probabilities: CSV, or NPY where the name ends in .npy");
  predict->add_option("--answers", command->answers, "every expert's probabilities, as combine reads them");
  predict->add_option("--calibrate", command->calibrate, "held-out data: fit one temperature on it");
  predict->add_flag("--gate", command->gate, "also fit the out-of-set gate on the held-out data");
  predict->add_option(
      "--adaptive", command->adaptive,
      "ask only the experts a row needs: same-label (the label of --rule quadratic, balance or deficit on all "
      "experts) "
      "or in-set (right when at most --errors experts that know the class err)");
  predict->add_option("--errors", command->errors, "of --adaptive in-set");
  predict->add_flag("--unlabelled", command->unlabelled, "DATA has no class: CSV or NPY of features, IDX images");
  predict->add_flag("--json", command->json, "print JSON");
  add_rule_options(*predict, command->rule);
  add_data_options(*predict, command->reading);
  predict->callback([command] { run_predict(*command); });
}

}  // namespace tessera::cli
