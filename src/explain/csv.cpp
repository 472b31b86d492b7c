#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <span>

#include "tessera/base/csv.h"
#include "tessera/base/error.h"
#include "tessera/base/mapped_file.h"
#include "tessera/explain/table.h"

namespace tessera::explain {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
constexpr double kStray = 0.1;       // share of texts up to which a column is one of numbers with mistakes in it
constexpr int64_t kIdentifier = 20;  // different values beyond which a column may be one of numbers or of identifiers

bool is_missing(std::string_view text) {
  return text.empty() || text == "NA" || text == "NaN" || text == "nan" || text == "null" || text == "?";
}

bool parse_number(std::string_view text, double& value) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  return status == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

// One column while it is read: numbers as long as every cell is one, and the texts as codes of a dictionary as long as
// they can still become categories.
struct ColumnReader {
  std::string name;
  int64_t most_levels = 0;
  bool numeric = true;
  std::string first_text;      // the first cell that is no number, and its row
  int64_t first_text_row = 0;  // 0-based
  int64_t text_cells = 0;      // neither numbers nor missing
  int64_t missing = 0;
  int64_t too_many_row = -1;  // 0-based, of the first cell beyond most_levels different texts
  bool too_many = false;      // far more texts than levels: the dictionary was given up
  std::vector<double> numbers;
  std::vector<int32_t> codes;
  std::map<std::string, int32_t, std::less<>> dictionary;

  void add(const std::string& text) {
    double value = kMissing;
    const bool gone = is_missing(text);
    if (gone) {
      ++missing;
    } else if (!parse_number(text, value)) {
      if (numeric) {
        first_text = text;
        first_text_row = static_cast<int64_t>(numbers.size());
      }
      numeric = false;
      ++text_cells;
    }
    if (!too_many) add_text(text, gone);
    numbers.push_back(value);
  }

 private:
  void add_text(const std::string& text, bool gone) {
    codes.push_back(gone ? -1 : dictionary.try_emplace(text, static_cast<int32_t>(dictionary.size())).first->second);
    const auto texts = static_cast<int64_t>(dictionary.size());
    if (texts > most_levels && too_many_row < 0) too_many_row = static_cast<int64_t>(numbers.size());
    if (texts / 4 <= most_levels) return;  // 1, 1.0 and 1.00 are three texts of one level
    too_many = true;
    codes = {};
    dictionary.clear();
  }
};

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool few_whole_numbers(const ColumnReader& column, int64_t limit) {
  std::set<double> seen;
  for (const double value : column.numbers) {
    if (std::isnan(value)) continue;
    if (value != std::floor(value)) return false;
    seen.insert(value);
    if (static_cast<int64_t>(seen.size()) > limit) return false;
  }
  return true;
}

// Levels ascending: by value when all are numbers (1 and 1.0 are one level), by text otherwise.
void make_categorical(const ColumnReader& source, Column& column, std::vector<double>& out, std::string_view file) {
  std::map<double, std::string> by_value;
  std::vector<std::string> by_text;
  for (const auto& [text, code] : source.dictionary) {
    double value = 0;
    if (source.numeric && parse_number(text, value)) {
      by_value.try_emplace(value + 0.0, text);
    } else {
      by_text.push_back(text);
    }
  }
  if (source.numeric) {
    for (const auto& [value, text] : by_value) column.levels.push_back(text);
  } else {
    column.levels = by_text;
  }
  if (source.too_many || static_cast<int64_t>(column.levels.size()) > source.most_levels) {
    throw Error(ErrorCode::limit_exceeded,
                "{}: column '{}' has more than {} different values by row {} (0-based, header not counted); so many "
                "categories are refused; is it an identifier to ignore?",
                file, source.name, source.most_levels, source.too_many_row);
  }
  std::vector<double> code_to_level(source.dictionary.size());
  for (const auto& [text, code] : source.dictionary) {
    double value = 0;
    if (source.numeric && parse_number(text, value)) {
      code_to_level[static_cast<size_t>(code)] =
          static_cast<double>(std::distance(by_value.begin(), by_value.find(value + 0.0)));
    } else {
      code_to_level[static_cast<size_t>(code)] =
          static_cast<double>(std::lower_bound(by_text.begin(), by_text.end(), text) - by_text.begin());
    }
  }
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = source.codes[i] < 0 ? kMissing : code_to_level[static_cast<size_t>(source.codes[i])];
}

// A stray text in a column of numbers is a mistake, and a column of almost as many categories as rows an identifier:
// neither is made categorical unasked.
void check_automatic(const ColumnReader& column, std::string_view file) {
  const auto present = static_cast<int64_t>(column.numbers.size()) - column.missing;
  std::set<double> different;
  for (const double value : column.numbers) {
    if (!std::isnan(value)) different.insert(value);
    if (std::ssize(different) > kIdentifier) break;
  }
  if (static_cast<double>(column.text_cells) < kStray * static_cast<double>(present) &&
      std::ssize(different) > kIdentifier) {
    throw Error(ErrorCode::bad_file,
                "{}: row {} (0-based, header not counted), column '{}': found '{}' in a column of numbers; correct it, "
                "or name the column in --categorical or --ignore",
                file, column.first_text_row, column.name, column.first_text);
  }
  const auto levels = static_cast<int64_t>(column.dictionary.size());
  if (levels <= column.most_levels && levels > kIdentifier && 2 * levels > present) {
    throw Error(
        ErrorCode::limit_exceeded,
        "{}: column '{}' has {} different categories in {} rows (row {} has '{}'), too few rows each to compare; "
        "is it an identifier? name it in --ignore, or in --categorical to keep it",
        file, column.name, levels, present, column.first_text_row, column.first_text);
  }
}

void check_names(const std::vector<std::string>& wanted, const std::vector<std::string>& header,
                 std::string_view name) {
  for (const std::string& column : wanted) {
    if (!contains(header, column))
      throw Error(ErrorCode::not_found, "{}: column '{}' is not in the table; its columns are {}", name, column,
                  fmt::join(std::span(header).subspan(0, std::min<size_t>(40, header.size())), ", "));
  }
}

std::vector<ColumnReader> read_columns(std::string_view text, std::string_view name, const ReadOptions& options,
                                       std::vector<std::string>& header) {
  CsvRecords reader(text, name);
  std::vector<std::string> fields;
  int64_t line = 0;
  if (!reader.next(header, line)) throw Error(ErrorCode::bad_file, "{}: empty; expected a line of column names", name);
  std::set<std::string> seen;
  for (const std::string& column : header) {
    if (column.empty()) throw Error(ErrorCode::bad_file, "{}: line 1: a column has no name", name);
    if (!seen.insert(column).second)
      throw Error(ErrorCode::bad_file, "{}: line 1: two columns are named '{}'", name, column);
  }
  std::vector<ColumnReader> columns(header.size());
  for (size_t j = 0; j < header.size(); ++j) {
    columns[j].name = header[j];
    columns[j].most_levels = options.max_levels;
    columns[j].too_many = contains(options.ignore, header[j]);
  }
  for (int64_t row = 0; reader.next(fields, line); ++row) {
    if (fields.size() != header.size()) {
      throw Error(ErrorCode::bad_file,
                  "{}: row {} (0-based, header not counted; line {}) has {} fields, expected {}: {}", name, row, line,
                  fields.size(), header.size(),
                  fields.size() < header.size() ? fmt::format("nothing for column '{}'", header[fields.size()])
                                                : fmt::format("more than the last column, '{}'", header.back()));
    }
    for (size_t j = 0; j < fields.size(); ++j) columns[j].add(fields[j]);
  }
  return columns;
}

}  // namespace

Table parse_csv(std::string_view text, std::string_view name, const ReadOptions& options) {
  std::vector<std::string> header;
  std::vector<ColumnReader> columns = read_columns(text, name, options, header);
  check_names(options.categorical, header, name);
  check_names(options.continuous, header, name);
  check_names(options.ignore, header, name);
  Table table;
  table.rows = columns.empty() ? 0 : static_cast<int64_t>(columns[0].numbers.size());
  table.columns.resize(columns.size());
  table.values.resize(static_cast<size_t>(table.rows) * columns.size());
  for (size_t j = 0; j < columns.size(); ++j) {
    ColumnReader& source = columns[j];
    Column& column = table.columns[j];
    column.name = source.name;
    column.missing = source.missing;
    const bool table_of_records = options.max_levels < std::numeric_limits<int64_t>::max();
    if (table_of_records && !source.numeric && !contains(options.categorical, source.name) &&
        !contains(options.continuous, source.name) && !contains(options.ignore, source.name)) {
      check_automatic(source, name);
    }
    if (contains(options.continuous, source.name) && !source.numeric) {
      throw Error(ErrorCode::bad_file,
                  "{}: row {} (0-based, header not counted), column '{}': expected a number, found '{}'", name,
                  source.first_text_row, source.name, source.first_text);
    }
    const bool categorical = !source.numeric || contains(options.categorical, source.name) ||
                             (!contains(options.continuous, source.name) && options.categorical_up_to > 0 &&
                              few_whole_numbers(source, options.categorical_up_to));
    column.kind = categorical ? ColumnKind::categorical : ColumnKind::continuous;
    if (categorical && !contains(options.ignore, source.name)) make_categorical(source, column, source.numbers, name);
    for (int64_t i = 0; i < table.rows; ++i) {
      table.values[static_cast<size_t>(i) * columns.size() + j] = source.numbers[static_cast<size_t>(i)];
    }
    source = {};
  }
  return table;
}

Table read_table(const std::filesystem::path& path, const ReadOptions& options) {
  const MappedFile file(path);
  if (path.extension() == ".npy") return parse_npy(file.bytes(), path.string(), options);
  return parse_csv({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path.string(), options);
}

Table read_queries(const std::filesystem::path& path, const Table& table, std::span<const int64_t> needed,
                   const std::vector<std::string>& names) {
  ReadOptions options;
  options.names = names;
  options.max_levels = std::numeric_limits<int64_t>::max();  // columns that are not needed may hold anything
  for (const int64_t j : needed) {
    const Column& column = table.columns[static_cast<size_t>(j)];
    (column.kind == ColumnKind::categorical ? options.categorical : options.continuous).push_back(column.name);
  }
  const Table source = read_table(path, options);
  Table result;
  result.rows = source.rows;
  result.values.resize(static_cast<size_t>(source.rows) * needed.size());
  for (size_t k = 0; k < needed.size(); ++k) {
    const Column& column = table.columns[static_cast<size_t>(needed[k])];
    result.columns.push_back(column);
    const int64_t from = source.column(column.name);
    const Column& read = source.columns[static_cast<size_t>(from)];
    for (int64_t i = 0; i < source.rows; ++i) {
      double value = source.at(i, from);
      if (std::isnan(value))
        throw Error(ErrorCode::invalid_argument,
                    "{}: row {} (0-based, header not counted), column '{}': the value is missing", path.string(), i,
                    column.name);
      if (column.kind == ColumnKind::categorical) {
        const std::string& level = read.levels[static_cast<size_t>(value)];
        const auto at = std::find(column.levels.begin(), column.levels.end(), level);
        if (at == column.levels.end()) {
          throw Error(
              ErrorCode::invalid_argument,
              "{}: row {} (0-based, header not counted), column '{}': the category '{}' never occurs in the table",
              path.string(), i, column.name, level);
        }
        value = static_cast<double>(at - column.levels.begin());
      }
      result.values[static_cast<size_t>(i) * needed.size() + k] = value;
    }
  }
  return result;
}

}  // namespace tessera::explain
