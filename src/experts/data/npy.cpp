#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "experts/data/class_names.h"
#include "tessera/base/error.h"
#include "tessera/base/npy.h"
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

}  // namespace

Matrix parse_npy(std::string_view bytes, std::string_view name) {
  const NpyHeader header = read_npy_header(std::as_bytes(std::span(bytes)), name);
  if (header.fortran) {
    throw Error(ErrorCode::unsupported, "{}: expected a NumPy array in C order, found Fortran order", name);
  }
  Matrix matrix{.rows = header.rows, .columns = header.columns};
  matrix.values.resize(static_cast<size_t>(header.rows * header.columns));
  const char* data = bytes.data() + header.offset;
  if (header.type == "<f4") copy_numbers<float>(data, matrix.values);
  if (header.type == "<f8") copy_numbers<double>(data, matrix.values);
  if (header.type == "<i4") copy_numbers<int32_t>(data, matrix.values);
  if (header.type == "<i8") copy_numbers<int64_t>(data, matrix.values);
  if (header.type == "|u1") copy_numbers<uint8_t>(data, matrix.values);
  if (header.type == "|i1") copy_numbers<int8_t>(data, matrix.values);
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
