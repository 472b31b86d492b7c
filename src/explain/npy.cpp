// Tables in NumPy's format (tessera/base/npy.h): columns without names, read or mapped.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "tessera/base/error.h"
#include "tessera/base/mapped_file.h"
#include "tessera/base/npy.h"
#include "tessera/explain/table.h"

namespace tessera::explain {
namespace {

template <typename Number>
void copy_numbers(const std::byte* source, const NpyHeader& header, std::vector<double>& out) {
  const auto rows = static_cast<size_t>(header.rows), columns = static_cast<size_t>(header.columns);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < columns; ++j) {
      Number value;
      std::memcpy(&value, source + (header.fortran ? j * rows + i : i * columns + j) * sizeof(Number), sizeof(Number));
      out[i * columns + j] = static_cast<double>(value);
    }
  }
}

NpyHeader table_header(std::span<const std::byte> bytes, std::string_view name) {
  NpyHeader header = read_npy_header(bytes, name);
  if (header.dimensions != 2)
    throw Error(ErrorCode::unsupported, "{}: expected a two-dimensional NumPy array of numbers", name);
  if (header.width < 4)
    throw Error(ErrorCode::unsupported, "{}: expected numbers of type f4, f8, i4 or i8, found '{}'", name, header.type);
  return header;
}

std::vector<std::string> column_names(const NpyHeader& header, std::string_view name,
                                      const std::vector<std::string>& wanted) {
  std::vector<std::string> names = wanted;
  if (!names.empty() && static_cast<int64_t>(names.size()) != header.columns) {
    throw Error(ErrorCode::invalid_argument, "{}: the array has {} columns, and {} names were given", name,
                header.columns, names.size());
  }
  for (int64_t j = 0; j < header.columns && wanted.empty(); ++j) names.push_back("x" + std::to_string(j));
  return names;
}

}  // namespace

Table parse_npy(std::span<const std::byte> bytes, std::string_view name, const ReadOptions& options) {
  const NpyHeader header = table_header(bytes, name);
  const std::vector<std::string> names = column_names(header, name, options.names);
  Table table;
  table.rows = header.rows;
  table.values.resize(static_cast<size_t>(header.rows * header.columns));
  const std::byte* data = bytes.data() + header.offset;
  if (header.type == "<f4") copy_numbers<float>(data, header, table.values);
  if (header.type == "<f8") copy_numbers<double>(data, header, table.values);
  if (header.type == "<i4") copy_numbers<int32_t>(data, header, table.values);
  if (header.type == "<i8") copy_numbers<int64_t>(data, header, table.values);
  for (int64_t j = 0; j < header.columns; ++j) {
    Column column;
    column.name = names[static_cast<size_t>(j)];
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

bool MappedTable::suits(const std::filesystem::path& path) {
  if (path.extension() != ".npy") return false;
  const MappedFile file(path);
  const NpyHeader header = table_header(file.bytes(), path.string());
  return !header.fortran && header.type[1] == 'f' && header.offset % header.width == 0;
}

MappedTable::MappedTable(const std::filesystem::path& path, const std::vector<std::string>& names)
    : file_(std::make_unique<MappedFile>(path)) {
  const NpyHeader header = table_header(file_->bytes(), path.string());
  if (header.fortran || header.type[1] != 'f' || header.offset % header.width != 0) {
    throw Error(ErrorCode::unsupported, "{}: expected an array of f4 or f8 in C order", path.string());
  }
  names_ = column_names(header, path.string(), names);
  const std::byte* data = file_->bytes().data() + header.offset;
  if (header.type == "<f4") whole_.f32 = reinterpret_cast<const float*>(data);
  if (header.type == "<f8") whole_.f64 = reinterpret_cast<const double*>(data);
  whole_.rows = header.rows;
  whole_.columns = header.columns;
}

MappedTable::~MappedTable() = default;

TableView MappedTable::view(std::span<const int64_t> picked) const {
  TableView view = whole_;
  view.width = whole_.columns;
  view.columns = static_cast<int64_t>(picked.size());
  view.picked = picked.data();
  return view;
}

}  // namespace tessera::explain
