#include "cli/experts_data.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>

#include "tessera/base/error.h"
#include "tessera/experts/labelers.h"

namespace tessera::cli {

using namespace tessera::experts;

void add_data_options(CLI::App& command, DataOptions& options) {
  command.add_option("--label-column", options.label_column,
                     "column of the class in CSV; default: class, label, y, else the last");
  command.add_option("--image", options.image, "CHANNELS,HEIGHT,WIDTH when rows of CSV, NPY or LIBSVM are images")
      ->delimiter(',')
      ->expected(3);
}

Dataset read_data(const std::string& path, const DataOptions& options, std::span<const std::string> classes,
                  int64_t features) {
  Dataset data = read_dataset(
      path, {.classes = {classes.begin(), classes.end()}, .label_column = options.label_column, .features = features});
  if (!classes.empty() && data.classes.size() != classes.size()) {
    if (data.classes.size() > classes.size()) {
      throw Error(ErrorCode::bad_file, "{}: expected {} classes, found {}", path, classes.size(), data.classes.size());
    }
    data.classes.assign(classes.begin(), classes.end());  // image formats number classes; the last ones may be absent
  }
  if (features > 0 && data.features != features) {
    throw Error(ErrorCode::bad_file, "{}: expected rows of {} features, as the experts were trained on, found {}", path,
                features, data.features);
  }
  if (!options.image.empty()) {
    const auto& shape = options.image;
    if (shape[0] < 1 || shape[1] < 1 || shape[2] < 1 || int64_t{shape[0]} * shape[1] * shape[2] != data.features) {
      throw Error(ErrorCode::invalid_argument, "--image {},{},{}: does not make up the {} features of {}", shape[0],
                  shape[1], shape[2], data.features, path);
    }
    data.channels = shape[0], data.height = shape[1], data.width = shape[2];
  }
  return data;
}

void add_rule_options(CLI::App& command, RuleOptions& options) {
  std::string names;
  for (const Rule rule : all_rules()) names += std::string(to_string(rule)) + ", ";
  command.add_option("--rule", options.rule, names + "dawid-skene, one-coin");
  command.add_option("--temperature", options.temperature, "probabilities become p^(1/T), normalised");
  command.add_option("--in-set-error", options.in_set_error,
                     "share of wrong labels among experts that know the class; for naive-bayes, hard labels given to a "
                     "soft rule, and the start of dawid-skene and one-coin");
}

namespace {

bool is_labeler_model(const std::string& rule) {
  return rule == to_string(LabelerModel::dawid_skene) || rule == to_string(LabelerModel::one_coin);
}

}  // namespace

void check_rule(const RuleOptions& options) {
  if (!is_labeler_model(options.rule)) {
    try {
      (void)parse_rule(options.rule);
    } catch (const Error& error) {
      throw Error(error.code(), "{}, dawid-skene, one-coin", error.what());
    }
  }
  if (!(options.temperature > 0) || !std::isfinite(options.temperature)) {
    throw Error(ErrorCode::invalid_argument, "--temperature: expected a positive number, found {}",
                options.temperature);
  }
  if (!(options.in_set_error > 0 && options.in_set_error < 1)) {
    throw Error(ErrorCode::invalid_argument, "--in-set-error: expected a share between 0 and 1, found {}",
                options.in_set_error);
  }
}

RuleResult apply_rule(const Design& design, const Answers& answers, const RuleOptions& options) {
  check_rule(options);
  if (!is_labeler_model(options.rule)) {
    return {combine(
        design, answers,
        {.rule = parse_rule(options.rule), .in_set_error = options.in_set_error, .temperature = options.temperature})};
  }
  const bool one_coin = options.rule == to_string(LabelerModel::one_coin);
  LabelerFit fit = fit_labelers(
      design, answers,
      {.model = one_coin ? LabelerModel::one_coin : LabelerModel::dawid_skene, .in_set_error = options.in_set_error});
  if (options.temperature != 1) {
    apply_temperature(fit.combination.probabilities, fit.combination.classes, options.temperature);
  }
  return {std::move(fit.combination),
          {{"labeler_error", fit.in_set_error}, {"class_share", fit.class_share}, {"steps", fit.log_density.size()}}};
}

nlohmann::json to_json(const Scores& scores) {
  const double n = static_cast<double>(scores.inputs);
  return {{"inputs", scores.inputs},
          {"accuracy", scores.accuracy},
          {"accuracy_standard_error", std::sqrt(scores.accuracy * (1 - scores.accuracy) / n)},
          {"negative_log_likelihood", scores.negative_log_likelihood},
          {"calibration_error", scores.calibration_error}};
}

std::string describe(const Scores& scores) {
  const double n = static_cast<double>(scores.inputs);
  return fmt::format(
      "accuracy {:.2f} % (standard error {:.2f}), negative log-likelihood {:.4f}, calibration error {:.4f}\n",
      100 * scores.accuracy, 100 * std::sqrt(scores.accuracy * (1 - scores.accuracy) / n),
      scores.negative_log_likelihood, scores.calibration_error);
}

void check_output(const std::string& path) {
  if (path.empty()) return;
  const auto folder = std::filesystem::path(path).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder)) {
    throw Error(ErrorCode::not_found, "{}: the folder {} does not exist", path, folder.string());
  }
  if (std::filesystem::is_directory(path)) {
    throw Error(ErrorCode::invalid_argument, "{}: expected the name of a file, found a folder", path);
  }
}

void print_warnings(const Combination& result) {
  for (const std::string& warning : result.warnings) fmt::print(stderr, "warning: {}\n", warning);
}

}  // namespace tessera::cli
