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
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {
class MappedFile;
}

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

// What is explained: one column of the inputs.
struct Feature {
  std::string name;
  ColumnKind kind = ColumnKind::continuous;
  std::vector<std::string> levels;  // categorical: the name of code i
  std::optional<int64_t> baseline;  // categorical: code to compare with; default: the most frequent
  std::optional<double> delta;      // continuous: full step of a difference; default: half the standard deviation
};

// Borrowed rows x columns numbers, row-major, in float64 or float32 (exactly one pointer is set). A view may show some
// columns of a wider table: `width` numbers per stored row, of which column j is number picked[j].
struct TableView {
  const double* f64 = nullptr;
  const float* f32 = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t width = 0;                // numbers per stored row; 0: columns
  const int64_t* picked = nullptr;  // [columns], each below width; null: the first `columns`

  double at(int64_t row, int64_t column) const {
    const int64_t offset = row * (width == 0 ? columns : width) + (picked == nullptr ? column : picked[column]);
    return f64 != nullptr ? f64[offset] : static_cast<double>(f32[offset]);
  }
};

// Borrowed numbers, one per row: a vector, or one column of a wider row-major table.
class ColumnView {
 public:
  ColumnView() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): a vector of outputs is a column.
  ColumnView(std::span<const double> values) : f64_(values.data()), rows_(values.size()) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  ColumnView(const std::vector<double>& values) : f64_(values.data()), rows_(values.size()) {}
  // Column `column` of `table` (an index into what is stored: `picked` is not applied).
  ColumnView(const TableView& table, int64_t column)
      : f64_(table.f64 == nullptr ? nullptr : table.f64 + column),
        f32_(table.f32 == nullptr ? nullptr : table.f32 + column),
        rows_(static_cast<size_t>(table.rows)),
        stride_(static_cast<size_t>(table.width == 0 ? table.columns : table.width)) {}

  size_t size() const { return rows_; }
  double operator[](size_t row) const {
    return f64_ != nullptr ? f64_[row * stride_] : static_cast<double>(f32_[row * stride_]);
  }
  std::vector<double> copy() const {
    std::vector<double> values(rows_);
    for (size_t i = 0; i < rows_; ++i) values[i] = (*this)[i];
    return values;
  }

  // Smallest and largest value when the caller knows them; NaN: the explainer reads every row to check them.
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();

 private:
  const double* f64_ = nullptr;
  const float* f32_ = nullptr;
  size_t rows_ = 0;
  size_t stride_ = 1;
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
  // More levels than this in one categorical column are an error. The largest value also takes columns of stray texts
  // or identifiers for categories, which are otherwise refused unless they are named in `categorical`.
  int64_t max_levels = 10000;
  std::vector<std::string> ignore = {};  // columns nobody will look at: no levels are made
  std::vector<std::string> names = {};   // .npy: of the columns; default x0, x1, ...
};

// Reads comma-separated text (RFC 4180: quotes, doubled quotes, CRLF; first line: names) or, for a path ending in .npy,
// a two-dimensional little-endian float32, float64, int32 or int64 array in C or Fortran order.
Table read_table(const std::filesystem::path& path, const ReadOptions& options = {});

// The same from memory; `name` stands for the file in messages.
Table parse_csv(std::string_view text, std::string_view name, const ReadOptions& options = {});
Table parse_npy(std::span<const std::byte> bytes, std::string_view name, const ReadOptions& options = {});

// Reads a query file against the columns of an existing table: same names in any order, extra columns are ignored,
// categories must be known; names: of the columns of an .npy file. Throws Error(invalid_argument) for a missing column
// or an unseen category, naming both.
Table read_queries(const std::filesystem::path& path, const Table& table, std::span<const int64_t> needed,
                   const std::vector<std::string>& names = {});

// A .npy file of float32 or float64 numbers in C order, mapped and not read: for tables larger than memory is happy
// with.
//
//   const MappedTable table("records.npy");
//   const std::vector<int64_t> features = {0, 1, 2};
//   Explainer explainer(table.view(features), table.column(3), ...);
//
// Categories must already be codes 0..C-1. Throws as parse_npy does.
class MappedTable {
 public:
  explicit MappedTable(const std::filesystem::path& path, const std::vector<std::string>& names = {});
  ~MappedTable();

  // Whether the file is an array that can be mapped (it is checked; a damaged one throws).
  static bool suits(const std::filesystem::path& path);

  int64_t rows() const { return whole_.rows; }
  const std::vector<std::string>& names() const { return names_; }
  TableView whole() const { return whole_; }
  // Some of its columns; `picked` must outlive the view.
  TableView view(std::span<const int64_t> picked) const;
  ColumnView column(int64_t index) const { return {whole_, index}; }

 private:
  std::unique_ptr<MappedFile> file_;
  std::vector<std::string> names_;
  TableView whole_;
};

}  // namespace tessera::explain
