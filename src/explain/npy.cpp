// NumPy's format, version 1.0 to 3.0: "\x93NUMPY", major, minor, header length (2 or 4 bytes, little endian), a Python
// literal
// {'descr': '<f8', 'fortran_order': False, 'shape': (rows, columns), }, then the numbers.
#include <cmath>
#include <cstring>
#include <limits>
#include <regex>
#include <set>

#include "tessera/base/error.h"
#include "tessera/explain/table.h"

namespace tessera::explain {
namespace {

struct Header {
  std::string type;
  int64_t rows = 0;
  int64_t columns = 0;
  size_t offset = 0;
};

Header read_header(std::span<const std::byte> bytes, std::string_view name) {
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  if (bytes.size() < 12 || std::memcmp(text, "\x93NUMPY", 6) != 0) {
    throw Error(ErrorCode::bad_file, "{}: expected a NumPy array, found another format", name);
  }
  const bool wide = text[6] >= 2;
  uint32_t length = 0;
  std::memcpy(&length, text + 8, wide ? 4 : 2);
  Header header;
  header.offset = (wide ? 12U : 10U) + static_cast<size_t>(length);
  if (length > 65536 || header.offset > bytes.size())
    throw Error(ErrorCode::bad_file, "{}: the NumPy header is cut off", name);
  const std::string literal(text + (wide ? 12 : 10), length);
  std::smatch match;
  static const std::regex pattern(
      R"('descr':\s*'([^']*)'.*'fortran_order':\s*(True|False).*'shape':\s*\((\d{1,15}),\s*(\d{1,9}),?\s*\))");
  if (!std::regex_search(literal, match, pattern)) {
    throw Error(ErrorCode::unsupported, "{}: expected a two-dimensional NumPy array of numbers", name);
  }
  if (match[2] == "True")
    throw Error(ErrorCode::unsupported, "{}: the NumPy array is in Fortran order; save it in C order", name);
  header.type = match[1];
  header.rows = std::stoll(match[3]);
  header.columns = std::stoll(match[4]);
  return header;
}

template <typename Number>
void copy_numbers(const std::byte* source, std::vector<double>& out) {
  for (size_t i = 0; i < out.size(); ++i) {
    Number value;
    std::memcpy(&value, source + i * sizeof(Number), sizeof(Number));
    out[i] = static_cast<double>(value);
  }
}

}  // namespace

Table parse_npy(std::span<const std::byte> bytes, std::string_view name, const ReadOptions& options) {
  const Header header = read_header(bytes, name);
  const size_t width = header.type == "<f4" || header.type == "<i4"   ? 4
                       : header.type == "<f8" || header.type == "<i8" ? 8
                                                                      : 0;
  if (width == 0)
    throw Error(ErrorCode::unsupported, "{}: expected numbers of type f4, f8, i4 or i8, found '{}'", name, header.type);
  const size_t available = (bytes.size() - header.offset) / width;
  if (header.columns < 1 || static_cast<size_t>(header.rows) != available / static_cast<size_t>(header.columns) ||
      available % static_cast<size_t>(header.columns) != 0) {
    throw Error(ErrorCode::bad_file, "{}: {} x {} numbers are promised, {} are there", name, header.rows,
                header.columns, available);
  }
  Table table;
  table.rows = header.rows;
  table.values.resize(available);
  const std::byte* data = bytes.data() + header.offset;
  if (header.type == "<f4") copy_numbers<float>(data, table.values);
  if (header.type == "<f8") copy_numbers<double>(data, table.values);
  if (header.type == "<i4") copy_numbers<int32_t>(data, table.values);
  if (header.type == "<i8") copy_numbers<int64_t>(data, table.values);
  for (int64_t j = 0; j < header.columns; ++j) {
    Column column;
    column.name = "x" + std::to_string(j);
    std::set<double> levels;
    const bool categorical =
        std::find(options.categorical.begin(), options.categorical.end(), column.name) != options.categorical.end();
    for (int64_t i = 0; i < table.rows; ++i) {
      double& value = table.values[static_cast<size_t>(i * header.columns + j)];
      if (!std::isfinite(value)) {
        value = std::numeric_limits<double>::quiet_NaN();
        ++column.missing;
      } else if (categorical) {
        levels.insert(value);
      }
    }
    if (categorical) {
      if (static_cast<int64_t>(levels.size()) > options.max_levels) {
        throw Error(ErrorCode::limit_exceeded,
                    "{}: column '{}' has {} different values; more than {} categories are refused", name, column.name,
                    levels.size(), options.max_levels);
      }
      column.kind = ColumnKind::categorical;
      for (const double level : levels) column.levels.push_back(fmt::format("{}", level));
      for (int64_t i = 0; i < table.rows; ++i) {
        double& value = table.values[static_cast<size_t>(i * header.columns + j)];
        if (!std::isnan(value)) value = static_cast<double>(std::distance(levels.begin(), levels.find(value)));
      }
    }
    table.columns.push_back(std::move(column));
  }
  return table;
}

}  // namespace tessera::explain
