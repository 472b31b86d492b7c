#include "tessera/base/npy.h"

#include <charconv>
#include <cstring>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr int64_t kMostRows = int64_t{1} << 40;

// What follows a key of the header's Python literal, without leading spaces; empty when the key is absent.
std::string_view value_of(std::string_view literal, std::string_view key) {
  const size_t at = literal.find(key);
  if (at == std::string_view::npos) return {};
  literal.remove_prefix(at + key.size());
  while (literal.starts_with(' ')) literal.remove_prefix(1);
  return literal;
}

void refuse(bool fault, std::string_view name) {
  if (fault) {
    throw Error(ErrorCode::unsupported, "{}: expected a NumPy array of numbers of one or two dimensions", name);
  }
}

// "(rows,)" or "(rows, columns)".
void read_shape(std::string_view shape, std::string_view name, NpyHeader& header) {
  refuse(!shape.starts_with('('), name);
  shape.remove_prefix(1);
  for (int64_t* size : {&header.rows, &header.columns}) {
    if (size == &header.columns && shape.starts_with(')')) break;
    const auto [end, status] = std::from_chars(shape.data(), shape.data() + shape.size(), *size);
    refuse(status != std::errc() || *size < 0 || *size > kMostRows, name);
    ++header.dimensions;
    shape.remove_prefix(static_cast<size_t>(end - shape.data()));
    while (!shape.empty() && (shape.front() == ' ' || (shape.front() == ',' && size == &header.rows)))
      shape.remove_prefix(1);
  }
  if (shape.starts_with(',')) shape.remove_prefix(1);
  refuse(!shape.starts_with(')'), name);
}

size_t width_of(const std::string& type) {
  if (type == "|u1" || type == "|i1") return 1;
  if (type == "<f4" || type == "<i4") return 4;
  return type == "<f8" || type == "<i8" ? 8 : 0;
}

NpyHeader read_literal(std::span<const std::byte> bytes, std::string_view name) {
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  if (bytes.size() < 12 || std::memcmp(text, "\x93NUMPY", 6) != 0) {
    throw Error(ErrorCode::bad_file, "{}: expected a NumPy array, found another format", name);
  }
  const bool wide = text[6] >= 2;
  uint32_t length = 0;
  std::memcpy(&length, text + 8, wide ? 4 : 2);
  NpyHeader header;
  header.offset = (wide ? 12U : 10U) + static_cast<size_t>(length);
  if (length > 65536 || header.offset > bytes.size())
    throw Error(ErrorCode::bad_file, "{}: the NumPy header is cut off", name);
  const std::string_view literal(text + (wide ? 12 : 10), length);
  const std::string_view type = value_of(literal, "'descr':"), order = value_of(literal, "'fortran_order':");
  refuse(type.size() < 3 || type.front() != '\'' || type.find('\'', 1) == std::string_view::npos, name);
  header.type = type.substr(1, type.find('\'', 1) - 1);
  refuse(!order.starts_with("True") && !order.starts_with("False"), name);
  header.fortran = order.starts_with("True");
  read_shape(value_of(literal, "'shape':"), name, header);
  return header;
}

}  // namespace

NpyHeader read_npy_header(std::span<const std::byte> bytes, std::string_view name) {
  NpyHeader header = read_literal(bytes, name);
  header.width = width_of(header.type);
  if (header.width == 0) {
    throw Error(ErrorCode::unsupported, "{}: expected numbers of type f4, f8, i4, i8, u1 or i1, found '{}'", name,
                header.type);
  }
  // Without rows the file's size says nothing of the columns, which may then be any number.
  if (header.rows < 1) throw Error(ErrorCode::bad_file, "{}: expected at least one row, found none", name);
  const size_t available = (bytes.size() - header.offset) / header.width;
  if (header.columns < 1 || static_cast<size_t>(header.rows) != available / static_cast<size_t>(header.columns) ||
      available % static_cast<size_t>(header.columns) != 0) {
    throw Error(ErrorCode::bad_file, "{}: {} x {} numbers are promised, {} are there", name, header.rows,
                header.columns, available);
  }
  return header;
}

}  // namespace tessera
