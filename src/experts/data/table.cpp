#include "experts/data/table.h"

#include <charconv>
#include <cmath>

#include "tessera/base/csv.h"
#include "tessera/base/error.h"

namespace tessera::experts {

bool is_npy(std::string_view bytes) { return bytes.starts_with("\x93NUMPY"); }

CsvTable parse_csv_table(std::string_view text, std::string_view name) {
  CsvTable table;
  CsvRecords records(text, name);
  int64_t line = 0;
  if (!records.next(table.header, line)) {
    throw Error(ErrorCode::bad_file, "{}: expected a first line of column names, found an empty file", name);
  }
  std::vector<std::string> fields;
  while (records.next(fields, line)) {
    if (fields.size() != table.header.size()) {
      throw Error(ErrorCode::bad_file, "{}: row {} has {} fields; the first row names {} columns", name, line,
                  fields.size(), table.header.size());
    }
    table.rows.push_back(fields);
    table.lines.push_back(line);
  }
  return table;
}

bool holds_values(const std::vector<std::string>& first_line) {
  bool from_zero = true, from_one = true;
  for (size_t k = 0; k < first_line.size(); ++k) {
    const std::string& text = first_line[k];
    float value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || status != std::errc() || end != text.data() + text.size()) return false;
    from_zero = from_zero && text == std::to_string(k);
    from_one = from_one && text == std::to_string(k + 1);
  }
  return !from_zero && !from_one;
}

void header_to_row(CsvTable& table) {
  table.rows.insert(table.rows.begin(), table.header);
  table.lines.insert(table.lines.begin(), 1);
  for (size_t k = 0; k < table.header.size(); ++k) table.header[k] = std::to_string(k);
}

float csv_number(const std::string& text, std::string_view name, int64_t line, const std::string& column) {
  float value = 0;
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, status] = std::from_chars(begin, text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    throw Error(ErrorCode::bad_file, "{}: row {}, column '{}': expected a number, found '{}'", name, line, column,
                text.substr(0, 60));
  }
  return value;
}

Matrix parse_matrix(std::string_view bytes, std::string_view name) {
  if (is_npy(bytes)) {
    Matrix matrix = parse_npy(bytes, name);
    for (size_t k = 0; k < matrix.values.size(); ++k) {
      if (std::isfinite(matrix.values[k])) continue;
      const auto columns = static_cast<size_t>(matrix.columns);
      throw Error(ErrorCode::bad_file, "{}: row {}, column {}: expected a finite number, found {}", name, k / columns,
                  k % columns, matrix.values[k]);
    }
    return matrix;
  }
  CsvTable table = parse_csv_table(bytes, name);
  if (holds_values(table.header)) header_to_row(table);
  Matrix matrix{.rows = static_cast<int64_t>(table.rows.size()), .columns = static_cast<int64_t>(table.header.size())};
  for (size_t i = 0; i < table.rows.size(); ++i) {
    for (size_t j = 0; j < table.header.size(); ++j) {
      matrix.values.push_back(csv_number(table.rows[i][j], name, table.lines[i], table.header[j]));
    }
  }
  return matrix;
}

}  // namespace tessera::experts
