#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/command.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/log.h"
#include "tessera/base/progress.h"
#include "tessera/base/thread_pool.h"
#include "tessera/explain/explain.h"
#include "tessera/explain/report.h"
#include "tessera/explain/table.h"
#include "tessera/explain/tune.h"

namespace tessera::cli {
namespace {

using namespace tessera::explain;

constexpr int64_t kChunk = 256;  // rows explained between two flushes of --all

struct ExplainCommand {
  std::string data;
  std::vector<std::string> output, categorical, continuous, ignore;
  int64_t row = -1;
  std::string query, deltas, baselines, out, report;
  std::string estimator = "automatic", weights = "linear", importance, interval;
  bool all = false, classification = false, compat = false, tune = false, json = false, drop_missing = false,
       resume = false;
  Options options;
  double clip = -1;
};

// The table after dropping columns and rows, as the explainer wants it.
struct Prepared {
  std::vector<Feature> features;
  std::vector<double> inputs;                // [rows, features]
  std::vector<std::vector<double>> outputs;  // per output column: [rows]
  std::vector<int64_t> table_columns;        // of each feature
  std::vector<int64_t> original_row;         // of each row kept
  int64_t rows = 0;
  TableView view() const { return {inputs.data(), nullptr, rows, static_cast<int64_t>(features.size())}; }
};

int64_t level_of(const Column& column, const nlohmann::json& value, const std::string& where) {
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  const auto at = std::find(column.levels.begin(), column.levels.end(), text);
  if (at == column.levels.end()) {
    throw Error(ErrorCode::invalid_argument, "{}: column '{}' has no category '{}'", where, column.name, text);
  }
  return at - column.levels.begin();
}

// {"age": 2, ...}: a step per continuous column; {"sex": "1", ...}: a baseline per categorical column.
void apply_json(const std::string& path, const Table& table, Prepared& prepared, bool baselines) {
  if (path.empty()) return;
  const nlohmann::json values = read_json(path);
  if (!values.is_object()) throw Error(ErrorCode::bad_file, "{}: expected an object of columns and values", path);
  for (const auto& [name, value] : values.items()) {
    const auto at = std::find_if(prepared.features.begin(), prepared.features.end(),
                                 [&](const Feature& f) { return f.name == name; });
    if (at == prepared.features.end())
      throw Error(ErrorCode::not_found, "{}: '{}' is not a feature of the table", path, name);
    const ColumnKind wanted = baselines ? ColumnKind::categorical : ColumnKind::continuous;
    if (at->kind != wanted || (!baselines && !value.is_number())) {
      throw Error(ErrorCode::invalid_argument, "{}: '{}' needs {} column{}", path, name,
                  baselines ? "a categorical" : "a continuous", baselines ? "" : " and a number");
    }
    if (baselines) {
      at->baseline = level_of(table.columns[static_cast<size_t>(table.column(name))], value, path);
    } else {
      at->delta = value.get<double>();
    }
  }
}

std::vector<int64_t> complete_rows(const Table& table, const std::vector<int64_t>& columns,
                                   const ExplainCommand& command) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < table.rows; ++i) {
    int64_t missing = -1;
    for (const int64_t j : columns) {
      if (std::isnan(table.at(i, j))) missing = j;
    }
    if (missing < 0) {
      rows.push_back(i);
    } else if (!command.drop_missing) {
      throw Error(ErrorCode::invalid_argument,
                  "{}: row {} (0-based, header not counted), column '{}': the value is missing; --drop-missing leaves "
                  "such rows out",
                  command.data, i, table.columns[static_cast<size_t>(missing)].name);
    }
  }
  if (static_cast<int64_t>(rows.size()) < table.rows) {
    log().warn("{} of {} rows have missing values and are left out", table.rows - static_cast<int64_t>(rows.size()),
               table.rows);
  }
  return rows;
}

Prepared prepare(const Table& table, const ExplainCommand& command) {
  std::set<std::string> left_out(command.ignore.begin(), command.ignore.end());
  std::vector<int64_t> used;
  for (const std::string& name : command.ignore) (void)table.column(name);
  Prepared prepared;
  for (const std::string& name : command.output) {
    left_out.insert(name);
    used.push_back(table.column(name));
    if (table.columns[static_cast<size_t>(used.back())].kind != ColumnKind::continuous) {
      throw Error(ErrorCode::invalid_argument, "{}: the output column '{}' must hold numbers", command.data, name);
    }
  }
  for (size_t j = 0; j < table.columns.size(); ++j) {
    if (left_out.contains(table.columns[j].name)) continue;
    prepared.table_columns.push_back(static_cast<int64_t>(j));
    prepared.features.push_back({table.columns[j].name, table.columns[j].kind, table.columns[j].levels, {}, {}});
    used.push_back(static_cast<int64_t>(j));
  }
  prepared.original_row = complete_rows(table, used, command);
  prepared.rows = static_cast<int64_t>(prepared.original_row.size());
  prepared.outputs.resize(command.output.size());
  for (const int64_t i : prepared.original_row) {
    for (const int64_t j : prepared.table_columns) prepared.inputs.push_back(table.at(i, j));
    for (size_t k = 0; k < command.output.size(); ++k)
      prepared.outputs[k].push_back(table.at(i, table.column(command.output[k])));
  }
  apply_json(command.deltas, table, prepared, false);
  apply_json(command.baselines, table, prepared, true);
  return prepared;
}

Options options_of(const ExplainCommand& command) {
  Options options = command.options;
  options.classification = command.classification;
  options.weights = parse_weights(command.weights);
  options.importance = command.importance.empty()
                           ? (command.classification ? ImportanceKind::difference : ImportanceKind::gradient)
                           : parse_importance(command.importance);
  options.estimator = command.compat ? Estimator::published : parse_estimator(command.estimator);
  const bool published = options.estimator == Estimator::published;
  options.interval = command.interval.empty() ? (published ? IntervalKind::percentile : IntervalKind::conformal)
                                              : parse_interval(command.interval);
  if (command.compat) options.clip = 0;
  if (command.clip >= 0) options.clip = command.clip;
  return options;
}

int64_t kept_row(const Prepared& prepared, int64_t original, int64_t rows) {
  const auto at = std::lower_bound(prepared.original_row.begin(), prepared.original_row.end(), original);
  if (at == prepared.original_row.end() || *at != original) {
    throw Error(ErrorCode::invalid_argument, "--row {}: {}", original,
                original < rows ? "this row has missing values" : fmt::format("the table has rows 0 to {}", rows - 1));
  }
  return at - prepared.original_row.begin();
}

void print_text(const Explanation& answer, const Explainer& explainer, const std::string& output) {
  const auto& features = explainer.features();
  fmt::print("{}{}: logged {:.6g}, local fit {:.6g} ({} estimator, {} rows)\n", output,
             answer.row >= 0 ? fmt::format(", row {}", answer.row) : "", answer.output, answer.prediction,
             to_string(answer.estimator), answer.diagnostics.rows_used);
  fmt::print("  {:24} {:>12} {:>12} {:>12} {:>12} {:>12}\n", "feature", "value", "compared with", "importance", "lower",
             "upper");
  std::vector<size_t> order(features.size());
  for (size_t j = 0; j < order.size(); ++j) order[j] = j;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::abs(answer.features[a].importance) > std::abs(answer.features[b].importance);
  });
  for (const size_t j : order) {
    const FeatureImportance& f = answer.features[j];
    const bool categorical = features[j].kind == ColumnKind::categorical;
    const auto name = [&](double code) { return features[j].levels[static_cast<size_t>(code)]; };
    fmt::print("  {:24} {:>12} {:>12} {:>12.5g} {:>12.5g} {:>12.5g}{}\n", features[j].name,
               categorical ? name(f.value) : fmt::format("{:.6g}", f.value),
               categorical                                                  ? name(f.baseline)
               : explainer.options().importance == ImportanceKind::gradient ? "slope"
                                                                            : "step",
               f.importance, f.lower, f.upper, f.lower > 0 || f.upper < 0 ? "  *" : "");
  }
  for (const WarningText& warning : answer.warnings) fmt::print("  warning: {}\n", warning.text);
}

std::string tuned(const Prepared& prepared, size_t output, Options& options) {
  const Tuning tuning = tune(prepared.view(), prepared.outputs[output], prepared.features, options);
  options = tuning.options;
  return tuning.reason;
}

// Explains every row in order, one JSON line each, flushed; a restarted run continues after the last whole line.
void explain_all(const ExplainCommand& command, const Prepared& prepared, const Explainer& explainer) {
  if (command.out.empty())
    throw Error(ErrorCode::invalid_argument, "--all: expected --out FILE.jsonl to write one line per row to");
  int64_t done = 0;
  if (!command.resume && std::filesystem::exists(command.out)) {
    throw Error(ErrorCode::invalid_argument, "--out: {} exists; add --resume to continue it or choose another name",
                command.out);
  }
  LineLog lines(command.out);
  if (command.resume) {
    const std::string text = read_file(command.out);
    done = std::count(text.begin(), text.end(), '\n');
  }
  Progress progress("explain", (prepared.rows + kChunk - 1) / kChunk, done / kChunk);
  while (done < prepared.rows) {
    throw_if_interrupted();
    const int64_t end = std::min(prepared.rows, done + kChunk);
    std::string chunk;
    for (Explanation& answer : explainer.explain_rows(done, end)) {
      answer.row = prepared.original_row[static_cast<size_t>(answer.row)];
      if (!chunk.empty()) chunk += '\n';
      chunk += to_json(answer, explainer.features()).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    }
    lines.append(chunk);
    done = end;
    progress.advance(fmt::format("row {}", end));
  }
}

// mean |importance| against mean width per feature (the published meta-explanation), read back from the lines of --all.
nlohmann::json summarise_lines(const std::string& path, const std::vector<Feature>& features) {
  std::ifstream file(path);
  std::vector<double> importance(features.size(), 0), width(features.size(), 0), clear(features.size(), 0);
  int64_t rows = 0;
  for (std::string line; std::getline(file, line); ++rows) {
    const nlohmann::json answer = parse_json(line, path);
    for (size_t j = 0; j < features.size(); ++j) {
      const nlohmann::json& f = answer.at("features").at(j);
      const double lower = f.at("lower"), upper = f.at("upper");
      importance[j] += std::abs(f.at("importance").get<double>());
      width[j] += upper - lower;
      clear[j] += lower > 0 || upper < 0 ? 1 : 0;
    }
  }
  nlohmann::json summary = {{"rows", rows}, {"features", nlohmann::json::array()}};
  for (size_t j = 0; j < features.size() && rows > 0; ++j) {
    const auto count = static_cast<double>(rows);
    summary["features"].push_back({{"name", features[j].name},
                                   {"mean_absolute_importance", importance[j] / count},
                                   {"mean_width", width[j] / count},
                                   {"share_excluding_zero", clear[j] / count}});
  }
  return summary;
}

void print_summary(const nlohmann::json& summary) {
  fmt::print("{:24} {:>18} {:>12} {:>22}\n", "feature", "mean |importance|", "mean width", "interval excludes 0");
  for (const auto& f : summary["features"]) {
    fmt::print("{:24} {:>18.5g} {:>12.5g} {:>21.1f} %\n", f["name"].get<std::string>(),
               f["mean_absolute_importance"].get<double>(), f["mean_width"].get<double>(),
               100 * f["share_excluding_zero"].get<double>());
  }
}

void run_explain(const ExplainCommand& command) {
  if ((command.row >= 0 ? 1 : 0) + (command.query.empty() ? 0 : 1) + (command.all ? 1 : 0) != 1) {
    throw Error(ErrorCode::invalid_argument, "explain: expected exactly one of --row, --query and --all");
  }
  if (command.all && command.output.size() != 1)
    throw Error(ErrorCode::invalid_argument, "--all: expected one --output column");
  const Table table = read_table(command.data, {.categorical = command.categorical, .continuous = command.continuous});
  const Prepared prepared = prepare(table, command);
  nlohmann::json document = {{"rows", nlohmann::json::array()}};
  std::vector<std::string> pages;
  for (size_t k = 0; k < command.output.size(); ++k) {
    Options options = options_of(command);
    const std::string reason = command.tune ? tuned(prepared, k, options) : std::string();
    if (!reason.empty() && !command.json) fmt::print("{}\n", reason);
    const Explainer explainer(prepared.view(), prepared.outputs[k], prepared.features, options);
    log().info("{}: {}", command.output[k], explainer.choice());
    if (command.all) {
      explain_all(command, prepared, explainer);
      const nlohmann::json summary = summarise_lines(command.out, explainer.features());
      if (command.json) {
        document = {{"summary", summary}, {"lines", command.out}};
      } else {
        print_summary(summary);
      }
      if (!command.report.empty()) write_file_atomically(command.report, html_summary(command.output[k], summary));
      continue;
    }
    std::vector<Explanation> answers;
    if (command.row >= 0) {
      answers.push_back(explainer.explain_row(kept_row(prepared, command.row, table.rows)));
      answers.back().row = command.row;
    } else {
      const Table queries = read_queries(command.query, table, prepared.table_columns);
      for (int64_t i = 0; i < queries.rows; ++i) {
        answers.push_back(explainer.explain(
            std::span(queries.values)
                .subspan(static_cast<size_t>(i) * prepared.features.size(), prepared.features.size())));
      }
    }
    for (const Explanation& answer : answers) {
      nlohmann::json item = to_json(answer, explainer.features());
      item["output_column"] = command.output[k];
      document["rows"].push_back(std::move(item));
      if (!command.json) print_text(answer, explainer, command.output[k]);
      if (!command.report.empty()) pages.push_back(html_section(explainer, answer, command.output[k]));
    }
    if (!reason.empty()) document["tuning"].push_back(reason);
  }
  if (!command.all && !command.report.empty())
    write_file_atomically(command.report, html_page(std::filesystem::path(command.data).filename().string(), pages));
  if (command.json) fmt::print("{}\n", document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

void add_explain(CLI::App& app) {
  const auto command = std::make_shared<ExplainCommand>();
  CLI::App* explain = app.add_subcommand("explain", "what drove a black box, from a table of its inputs and outputs");
  explain->add_option("DATA", command->data, "CSV file with a line of names, or .npy (columns x0, x1, ...)")
      ->required();
  explain->add_option("--output", command->output, "column(s) of the model's output; several: one explanation each")
      ->required()
      ->delimiter(',');
  explain->add_option("--row", command->row, "explain this row, 0-based")->check(CLI::NonNegativeNumber);
  explain->add_option("--query", command->query, "explain the rows of this CSV file (same columns)");
  explain->add_flag("--all", command->all, "explain every row into --out, with a summary");
  explain->add_option("--out", command->out, "with --all: file of JSON lines");
  explain->add_flag("--resume", command->resume, "with --all: continue an unfinished --out");
  explain->add_option("--ignore", command->ignore, "columns that are no features")->delimiter(',');
  explain->add_option("--categorical", command->categorical, "columns of numbers to read as categories")
      ->delimiter(',');
  explain->add_option("--continuous", command->continuous, "columns that must be numbers")->delimiter(',');
  explain->add_flag("--drop-missing", command->drop_missing,
                    "leave out rows with missing values instead of refusing them");
  explain->add_flag("--classification", command->classification, "outputs are probabilities");
  explain->add_flag("--compat", command->compat, "the published algorithm, exactly (log-odds moved by 1e-8 only)");
  explain->add_option("--estimator", command->estimator, "automatic, kernel, forest or published");
  explain->add_option("--neighbours", command->options.neighbours, "rows near the query that take part");
  explain->add_option("--degree", command->options.degree, "of the polynomial (published)");
  explain->add_option("--weights", command->weights, "linear or none (published)");
  explain->add_option("--importance", command->importance,
                      "gradient or difference; default: difference for --classification");
  explain->add_option("--deltas", command->deltas, "JSON file: step per continuous column");
  explain->add_option("--baselines", command->baselines, "JSON file: level per categorical column to compare with");
  explain->add_option("--replicates", command->options.replicates, "bootstrap refits (published)");
  explain->add_option("--ratio", command->options.ratio, "share of neighbours per refit (published)");
  explain->add_option("--level", command->options.level, "coverage of the intervals");
  explain->add_option("--interval", command->interval,
                      "conformal, percentile, basic, bca, studentised, delete-one or classical");
  explain->add_option("--clip", command->clip,
                      "probabilities are held this far from 0 and 1 before log-odds (published); 0: as published");
  explain->add_option("--seed", command->options.seed, "of everything random");
  explain->add_flag("--tune", command->tune,
                    "choose estimator, neighbours and degree by cross-validation, and say why");
  explain->add_option("--report", command->report, "self-contained HTML page to write");
  explain->add_flag("--json", command->json, "print JSON");
  explain->callback([command] { run_explain(*command); });
}

}  // namespace tessera::cli
