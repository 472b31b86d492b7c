// tessera explain: what drove a black box, from a table of its inputs and outputs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/explain_command.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/interrupt.h"
#include "tessera/explain/report.h"
#include "tessera/explain/tune.h"

namespace tessera::cli {
namespace {

using namespace tessera::explain;

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
  if (command.compat) options.under_determined = UnderDetermined::minimum_norm;
  if (command.clip >= 0) options.clip = command.clip;
  return options;
}

// Everything that can be known to be wrong before the table is read.
void check_command(const ExplainCommand& command) {
  if ((command.row.empty() ? 0 : 1) + (command.query.empty() ? 0 : 1) + (command.all ? 1 : 0) != 1)
    throw Error(ErrorCode::invalid_argument, "explain: expected exactly one of --row, --query and --all");
  for (const int64_t row : command.row) {
    if (row < 0) throw Error(ErrorCode::invalid_argument, "--row: rows are counted from 0, found {}", row);
  }
  if (command.categorical_up_to < 0) {
    throw Error(ErrorCode::invalid_argument, "--categorical-up-to: expected 0 or more, found {}",
                command.categorical_up_to);
  }
  if (command.all && command.out.empty())
    throw Error(ErrorCode::invalid_argument, "--all: expected --out FILE.jsonl to write one line per row to");
  if (!command.all && (!command.out.empty() || command.resume))
    throw Error(ErrorCode::invalid_argument, "--out and --resume belong to --all");
  if (!command.quantiles.empty() && command.classification)
    throw Error(ErrorCode::invalid_argument,
                "--quantiles: outputs are either quantiles or, with --classification, "
                "probabilities");
  if (command.missing != "refuse" && command.missing != "drop" && command.missing != "fill")
    throw Error(ErrorCode::invalid_argument, "--missing: expected refuse, drop or fill, found '{}'", command.missing);
  const double level = command.options.level;
  if (options_of(command).estimator == Estimator::published && level > 0 && level < 1) {
    const auto fewest = static_cast<int64_t>(std::ceil(2 / (1 - level) - 1e-6));
    if (command.options.replicates < fewest) {
      throw Error(ErrorCode::invalid_argument, "--replicates: intervals of level {:g} need at least {}, found {}",
                  level, fewest, command.options.replicates);
    }
  }
  for (const std::string& path : {command.report, command.out}) {
    const auto folder = std::filesystem::path(path).parent_path();
    if (!folder.empty() && !std::filesystem::is_directory(folder))
      throw Error(ErrorCode::not_found, "{}: the folder {} does not exist", path, folder.string());
  }
}

// Row of the prepared table that was `original` in the file.
int64_t kept_row(const Prepared& prepared, int64_t original) {
  if (original >= prepared.rows_in_file) {
    throw Error(ErrorCode::invalid_argument, "--row {}: the table has rows 0 to {}", original,
                prepared.rows_in_file - 1);
  }
  if (prepared.original_row.empty()) return original;
  const auto at = std::lower_bound(prepared.original_row.begin(), prepared.original_row.end(), original);
  if (at == prepared.original_row.end() || *at != original)
    throw Error(ErrorCode::invalid_argument, "--row {}: this row has missing values and was left out", original);
  return at - prepared.original_row.begin();
}

struct Explainers {
  std::vector<std::unique_ptr<Explainer>> made;  // one per output
  std::vector<std::string> remarks;
};

// Kept beside the index of a large table, by output: what learning its kernel gave.
std::filesystem::path learned_file(const ExplainCommand& command) { return command.index + ".learned"; }

nlohmann::json read_learned(const ExplainCommand& command) {
  if (command.index.empty() || !std::filesystem::exists(learned_file(command))) return nlohmann::json::object();
  const nlohmann::json kept = nlohmann::json::parse(read_file(learned_file(command)), nullptr, false);
  return kept.is_object() ? kept : nlohmann::json::object();
}

void keep_learned(const ExplainCommand& command, const Prepared& prepared, const Explainers& explainers) {
  if (command.index.empty()) return;
  const nlohmann::json before = read_learned(command);
  nlohmann::json now = before;
  for (size_t k = 0; k < explainers.made.size(); ++k) {
    const std::string learned = explainers.made[k]->learned();
    if (!learned.empty()) now[prepared.outputs[k].name] = learned;
  }
  if (now != before) write_file_atomically(learned_file(command), now.dump());
}

Explainers make_explainers(const ExplainCommand& command, const Prepared& prepared) {
  Explainers result;
  const nlohmann::json kept = read_learned(command);
  for (const Output& output : prepared.outputs) {
    Options options = options_of(command);
    const std::string about = prepared.outputs.size() > 1 ? output.name + ": " : "";
    const auto before = kept.find(output.name);
    const std::string learned = before != kept.end() && before->is_string() ? before->get<std::string>() : "";
    try {
      if (command.tune) {
        const Tuning tuning = tune(prepared.view, output.values, prepared.features, options);
        options = tuning.options;
        result.remarks.push_back(about + tuning.reason);
      }
      result.made.push_back(std::make_unique<Explainer>(prepared.view, output.values, prepared.features, options,
                                                        prepared.index, learned));
    } catch (const Error& error) {
      throw Error(error.code(), "{}: output '{}': {}", command.data, output.name, error.what());
    }
    if (options.estimator == Estimator::automatic)
      result.remarks.push_back(about + "Estimator: " + result.made.back()->choice() + ".");
  }
  return result;
}

// Local predictions of quantiles that cross are put in order (rearrangement: Chernozhukov, Fernandez-Val, Galichon
// 2010).
void keep_quantiles_ordered(std::span<Explanation> answers) {
  std::vector<double> predictions;
  for (const Explanation& answer : answers) predictions.push_back(answer.prediction);
  if (std::is_sorted(predictions.begin(), predictions.end())) return;
  std::sort(predictions.begin(), predictions.end());
  for (size_t k = 0; k < answers.size(); ++k) {
    answers[k].prediction = predictions[k];
    answers[k].warnings.push_back({Warning::quantile_crossing,
                                   "The local fits of the quantiles cross here; their predictions were put in order."});
  }
}

nlohmann::json document_of(const ExplainCommand& command, const Prepared& prepared, const Explainers& explainers) {
  nlohmann::json document = {
      {"data", command.data}, {"rows", nlohmann::json::array()}, {"remarks", nlohmann::json::array()}};
  for (const auto* remarks : {&prepared.remarks, &explainers.remarks})
    for (const std::string& remark : *remarks) document["remarks"].push_back(remark);
  const Options& options = explainers.made.front()->options();
  document["settings"] = {{"level", options.level},
                          {"interval", to_string(options.interval)},
                          {"importance", options.importance == ImportanceKind::gradient ? "gradient" : "difference"},
                          {"classification", options.classification},
                          {"seed", options.seed},
                          {"rows", prepared.rows},
                          {"rows_left_out", prepared.rows_in_file - prepared.rows}};
  if (!command.quantiles.empty()) document["settings"]["quantiles"] = command.quantiles;
  if (prepared.outputs.size() > 1) document["settings"]["classes"] = prepared.classes;
  return document;
}

void explain_points(const ExplainCommand& command, const Prepared& prepared, const Explainers& explainers,
                    const Table& queries, nlohmann::json& document) {
  std::vector<std::string> sections;
  const int64_t count = command.query.empty() ? static_cast<int64_t>(command.row.size()) : queries.rows;
  for (int64_t i = 0; i < count; ++i) {
    throw_if_interrupted();
    std::vector<Explanation> answers;
    for (const auto& explainer : explainers.made) {
      if (command.query.empty()) {
        answers.push_back(explainer->explain_row(kept_row(prepared, command.row[static_cast<size_t>(i)])));
        answers.back().row = command.row[static_cast<size_t>(i)];
      } else {
        const size_t width = prepared.features.size();
        answers.push_back(explainer->explain(std::span(queries.values).subspan(static_cast<size_t>(i) * width, width)));
      }
    }
    if (!command.quantiles.empty()) keep_quantiles_ordered(std::span(answers).first(command.quantiles.size()));
    if (!command.json && i > 0) fmt::print("\n");
    if (!command.json && !command.query.empty()) fmt::print("query {}\n", i);
    if (!command.json && answers.size() > 1) print_side_by_side(answers, prepared);
    if (!command.report.empty() && answers.size() > 1) {
      SideBySide outputs{prepared.features, answers, {}, prepared.classes};
      for (const Output& output : prepared.outputs) outputs.names.push_back(output.name);
      sections.push_back(html_side_by_side(
          outputs, command.query.empty() ? fmt::format("Row {}", answers[0].row) : fmt::format("Query {}", i)));
    }
    for (size_t k = 0; k < answers.size(); ++k) {
      const std::string& name = prepared.outputs[k].name;
      nlohmann::json item = answer_json(answers[k], *explainers.made[k], name);
      if (!command.query.empty()) item["query"] = i;
      document["rows"].push_back(std::move(item));
      if (!command.json) print_answer(answers[k], *explainers.made[k], name);
      const std::string title = command.query.empty() ? name : fmt::format("{}, query {}", name, i);
      if (!command.report.empty()) sections.push_back(html_section(*explainers.made[k], answers[k], title));
    }
  }
  if (!command.report.empty()) {
    write_file_atomically(command.report, html_page(std::filesystem::path(command.data).filename().string(), sections,
                                                    document["remarks"].get<std::vector<std::string>>()));
  }
}

void explain_table(const ExplainCommand& command, const Prepared& prepared, const Explainers& explainers,
                   nlohmann::json& document) {
  const std::vector<Summary> summaries = explain_all(command, prepared, explainers.made);
  std::vector<std::string> sections;
  document.erase("rows");
  document["lines"] = command.out;
  document["summary"] = nlohmann::json::array();
  for (const Summary& summary : summaries) {
    document["summary"].push_back(summary.to_json());
    if (!command.json) print_summary(document["summary"].back());
    sections.push_back(html_summary(document["summary"].back()));
  }
  if (!command.report.empty()) {
    write_file_atomically(command.report, html_page(std::filesystem::path(command.data).filename().string(), sections,
                                                    document["remarks"].get<std::vector<std::string>>()));
  }
}

void run_explain(ExplainCommand& command) {
  if (command.drop_missing) command.missing = "drop";
  check_command(command);
  const std::unique_ptr<Prepared> prepared = prepare_table(command);
  for (const int64_t row : command.row) (void)kept_row(*prepared, row);
  Table queries;
  if (!command.query.empty()) {
    queries = read_queries(command.query, prepared->schema, prepared->table_columns, prepared->names);
    if (queries.rows == 0) throw Error(ErrorCode::bad_file, "{}: no row to explain", command.query);
  }
  const Explainers explainers = make_explainers(command, *prepared);
  nlohmann::json document = document_of(command, *prepared, explainers);
  if (!command.json) {
    for (const auto& remark : document["remarks"]) fmt::print("{}\n", remark.get<std::string>());
  }
  if (command.all) {
    explain_table(command, *prepared, explainers, document);
  } else {
    explain_points(command, *prepared, explainers, queries, document);
  }
  keep_learned(command, *prepared, explainers);
  if (command.json) fmt::print("{}\n", dumped(document, 2));
}

}  // namespace

void add_explain(CLI::App& app) {
  const auto command = std::make_shared<ExplainCommand>();
  CLI::App* explain = app.add_subcommand("explain", "what drove a black box, from a table of its inputs and outputs");
  explain->add_option("DATA", command->data, "CSV file with a line of names, or .npy (columns x0, x1, ...)")
      ->required();
  explain
      ->add_option(
          "--output", command->output,
          "column(s) of the model's output; several: one explanation each (classes of a classifier, quantiles)")
      ->required()
      ->delimiter(',');
  explain->add_option("--row", command->row, "explain these rows, 0-based")->delimiter(',');
  explain->add_option("--query", command->query, "explain the rows of this CSV or .npy file (same columns)");
  explain->add_flag("--all", command->all, "explain every row into --out, with a summary");
  explain->add_option("--out", command->out, "with --all: file of JSON lines");
  explain->add_flag("--resume", command->resume, "with --all: continue an unfinished --out");
  explain->add_option("--ignore", command->ignore, "columns that are no features")->delimiter(',');
  explain->add_option("--categorical", command->categorical, "columns of numbers to read as categories")
      ->delimiter(',');
  explain->add_option("--continuous", command->continuous, "columns that must be numbers")->delimiter(',');
  explain->add_option("--categorical-up-to", command->categorical_up_to,
                      "columns of whole numbers with at most this many values are read as categories; 0: none "
                      "(as with --compat)");
  explain->add_option("--missing", command->missing,
                      "refuse tables with missing values, drop their rows, or fill (median; a category of its own)");
  explain->add_flag("--drop-missing", command->drop_missing, "the same as --missing drop");
  explain->add_option("--names", command->names, "file of the column names of an .npy table, one per line");
  explain->add_option("--index", command->index,
                      "file that keeps the search index of an .npy table of floats; made when it does not exist");
  explain
      ->add_option("--quantiles", command->quantiles,
                   "levels of the outputs, ascending: they are quantiles of one quantity")
      ->delimiter(',');
  explain->add_flag("--classification", command->classification, "outputs are probabilities");
  explain->add_flag("--compat", command->compat, "the published algorithm, exactly (log-odds moved by 1e-8 only)");
  explain->add_option("--estimator", command->estimator, "automatic, kernel, forest or published");
  const CLI::Option* neighbours = explain->add_option("--neighbours", command->options.neighbours,
                                                      "rows near the query that take part; default: 150, or all of a "
                                                      "smaller table");
  explain->add_option("--degree", command->options.degree, "of the polynomial (published)");
  explain->add_option("--weights", command->weights, "linear or none (published)");
  explain->add_option("--importance", command->importance,
                      "gradient or difference; default: difference for --classification");
  explain->add_option("--deltas", command->deltas,
                      "step per continuous column: JSON file, {\"age\": 2} or age=2,height=1");
  explain->add_option("--baselines", command->baselines,
                      "level per categorical column to compare with: JSON file, {...} or sex=1");
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
  explain->fallthrough();  // --threads
  explain->footer("--threads T, before or after the command, sets the number of threads; answers do not depend on it.");
  explain->callback([command, neighbours] {
    command->neighbours_given = neighbours->count() > 0;
    run_explain(*command);
  });
}

}  // namespace tessera::cli
