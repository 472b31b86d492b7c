// The parts of `tessera explain`: what was asked, the table it is asked of, and the whole-table run.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tessera/explain/explain.h"
#include "tessera/explain/summary.h"
#include "tessera/explain/table.h"

namespace tessera::cli {

struct ExplainCommand {
  std::string data;
  std::vector<std::string> output, categorical, continuous, ignore;
  std::vector<int64_t> row;
  std::string query, deltas, baselines, names, out, report, index;
  std::vector<double> quantiles;
  std::string estimator = "automatic", weights = "linear", importance, interval, missing = "refuse";
  bool all = false, classification = false, compat = false, tune = false, json = false, drop_missing = false,
       resume = false, neighbours_given = false;
  int64_t categorical_up_to = 2;  // whole numbers with at most this many values are read as categories
  explain::Options options;
  double clip = -1;
};

struct Output {
  std::string name;
  explain::ColumnView values;
};

// The table after dropping columns and rows, as the explainer wants it.
struct Prepared {
  std::vector<explain::Feature> features;
  std::vector<Output> outputs;
  explain::TableView view;
  int64_t rows = 0;
  std::shared_ptr<const explain::TableIndex> index;
  explain::Table schema;               // names, kinds and levels of all columns (no values): for queries
  std::vector<int64_t> table_columns;  // of each feature
  std::vector<int64_t> original_row;   // of each row kept; empty: the same
  int64_t rows_in_file = 0;
  std::vector<std::string> remarks;  // what was decided about the table, in plain sentences
  std::vector<std::string> names;    // of an .npy file's columns
  bool classes = false;              // the outputs are probabilities of classes that exclude each other

  // Owners of the views.
  std::unique_ptr<explain::MappedTable> mapped;
  std::vector<int64_t> picked;
  std::vector<double> inputs;
  std::vector<std::vector<double>> output_memory;

  int64_t original(int64_t row) const { return original_row.empty() ? row : original_row[static_cast<size_t>(row)]; }
};

// Reads, types, checks. Throws Error naming file, row and column.
std::unique_ptr<Prepared> prepare_table(const ExplainCommand& command);

// "{...}" is JSON, "age=2,sex=1" pairs, anything else a JSON file.
nlohmann::json json_argument(const std::string& text, const std::string& flag);

// Explains every row of every output in order, one JSON line each; a restarted run continues after the last whole line.
std::vector<explain::Summary> explain_all(const ExplainCommand& command, const Prepared& prepared,
                                          const std::vector<std::unique_ptr<explain::Explainer>>& explainers);

// One line of --all, one entry of "rows".
nlohmann::json answer_json(const explain::Explanation& answer, const explain::Explainer& explainer,
                           const std::string& output);

// For people, on standard output.
void print_answer(const explain::Explanation& answer, const explain::Explainer& explainer, const std::string& output);
// One importance per feature and output of one row, side by side.
void print_side_by_side(const std::vector<explain::Explanation>& answers, const Prepared& prepared);
void print_summary(const nlohmann::json& summary);

std::string dumped(const nlohmann::json& value, int indent = -1);

}  // namespace tessera::cli
