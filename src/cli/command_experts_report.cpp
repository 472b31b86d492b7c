#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/command_experts.h"
#include "cli/experts_data.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/experts/adaptive.h"
#include "tessera/experts/report.h"

namespace tessera::cli {
namespace {

using namespace tessera::experts;

struct ReportCommand {
  std::string folder, data, out;
  RuleOptions rule;
  DataOptions reading;
};

std::vector<double> in_set_accuracy(const Design& design, const Answers& answers, const Dataset& data) {
  const std::vector<int32_t> labels = most_probable(design, answers);
  const size_t experts = design.sets.size();
  std::vector<double> result;
  for (size_t j = 0; j < experts; ++j) {
    const auto& set = design.sets[j];
    double known = 0, right = 0;
    for (size_t i = 0; i < data.labels.size(); ++i) {
      if (!std::binary_search(set.begin(), set.end(), data.labels[i])) continue;
      ++known;
      right += labels[i * experts + j] == data.labels[i];
    }
    result.push_back(known > 0 ? right / known : 1);
  }
  return result;
}

std::string range_text(int least, int most) {
  return least == most ? fmt::format("{}", least) : fmt::format("{} to {}", least, most);
}

void add_lines(const ReportCommand& command, const Ensemble& ensemble, const Answers& answers, const Dataset& data,
               ReportContent& content) {
  const auto add = [&](const std::string& name, const Combination& result) {
    content.lines.push_back({name, score(result.probabilities, result.labels, data.labels, result.classes)});
  };
  const RuleResult chosen = apply_rule(ensemble.design, answers, command.rule);
  content.warnings = chosen.combination.warnings;
  add(command.rule.rule, chosen.combination);
  for (const Rule rule : all_rules()) {
    if (to_string(rule) != command.rule.rule) add(to_string(rule), combine(ensemble.design, answers, {.rule = rule}));
  }
  const std::filesystem::path central = std::filesystem::path(command.folder) / "centralised";
  if (!std::filesystem::exists(central / "fit.json")) return;
  const Ensemble whole = load_experts(central);
  content.centralised = static_cast<int>(content.lines.size());
  add("centralised", combine(whole.design, ask(whole, data.values, data.rows)));
}

void add_questions(const Ensemble& ensemble, const Answers& answers, const Dataset& data, int lambda,
                   ReportContent& content) {
  const auto add = [&](const char* name, const AdaptiveOptions& options) {
    const AdaptiveResult result = decide_adaptively(ensemble.design, answers, options);
    double right = 0;
    for (size_t i = 0; i < data.labels.size(); ++i) right += result.labels[i] == data.labels[i];
    content.questions.push_back({name, right / static_cast<double>(data.rows), result.asked});
  };
  add("same-label (always the label of the quadratic rule on all experts)", {.rule = Rule::quadratic});
  add("same-label (always the label of the balance rule on all experts)", {.rule = Rule::balance});
  add("same-label (always the label of the deficit rule on all experts)", {});
  if (lambda >= 1) {
    add("in-set (right when no expert that knows the class errs)", {.guarantee = Guarantee::in_set});
  }
}

void run_report(const ReportCommand& command) {
  check_output(command.out);
  check_rule(command.rule);
  const Ensemble ensemble = load_experts(command.folder);
  const Dataset data = read_data(command.data, command.reading, ensemble.classes, ensemble.experts.front()->features());
  const Answers answers = ask(ensemble, data.values, data.rows);
  const PairCoverage pairs = count_pairs(ensemble.design);
  ReportContent content{.title = std::filesystem::path(command.data).filename().string(),
                        .facts = {},
                        .design = ensemble.design,
                        .classes = ensemble.classes};
  content.facts = {
      fmt::format("{} classes, {} experts of {} classes; every two classes share {} experts.", ensemble.classes.size(),
                  ensemble.experts.size(), range_text(pairs.size_min, pairs.size_max),
                  range_text(pairs.lambda_min, pairs.lambda_max)),
      fmt::format("{} test rows; training work {:.1f} times that of one classifier of all classes.", data.rows,
                  static_cast<double>(pairs.incidences) / static_cast<double>(ensemble.design.classes))};
  add_lines(command, ensemble, answers, data, content);
  if (pairs.uncovered > 0) {
    content.warnings.push_back(fmt::format(
        "{} pairs of classes share no expert: such classes cannot be told apart with certainty.", pairs.uncovered));
  }
  add_questions(ensemble, answers, data, pairs.lambda_min, content);
  content.in_set_accuracy = in_set_accuracy(ensemble.design, answers, data);
  write_file_atomically(command.out, html_report(content));
  print_warnings({.warnings = content.warnings});
  fmt::print("{}: {}", command.rule.rule, describe(content.lines[0].scores));
  if (content.centralised >= 0) {
    fmt::print("centralised: {}", describe(content.lines[static_cast<size_t>(content.centralised)].scores));
  }
  fmt::print("report: {}\n", command.out);
}

}  // namespace

void add_experts_report(CLI::App& experts) {
  const auto command = std::make_shared<ReportCommand>();
  CLI::App* report = experts.add_subcommand("report", "one HTML page: design, accuracy, calibration, confusion, cost");
  report
      ->add_option("FOLDER", command->folder, "what fit wrote; with --centralised also the classifier to compare with")
      ->required();
  report->add_option("DATA", command->data, "test rows with their classes")->required();
  report->add_option("--out", command->out, "HTML file to write")->required();
  add_rule_options(*report, command->rule);
  add_data_options(*report, command->reading);
  report->callback([command] { run_report(*command); });
}

}  // namespace tessera::cli
