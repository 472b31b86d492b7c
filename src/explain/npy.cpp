// NumPy's format, version 1.0 to 3.0: "\x93NUMPY", major, minor, header length (2 or 4 bytes, little endian), a Python
// literal
// {'descr': '<f8', 'fortran_order': False, 'shape': (rows, columns), }, then the numbers.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "tessera/base/error.h"
#include "tessera/base/mapped_file.h"
#include "tessera/explain/table.h"

namespace tessera::explain {
namespace {

constexpr int64_t kMostRows = int64_t{1} << 40;

struct Header {
  std::string type;
  int64_t rows = 0;
  int64_t columns = 0;
  size_t offset = 0;
  bool fortran = false;  // column by column
};

// What follows a key of the header's Python literal, without leading spaces; empty when the key is absent.
std::string_view value_of(std::string_view literal, std::string_view key) {
  const size_t at = literal.find(key);
  if (at == std::string_view::npos) return {};
  literal.remove_prefix(at + key.size());
  while (literal.starts_with(' ')) literal.remove_prefix(1);
  return literal;
}

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
  const std::string_view type = value_of(literal, "'descr':"), order = value_of(literal, "'fortran_order':");
  std::string_view shape = value_of(literal, "'shape':");
  const auto refuse = [&](bool fault) {
    if (fault) throw Error(ErrorCode::unsupported, "{}: expected a two-dimensional NumPy array of numbers", name);
  };
  refuse(type.size() < 3 || type.front() != '\'' || type.find('\'', 1) == std::string_view::npos);
  header.type = type.substr(1, type.find('\'', 1) - 1);
  refuse(!order.starts_with("True") && !order.starts_with("False"));
  header.fortran = order.starts_with("True");
  refuse(!shape.starts_with('('));
  shape.remove_prefix(1);
  for (int64_t* size : {&header.rows, &header.columns}) {
    const auto [end, status] = std::from_chars(shape.data(), shape.data() + shape.size(), *size);
    refuse(status != std::errc() || *size < 0 || *size > kMostRows);
    shape.remove_prefix(static_cast<size_t>(end - shape.data()));
    while (!shape.empty() && (shape.front() == ' ' || (shape.front() == ',' && size == &header.rows)))
      shape.remove_prefix(1);
  }
  if (shape.starts_with(',')) shape.remove_prefix(1);
  refuse(!shape.starts_with(')'));
  return header;
}

template <typename Number>
void copy_numbers(const std::byte* source, const Header& header, std::vector<double>& out) {
  const auto rows = static_cast<size_t>(header.rows), columns = static_cast<size_t>(header.columns);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < columns; ++j) {
      Number value;
      std::memcpy(&value, source + (header.fortran ? j * rows + i : i * columns + j) * sizeof(Number), sizeof(Number));
      out[i * columns + j] = static_cast<double>(value);
    }
  }
}

size_t width_of(const std::string& type) {
  if (type == "<f4" || type == "<i4") return 4;
  return type == "<f8" || type == "<i8" ? 8 : 0;
}

// The header of a file whose size fits what it promises.
Header checked_header(std::span<const std::byte> bytes, std::string_view name) {
  Header header = read_header(bytes, name);
  const size_t width = width_of(header.type);
  if (width == 0)
    throw Error(ErrorCode::unsupported, "{}: expected numbers of type f4, f8, i4 or i8, found '{}'", name, header.type);
  const size_t available = (bytes.size() - header.offset) / width;
  if (header.columns < 1 || static_cast<size_t>(header.rows) != available / static_cast<size_t>(header.columns) ||
      available % static_cast<size_t>(header.columns) != 0) {
    throw Error(ErrorCode::bad_file, "{}: {} x {} numbers are promised, {} are there", name, header.rows,
                header.columns, available);
  }
  return header;
}

std::vector<std::string> column_names(const Header& header, std::string_view name,
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
  const Header header = checked_header(bytes, name);
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
  const Header header = checked_header(file.bytes(), path.string());
  const size_t width = width_of(header.type);
  return !header.fortran && header.type[1] == 'f' && header.offset % width == 0;
}

MappedTable::MappedTable(const std::filesystem::path& path, const std::vector<std::string>& names)
    : file_(std::make_unique<MappedFile>(path)) {
  const Header header = checked_header(file_->bytes(), path.string());
  if (header.fortran || header.type[1] != 'f' || header.offset % width_of(header.type) != 0) {
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
