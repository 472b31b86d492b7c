#include "tessera/base/npy.h"

#include <gtest/gtest.h>

#include "tessera/base/error.h"

namespace tessera {
namespace {

std::string npy(const std::string& literal, size_t numbers, char major = 1) {
  std::string text = std::string("\x93NUMPY") + major + '\0';
  text += static_cast<char>(literal.size() & 255);
  text += static_cast<char>(literal.size() >> 8);
  if (major >= 2) text += std::string(2, '\0');
  return text + literal + std::string(numbers, 'x');
}

NpyHeader read(const std::string& text) { return read_npy_header(std::as_bytes(std::span(text)), "t"); }

std::string literal(const std::string& type, const std::string& shape) {
  return "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
}

TEST(NpyHeader, ReadsBothVersionsTypesAndDimensions) {
  const NpyHeader table = read(npy(literal("<f4", "(3, 2)"), 24));
  EXPECT_EQ(table.dimensions, 2);
  EXPECT_EQ(table.rows, 3);
  EXPECT_EQ(table.columns, 2);
  EXPECT_EQ(table.width, 4U);
  EXPECT_FALSE(table.fortran);
  const NpyHeader list = read(npy(literal("|u1", "(5,)"), 5, 2));
  EXPECT_EQ(list.dimensions, 1);
  EXPECT_EQ(list.rows, 5);
  EXPECT_EQ(list.columns, 1);
  EXPECT_EQ(list.offset, npy(literal("|u1", "(5,)"), 0, 2).size());
}

TEST(NpyHeader, RefusesWhatDoesNotFit) {
  EXPECT_THROW(read("no array"), Error);
  EXPECT_THROW(read(npy(literal("<f4", "(3, 2)"), 20)), Error);
  EXPECT_THROW(read(npy(literal("<f4", "(3, 0)"), 0)), Error);
  EXPECT_THROW(read(npy(literal("<f4", "(0, 2)"), 0)), Error);
  EXPECT_THROW(read(npy(literal("<i4", "(0, 299999999999)"), 0)), Error);
  EXPECT_THROW(read(npy(literal("<f4", "(3, 2, 1)"), 24)), Error);
  EXPECT_THROW(read(npy(literal("<f4", "()"), 4)), Error);
  EXPECT_THROW(read(npy(literal("<f4", "(3, 2"), 24)), Error);
  EXPECT_THROW(read(npy(literal("<f4", "(-3, 2)"), 24)), Error);
  EXPECT_THROW(read(npy(literal(">f4", "(3, 2)"), 24)), Error);
  EXPECT_THROW(read(npy("{'descr': '<f4', 'shape': (3, 2)}", 24)), Error);
  const std::string whole = npy(literal("<f8", "(3, 2)"), 48);
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_THROW(read(whole.substr(0, size)), Error) << size;
}

}  // namespace
}  // namespace tessera
