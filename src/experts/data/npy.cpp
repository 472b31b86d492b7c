#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <regex>

#include "experts/data/class_names.h"
#include "tessera/base/error.h"
#include "tessera/experts/dataset.h"

namespace tessera::experts {
namespace {

template <typename Number>
void copy_numbers(const char* source, std::vector<float>& out) {
  for (size_t i = 0; i < out.size(); ++i) {
    Number value;
    std::memcpy(&value, source + i * sizeof(Number), sizeof(Number));
    out[i] = static_cast<float>(value);
  }
}

size_t width_of(const std::string& type) {
  if (type == "|u1" || type == "|i1") return 1;
  if (type == "<f4" || type == "<i4") return 4;
  return type == "<f8" || type == "<i8" ? 8 : 0;
}

}  // namespace

Matrix parse_npy(std::string_view bytes, std::string_view name) {
  if (bytes.size() < 12 || !bytes.starts_with("\x93NUMPY")) {
    throw Error(ErrorCode::bad_file, "{}: expected a NumPy array, found another format", name);
  }
  const bool wide = bytes[6] >= 2;
  uint32_t length = 0;
  std::memcpy(&length, bytes.data() + 8, wide ? 4 : 2);
  const size_t start = wide ? 12 : 10;
  if (length > 65536 || start + length > bytes.size()) {
    throw Error(ErrorCode::bad_file, "{}: the NumPy header is cut off", name);
  }
  const std::string literal(bytes.substr(start, length));
  static const std::regex pattern(
      R"('descr':\s*'([^']*)'.*'fortran_order':\s*False.*'shape':\s*\((\d{1,12}),\s*(\d{0,9}),?\s*\))");
  std::smatch match;
  if (!std::regex_search(literal, match, pattern)) {
    throw Error(ErrorCode::unsupported, "{}: expected a NumPy array of one or two dimensions in C order", name);
  }
  Matrix matrix{.rows = std::stoll(match[2]), .columns = match[3].length() > 0 ? std::stoll(match[3]) : 1};
  const size_t width = width_of(match[1]);
  if (width == 0) {
    throw Error(ErrorCode::unsupported, "{}: expected numbers of type f4, f8, i4, i8, u1 or i1, found '{}'", name,
                match[1].str());
  }
  const size_t available = (bytes.size() - start - length) / width;
  if (matrix.columns < 1 || static_cast<size_t>(matrix.rows) != available / static_cast<size_t>(matrix.columns) ||
      available % static_cast<size_t>(matrix.columns) != 0) {
    throw Error(ErrorCode::bad_file, "{}: {} x {} numbers are promised, {} are there", name, matrix.rows,
                matrix.columns, available);
  }
  matrix.values.resize(available);
  const char* data = bytes.data() + start + length;
  if (match[1] == "<f4") copy_numbers<float>(data, matrix.values);
  if (match[1] == "<f8") copy_numbers<double>(data, matrix.values);
  if (match[1] == "<i4") copy_numbers<int32_t>(data, matrix.values);
  if (match[1] == "<i8") copy_numbers<int64_t>(data, matrix.values);
  if (match[1] == "|u1") copy_numbers<uint8_t>(data, matrix.values);
  if (match[1] == "|i1") copy_numbers<int8_t>(data, matrix.values);
  return matrix;
}

std::string format_npy(const Matrix& matrix) {
  std::string header =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", matrix.rows, matrix.columns);
  header += std::string(63 - (10 + header.size()) % 64, ' ') + '\n';
  std::string result = "\x93NUMPY";
  result += {1, 0, static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
  result += header;
  result.append(reinterpret_cast<const char*>(matrix.values.data()), matrix.values.size() * sizeof(float));
  return result;
}

Dataset parse_npy_dataset(std::string_view bytes, std::string_view name, const DatasetOptions& options) {
  const Matrix matrix = parse_npy(bytes, name);
  if (matrix.columns < 2 || matrix.rows < 1) {
    throw Error(ErrorCode::bad_file, "{}: expected rows of features and a class in the last column, found {} x {}",
                name, matrix.rows, matrix.columns);
  }
  Dataset data{.rows = matrix.rows, .features = matrix.columns - 1, .classes = options.classes};
  std::vector<std::string> texts;
  std::vector<int64_t> lines;
  for (int64_t i = 0; i < matrix.rows; ++i) {
    const float* row = matrix.values.data() + i * matrix.columns;
    for (int64_t j = 0; j < matrix.columns; ++j) {
      const bool is_class = j == data.features;
      if (!std::isfinite(row[j]) || (is_class && std::abs(row[j]) > 1e6F) ||
          (is_class && row[j] != std::floor(row[j]))) {
        throw Error(ErrorCode::bad_file, "{}: row {}, column {}: expected {}, found {}", name, i, j,
                    is_class ? "a class number" : "a finite number", row[j]);
      }
    }
    data.values.insert(data.values.end(), row, row + data.features);
    texts.push_back(std::to_string(static_cast<int64_t>(row[data.features])));
    lines.push_back(i);
  }
  number_classes(texts, lines, name, data.classes, data.labels);
  return data;
}

}  // namespace tessera::experts
