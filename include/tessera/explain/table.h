// Tables of logged inputs and outputs.
//
//   const Table table = read_table("records.csv", {.categorical = {"sex"}});
//   const int64_t output = table.column("model_output");
//
// A column is continuous (numbers) or categorical (codes 0..C-1 that index `levels`, ascending). Readers throw
// Error(bad_file) naming row and column (both one-based, the header is row 1 of a CSV file); a missing cell is NaN.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::explain {

enum class ColumnKind { continuous, categorical };

// "continuous" or "categorical".
const char* to_string(ColumnKind kind);

struct Column {
  std::string name;
  ColumnKind kind = ColumnKind::continuous;
  std::vector<std::string> levels;  // categorical only: the name of code i, ascending (numbers by value, else by text)
  int64_t missing = 0;              // cells that were empty or one of NA, NaN, null, ?
};

// Borrowed rows x columns numbers, row-major, in float64 or float32 (exactly one pointer is set).
struct TableView {
  const double* f64 = nullptr;
  const float* f32 = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;

  double at(int64_t row, int64_t column) const {
    const int64_t offset = row * columns + column;
    return f64 != nullptr ? f64[offset] : static_cast<double>(f32[offset]);
  }
};

struct Table {
  std::vector<Column> columns;
  int64_t rows = 0;
  std::vector<double> values;  // [rows, columns.size()]

  TableView view() const { return {values.data(), nullptr, rows, static_cast<int64_t>(columns.size())}; }
  double at(int64_t row, int64_t column) const {
    return values[static_cast<size_t>(row * static_cast<int64_t>(columns.size()) + column)];
  }
  // Index of the column of that name. Throws Error(not_found) with the names that exist.
  int64_t column(std::string_view name) const;
};

struct ReadOptions {
  std::vector<std::string> categorical = {};  // columns to read as categories, whatever they hold
  std::vector<std::string> continuous = {};   // columns that must hold numbers
  // Columns of text are always categorical. Columns of numbers are continuous, unless named above or unless
  // `categorical_up_to` > 0 and they hold at most that many different whole numbers.
  int64_t categorical_up_to = 0;
  int64_t max_levels = 10000;  // more levels than this in one categorical column are an error
};

// Reads comma-separated text (RFC 4180: quotes, doubled quotes, CRLF; first line: names) or, for a path ending in .npy,
// a two-dimensional little-endian float32, float64, int32 or int64 array in C order (columns are named x0, x1, ...).
Table read_table(const std::filesystem::path& path, const ReadOptions& options = {});

// The same from memory; `name` stands for the file in messages.
Table parse_csv(std::string_view text, std::string_view name, const ReadOptions& options = {});
Table parse_npy(std::span<const std::byte> bytes, std::string_view name, const ReadOptions& options = {});

// Reads a query file against the columns of an existing table: same names in any order, extra columns are ignored,
// categories must be known. Throws Error(invalid_argument) for a missing column or an unseen category, naming both.
Table read_queries(const std::filesystem::path& path, const Table& table, std::span<const int64_t> needed);

}  // namespace tessera::explain
