// The table of `tessera explain`: columns typed, outputs checked, missing values handled, indexed.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/explain_command.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::cli {
namespace {

using namespace tessera::explain;

constexpr int64_t kMostLevels = 500;     // every one of them is a contrast to answer
constexpr int64_t kLongIndex = 1000000;  // rows from which building an index is announced
constexpr double kSumToOne = 1e-3;       // classes: how far probabilities of a row may add up from one

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// One name per line or separated by commas.
std::vector<std::string> read_names(const std::string& path) {
  std::vector<std::string> names;
  std::string name;
  for (const char c : read_file(path) + "\n") {
    if (c != '\n' && c != ',' && c != '\r') {
      name += c;
    } else if (!name.empty()) {
      names.push_back(std::move(name));
      name.clear();
    }
  }
  if (names.empty()) throw Error(ErrorCode::bad_file, "{}: expected the names of the columns, found none", path);
  return names;
}

int64_t level_of(const Feature& feature, const nlohmann::json& value, const std::string& where) {
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  const auto at = std::find(feature.levels.begin(), feature.levels.end(), text);
  if (at == feature.levels.end()) {
    throw Error(ErrorCode::invalid_argument, "{}: column '{}' has no category '{}'; it has {}", where, feature.name,
                text,
                fmt::join(std::span(feature.levels).subspan(0, std::min<size_t>(10, feature.levels.size())), ", "));
  }
  return at - feature.levels.begin();
}

// {"age": 2, ...}: a step per continuous column; {"sex": "1", ...}: a baseline per categorical column.
void apply_values(const std::string& argument, Prepared& prepared, bool baselines) {
  if (argument.empty()) return;
  const std::string flag = baselines ? "--baselines" : "--deltas";
  const nlohmann::json values = json_argument(argument, flag);
  for (const auto& [name, value] : values.items()) {
    const auto at = std::find_if(prepared.features.begin(), prepared.features.end(),
                                 [&](const Feature& f) { return f.name == name; });
    if (at == prepared.features.end())
      throw Error(ErrorCode::not_found, "{}: '{}' is not a feature of the table", flag, name);
    const ColumnKind wanted = baselines ? ColumnKind::categorical : ColumnKind::continuous;
    if (at->kind != wanted) {
      throw Error(ErrorCode::invalid_argument, "{}: '{}' is {}; expected a {} column", flag, name, to_string(at->kind),
                  to_string(wanted));
    }
    if (baselines) {
      at->baseline = level_of(*at, value, flag);
      continue;
    }
    if (!value.is_number() || !(value.get<double>() > 0))
      throw Error(ErrorCode::invalid_argument, "{}: '{}' needs a positive number, found {}", flag, name, value.dump());
    at->delta = value.get<double>();
  }
}

bool suits_mapping(const ExplainCommand& command) {
  return std::filesystem::path(command.data).extension() == ".npy" && command.categorical.empty() &&
         command.quantiles.empty() && command.missing == "refuse" && MappedTable::suits(command.data);
}

void check_columns(const ExplainCommand& command, const Table& schema) {
  for (const auto* list : {&command.output, &command.ignore, &command.categorical, &command.continuous}) {
    for (const std::string& name : *list) (void)schema.column(name);
  }
  std::set<std::string> seen;
  for (const std::string& name : command.output) {
    if (contains(command.ignore, name))
      throw Error(ErrorCode::invalid_argument, "column '{}' is both --output and --ignore", name);
    if (!seen.insert(name).second) throw Error(ErrorCode::invalid_argument, "--output: '{}' is named twice", name);
  }
  for (const std::string& name : command.categorical) {
    if (contains(command.output, name))
      throw Error(ErrorCode::invalid_argument, "column '{}' is both --output and --categorical; an output is a number",
                  name);
  }
}

// Features are all columns that are neither outputs nor ignored.
void pick_features(const ExplainCommand& command, Prepared& prepared) {
  std::vector<std::string> automatic;
  for (size_t j = 0; j < prepared.schema.columns.size(); ++j) {
    const Column& column = prepared.schema.columns[j];
    if (contains(command.output, column.name) || contains(command.ignore, column.name)) continue;
    prepared.table_columns.push_back(static_cast<int64_t>(j));
    prepared.features.push_back({column.name, column.kind, column.levels, {}, {}});
    if (column.kind == ColumnKind::categorical && !contains(command.categorical, column.name))
      automatic.push_back(column.name);
  }
  if (!automatic.empty()) {
    prepared.remarks.push_back(fmt::format(
        "Read as categories because they hold text or at most {} whole numbers (--continuous overrides): {}.",
        command.categorical_up_to, fmt::join(automatic, ", ")));
  }
}

double median_of(const Table& table, int64_t column) {
  std::vector<double> values;
  for (int64_t i = 0; i < table.rows; ++i) {
    if (!std::isnan(table.at(i, column))) values.push_back(table.at(i, column));
  }
  if (values.empty()) return std::nan("");
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Missing cells of features: the median, or a category of their own.
void fill_missing(Table& table, Prepared& prepared) {
  std::vector<std::string> filled;
  for (size_t k = 0; k < prepared.features.size(); ++k) {
    const int64_t j = prepared.table_columns[k];
    Column& column = table.columns[static_cast<size_t>(j)];
    if (column.missing == 0) continue;
    double value = 0;
    if (column.kind == ColumnKind::categorical) {
      value = static_cast<double>(column.levels.size());
      column.levels.emplace_back("(missing)");
      prepared.features[k].levels = column.levels;
      prepared.schema.columns[static_cast<size_t>(j)].levels = column.levels;
      filled.push_back(fmt::format("{} of '{}' became the category '(missing)'", column.missing, column.name));
    } else {
      value = median_of(table, j);
      filled.push_back(fmt::format("{} of '{}' became its median {:.6g}", column.missing, column.name, value));
    }
    for (int64_t i = 0; i < table.rows; ++i) {
      double& cell = table.values[static_cast<size_t>(i) * table.columns.size() + static_cast<size_t>(j)];
      if (std::isnan(cell)) cell = value;
    }
  }
  if (!filled.empty())
    prepared.remarks.push_back(fmt::format("Missing values were filled: {}.", fmt::join(filled, "; ")));
}

std::vector<int64_t> complete_rows(const Table& table, const ExplainCommand& command, Prepared& prepared) {
  std::vector<int64_t> used = prepared.table_columns;
  for (const std::string& name : command.output) used.push_back(table.column(name));
  std::vector<int64_t> rows;
  std::map<int64_t, int64_t> missing_in;
  for (int64_t i = 0; i < table.rows; ++i) {
    int64_t missing = -1;
    for (const int64_t j : used) {
      if (std::isnan(table.at(i, j))) missing = missing < 0 ? j : missing;
    }
    if (missing < 0) {
      rows.push_back(i);
      continue;
    }
    if (command.missing == "refuse") {
      throw Error(ErrorCode::invalid_argument,
                  "{}: row {} (0-based, header not counted), column '{}': the value is missing; --missing drop leaves "
                  "such rows out, --missing fill replaces the values",
                  command.data, i, table.columns[static_cast<size_t>(missing)].name);
    }
    ++missing_in[missing];
  }
  const int64_t gone = table.rows - static_cast<int64_t>(rows.size());
  if (gone > 0) {
    std::vector<std::string> where;
    for (const auto& [column, count] : missing_in)
      where.push_back(fmt::format("{} for '{}'", count, table.columns[static_cast<size_t>(column)].name));
    prepared.remarks.push_back(fmt::format("{} of {} rows have missing values and are left out ({}).", gone, table.rows,
                                           fmt::join(where, ", ")));
  }
  if (rows.empty()) throw Error(ErrorCode::invalid_argument, "{}: no row without missing values is left", command.data);
  return rows;
}

void check_probabilities(const ExplainCommand& command, Prepared& prepared) {
  bool sum_to_one = prepared.outputs.size() > 1;
  for (int64_t i = 0; i < prepared.rows; ++i) {
    double sum = 0;
    for (const Output& output : prepared.outputs) {
      const double value = output.values[static_cast<size_t>(i)];
      if (!(value >= 0 && value <= 1)) {
        throw Error(ErrorCode::invalid_argument,
                    "{}: row {} (0-based, header not counted), column '{}': the output is {}; --classification expects "
                    "probabilities from 0 to 1",
                    command.data, prepared.original(i), output.name, value);
      }
      sum += value;
    }
    sum_to_one = sum_to_one && std::abs(sum - 1) <= kSumToOne;
  }
  prepared.classes = sum_to_one;
  if (prepared.outputs.size() > 1) {
    prepared.remarks.push_back(
        sum_to_one ? "The outputs add up to one in every row: they are explained as classes, each against the rest."
                   : "The outputs do not add up to one in every row: each is explained as a probability of its own.");
  }
}

bool varies(const Output& output) {
  if (std::isfinite(output.values.low)) return output.values.low < output.values.high;
  for (size_t i = 1; i < output.values.size(); ++i) {
    if (output.values[i] != output.values[0]) return true;
  }
  return false;
}

// One of several outputs may be constant (a quantile at zero); it raises flat-output.
void check_outputs_vary(const ExplainCommand& command, const Prepared& prepared) {
  if (std::any_of(prepared.outputs.begin(), prepared.outputs.end(), varies)) return;
  const Output& output = prepared.outputs.front();
  throw Error(
      ErrorCode::invalid_argument,
      "{}: column '{}': the output is {} in every row from {} to {}{}; nothing drives it, so there is nothing to "
      "explain",
      command.data, output.name, output.values[0], prepared.original(0), prepared.original(prepared.rows - 1),
      command.classification ? ", one class only" : "");
}

// Quantiles must not cross; what drives the spread between the outermost two is explained as one more output.
void check_quantiles(const ExplainCommand& command, Prepared& prepared) {
  const auto& levels = command.quantiles;
  if (levels.size() != prepared.outputs.size()) {
    throw Error(ErrorCode::invalid_argument, "--quantiles: {} levels for {} outputs; expected one each", levels.size(),
                prepared.outputs.size());
  }
  for (size_t k = 0; k < levels.size(); ++k) {
    if (!(levels[k] > 0 && levels[k] < 1) || (k > 0 && levels[k] <= levels[k - 1]))
      throw Error(ErrorCode::invalid_argument, "--quantiles: expected ascending numbers between 0 and 1, found {}",
                  fmt::join(levels, ","));
  }
  for (int64_t i = 0; i < prepared.rows; ++i) {
    for (size_t k = 1; k < prepared.outputs.size(); ++k) {
      const double below = prepared.outputs[k - 1].values[static_cast<size_t>(i)];
      const double here = prepared.outputs[k].values[static_cast<size_t>(i)];
      if (below > here) {
        throw Error(ErrorCode::invalid_argument,
                    "{}: row {} (0-based, header not counted): '{}' is {} and '{}' is {}; a higher quantile is never "
                    "smaller",
                    command.data, prepared.original(i), prepared.outputs[k - 1].name, below, prepared.outputs[k].name,
                    here);
      }
    }
  }
  if (prepared.outputs.size() < 2) return;
  const Output &first = prepared.outputs.front(), &last = prepared.outputs.back();
  std::vector<double> spread;
  for (size_t i = 0; i < static_cast<size_t>(prepared.rows); ++i) spread.push_back(last.values[i] - first.values[i]);
  const std::string name = last.name + " minus " + first.name;
  prepared.output_memory.push_back(std::move(spread));
  prepared.outputs.push_back({name, prepared.output_memory.back()});
  prepared.remarks.push_back("'" + name + "' is the spread of the quantiles, explained as an output of its own.");
}

std::shared_ptr<const TableIndex> build_index(const ExplainCommand& command, const Prepared& prepared,
                                              const IndexOptions& options) {
  try {
    return TableIndex::build(prepared.view, prepared.features, options);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    throw Error(error.code(), "{}: {}", command.data, error.what());
  }
}

void map_table(const ExplainCommand& command, Prepared& prepared) {
  prepared.mapped = std::make_unique<MappedTable>(command.data, prepared.names);
  prepared.rows = prepared.rows_in_file = prepared.mapped->rows();
  prepared.schema.rows = prepared.rows;
  for (const std::string& name : prepared.mapped->names())
    prepared.schema.columns.push_back({name, ColumnKind::continuous, {}, 0});
  check_columns(command, prepared.schema);
  pick_features(command, prepared);
  prepared.picked = prepared.table_columns;
  prepared.view = prepared.mapped->view(prepared.picked);
  IndexOptions options;
  options.file = command.index;
  for (const std::string& name : command.output) options.outputs.push_back(prepared.schema.column(name));
  if (command.index.empty() || !std::filesystem::exists(command.index)) {
    if (!command.index.empty() && prepared.rows >= kLongIndex)
      fmt::print(stderr, "building the index {} of {} rows\n", command.index, prepared.rows);
    prepared.index = build_index(command, prepared, options);
  } else {
    prepared.index = TableIndex::open(command.index, prepared.view, prepared.features);
  }
  for (size_t k = 0; k < command.output.size(); ++k)
    prepared.outputs.push_back({command.output[k], prepared.index->output(prepared.view, options.outputs[k])});
}

void read_whole_table(const ExplainCommand& command, Prepared& prepared) {
  ReadOptions reading;
  reading.categorical = command.categorical;
  reading.continuous = command.continuous;
  reading.names = prepared.names;
  reading.max_levels = kMostLevels;
  reading.ignore = command.ignore;
  for (const std::string& name : command.output) reading.continuous.push_back(name);
  reading.categorical_up_to = command.compat ? 0 : command.categorical_up_to;
  Table table = read_table(command.data, reading);
  prepared.schema.columns = table.columns;
  prepared.schema.rows = prepared.rows_in_file = table.rows;
  check_columns(command, prepared.schema);
  pick_features(command, prepared);
  if (table.rows == 0) throw Error(ErrorCode::bad_file, "{}: the table has no rows", command.data);
  if (command.missing == "fill") fill_missing(table, prepared);
  const std::vector<int64_t> rows = complete_rows(table, command, prepared);
  prepared.rows = static_cast<int64_t>(rows.size());
  prepared.inputs.reserve(rows.size() * prepared.features.size());
  prepared.output_memory.resize(command.output.size());
  prepared.output_memory.reserve(command.output.size() + 1);  // views point into it
  for (const int64_t i : rows) {
    for (const int64_t j : prepared.table_columns) prepared.inputs.push_back(table.at(i, j));
  }
  for (size_t k = 0; k < command.output.size(); ++k) {
    const int64_t column = table.column(command.output[k]);
    for (const int64_t i : rows) prepared.output_memory[k].push_back(table.at(i, column));
    prepared.outputs.push_back({command.output[k], prepared.output_memory[k]});
  }
  if (prepared.rows < table.rows) prepared.original_row = rows;
  prepared.view = {prepared.inputs.data(), nullptr, prepared.rows, static_cast<int64_t>(prepared.features.size())};
}

}  // namespace

nlohmann::json json_argument(const std::string& text, const std::string& flag) {
  nlohmann::json values;
  if (text.starts_with('{')) {
    values = parse_json(text, flag);
  } else if (text.find('=') != std::string::npos && !std::filesystem::exists(text)) {
    values = nlohmann::json::object();
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      const std::string pair = text.substr(begin, end - begin);
      const size_t equals = pair.find('=');
      if (equals == std::string::npos || equals == 0)
        throw Error(ErrorCode::invalid_argument, "{}: expected column=value, found '{}'", flag, pair);
      const std::string value = pair.substr(equals + 1);
      const nlohmann::json number = nlohmann::json::parse(value, nullptr, false);
      values[pair.substr(0, equals)] = number.is_number() ? number : nlohmann::json(value);
      begin = end + 1;
    }
  } else {
    values = read_json(text);
  }
  if (!values.is_object()) throw Error(ErrorCode::bad_file, "{}: expected an object of columns and values", flag);
  return values;
}

std::unique_ptr<Prepared> prepare_table(const ExplainCommand& command) {
  auto prepared = std::make_unique<Prepared>();
  if (!command.names.empty()) {
    if (std::filesystem::path(command.data).extension() != ".npy")
      throw Error(ErrorCode::invalid_argument, "--names: only .npy files need names; {} has its own", command.data);
    prepared->names = read_names(command.names);
  }
  if (suits_mapping(command)) {
    map_table(command, *prepared);
  } else {
    if (!command.index.empty()) {
      throw Error(ErrorCode::invalid_argument,
                  "--index: expected an .npy file of float32 or float64 in C order, read as numbers; {} is not mapped",
                  command.data);
    }
    read_whole_table(command, *prepared);
  }
  if (prepared->features.empty())
    throw Error(ErrorCode::invalid_argument, "{}: no column is left as a feature", command.data);
  apply_values(command.deltas, *prepared, false);
  apply_values(command.baselines, *prepared, true);
  const bool ranges_known = prepared->mapped != nullptr && prepared->outputs.size() == 1;
  if (command.classification && !ranges_known) check_probabilities(command, *prepared);
  check_outputs_vary(command, *prepared);
  if (command.neighbours_given && prepared->rows < command.options.neighbours) {
    throw Error(
        ErrorCode::invalid_argument,
        "{}: the table has {} usable rows (the last is row {}), fewer than the {} of --neighbours; ask for at most {}",
        command.data, prepared->rows, prepared->original(prepared->rows - 1), command.options.neighbours,
        prepared->rows);
  }
  if (!command.quantiles.empty()) check_quantiles(command, *prepared);
  if (!prepared->index) {
    prepared->index = build_index(command, *prepared, {});
  }
  return prepared;
}

}  // namespace tessera::cli
