// Arrays of numbers in NumPy's file format, version 1.0 to 3.0: "\x93NUMPY", major, minor, header length (2 or 4 bytes,
// little endian), a Python literal {'descr': '<f8', 'fortran_order': False, 'shape': (rows, columns), }, the numbers.
//
//   const NpyHeader header = read_npy_header(bytes, "x.npy");
//   if (header.type == "<f4") use(bytes.subspan(header.offset));   // rows * columns numbers are there
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tessera {

struct NpyHeader {
  std::string type;      // NumPy's name: "<f4", "<f8", "<i4", "<i8", "|u1" or "|i1"
  int dimensions = 0;    // 1 or 2
  int64_t rows = 0;      // [1, 2^40]
  int64_t columns = 1;   // >= 1; 1 for one dimension
  size_t width = 0;      // bytes of a number
  size_t offset = 0;     // of the first number
  bool fortran = false;  // numbers stand column by column
};

// `name` stands for the bytes in messages. Throws Error(bad_file) for bytes of another format, a header that is cut
// off, an array without rows or a size that does not match the number of bytes; Error(unsupported) for another type or
// number of dimensions.
NpyHeader read_npy_header(std::span<const std::byte> bytes, std::string_view name);

}  // namespace tessera
