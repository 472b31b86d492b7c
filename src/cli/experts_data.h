// What fit, predict, combine and report share: options, data, rules by name, scores.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tessera/experts/combine.h"
#include "tessera/experts/dataset.h"
#include "tessera/experts/fit.h"
#include "tessera/experts/metrics.h"

namespace tessera::cli {

// How a data file is read.
struct DataOptions {
  std::string label_column;
  std::vector<int> image;  // channels, height, width of rows that are images; empty: as the file says
};
void add_data_options(CLI::App& command, DataOptions& options);

// `classes`: those already known, in order; empty: those of the file. `features`: number the experts expect, 0: any.
experts::Dataset read_data(const std::string& path, const DataOptions& options, std::span<const std::string> classes,
                           int64_t features = 0);

// How answers become labels and probabilities.
struct RuleOptions {
  std::string rule = "quadratic";
  double temperature = 1;  // of the probabilities
  double in_set_error = 0.05;
};
void add_rule_options(CLI::App& command, RuleOptions& options);

struct RuleResult {
  experts::Combination combination;
  nlohmann::json details = nlohmann::json::object();  // what a labeler model found about the labelers
};
// Rules of combine.h, "dawid-skene" and "one-coin". Throws Error(invalid_argument) for another name.
RuleResult apply_rule(const experts::Design& design, const experts::Answers& answers, const RuleOptions& options);
void check_rule(const RuleOptions& options);

nlohmann::json to_json(const experts::Scores& scores);
std::string describe(const experts::Scores& scores);

// "folder does not exist" before any work; an empty path is fine.
void check_output(const std::string& path);

// Warnings go to standard error, one line each.
void print_warnings(const experts::Combination& result);

}  // namespace tessera::cli
