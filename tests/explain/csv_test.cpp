#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/explain/table.h"

namespace tessera::explain {
namespace {

std::string message(std::string_view text, const ReadOptions& options = {}) {
  try {
    (void)parse_csv(text, "t", options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Csv, ReadsQuotesLineEndsMissingCellsAndCategories) {
  const Table table =
      parse_csv("\xEF\xBB\xBFx,\"a, b\",k\r\n1.5,red,2\r\n,\"dark \"\"red\"\"\",10\r\n\r\n-3e2,red,2", "t");
  ASSERT_EQ(table.rows, 3);
  EXPECT_EQ(table.columns[1].name, "a, b");
  EXPECT_EQ(table.columns[1].kind, ColumnKind::categorical);
  EXPECT_EQ(table.columns[1].levels, (std::vector<std::string>{"dark \"red\"", "red"}));
  EXPECT_EQ(table.at(0, 0), 1.5);
  EXPECT_TRUE(std::isnan(table.at(1, 0)));
  EXPECT_EQ(table.columns[0].missing, 1);
  EXPECT_EQ(table.at(2, 0), -300);
  EXPECT_EQ(table.at(1, 1), 0);
}

TEST(Csv, NumbersAsCategoriesAreOrderedByValue) {
  const Table table = parse_csv("k\n10\n9\n9.0\n-1\n", "t", {.categorical = {"k"}});
  EXPECT_EQ(table.columns[0].levels.size(), 3U);
  EXPECT_EQ(table.at(0, 0), 2);
  EXPECT_EQ(table.at(1, 0), 1);
  EXPECT_EQ(table.at(2, 0), 1);
  EXPECT_EQ(table.at(3, 0), 0);
}

TEST(Csv, ManyDifferentNumbersStayNumbersAndLateTextIsRefused) {
  std::string numbers = "a,id\n", late;
  for (int i = 0; i < 100; ++i) numbers += std::to_string(i) + ".5,u" + std::to_string(i) + "\n";
  const Table table = parse_csv(numbers, "t", {.max_levels = 3, .ignore = {"id"}});
  EXPECT_EQ(table.columns[0].kind, ColumnKind::continuous);
  EXPECT_EQ(table.at(99, 0), 99.5);
  EXPECT_TRUE(table.columns[1].levels.empty());
  EXPECT_THROW((void)parse_csv(numbers + "red,u1\n", "t", {.max_levels = 3, .ignore = {"id"}}), Error);
  EXPECT_THROW((void)parse_csv(numbers, "t", {.max_levels = 3}), Error);
  // Different texts of one number are one level.
  const Table same = parse_csv("k\n1\n1.0\n1.00\n2\n", "t", {.categorical = {"k"}, .max_levels = 2});
  EXPECT_EQ(same.columns[0].levels.size(), 2U);
}

TEST(Csv, HostileTextIsRefusedNamingRowAndColumn) {
  EXPECT_NE(message("").find("empty"), std::string::npos);
  EXPECT_NE(message("a,b\n1,2\n3\n")
                .find("row 1 (0-based, header not counted; line 3) has 1 fields, expected 2: nothing for column 'b'"),
            std::string::npos);
  EXPECT_NE(message("a,a\n").find("two columns are named 'a'"), std::string::npos);
  EXPECT_NE(message("a,\n").find("no name"), std::string::npos);
  EXPECT_NE(message("a\n\"x").find("row 2: a quoted field is not closed"), std::string::npos);
  EXPECT_NE(message("a\n\"x\"y\n").find("closing quote"), std::string::npos);
  EXPECT_NE(message("a\n1\nred\n", {.continuous = {"a"}})
                .find("row 1 (0-based, header not counted), column 'a': expected a number, found 'red'"),
            std::string::npos);
  EXPECT_NE(message("a\n1\n", {.categorical = {"b"}}).find("column 'b' is not in the table"), std::string::npos);
  EXPECT_NE(message("a\nx\ny\nz\n", {.max_levels = 2}).find("more than 2 different values by row 2"),
            std::string::npos);
}

TEST(Csv, StrayTextAndIdentifiersAreNotMadeCategoriesUnasked) {
  std::string numbers = "a\n", names = "a\n", few = "a\n";
  for (int i = 0; i < 60; ++i) {
    numbers += i == 31 ? "hello\n" : std::to_string(i) + ".5\n";
    names.append("k").append(std::to_string(i)).append("\n");
    few += i == 31 ? "10+\n" : std::to_string(i % 10) + "\n";
  }
  EXPECT_NE(message(numbers).find("row 31 (0-based, header not counted), column 'a': found 'hello'"),
            std::string::npos);
  EXPECT_EQ(message(numbers, {.categorical = {"a"}}), "");
  EXPECT_EQ(message(numbers, {.ignore = {"a"}}), "");
  EXPECT_NE(message(names).find("column 'a' has 60 different categories in 60 rows (row 0 has 'k0')"),
            std::string::npos);
  EXPECT_EQ(message(names, {.categorical = {"a"}}), "");
  EXPECT_EQ(message(names, {.ignore = {"a"}}), "");
  EXPECT_EQ(message(few), "");  // ten numbers and one text are eleven categories
}

std::string npy(const std::string& header, const std::string& data) {
  std::string text = "\x93NUMPY";
  text += '\x01';
  text += '\x00';
  text += static_cast<char>(header.size());
  text += '\x00';
  return text + header + data;
}

Table parse(const std::string& text) { return parse_npy(std::as_bytes(std::span(text.data(), text.size())), "t"); }

TEST(Npy, ReadsFloatsAndRefusesWhatDoesNotFit) {
  const float values[] = {1, 2, 3, 4, 5, 6};
  std::string data(sizeof(values), '\0');
  std::memcpy(data.data(), values, sizeof(values));
  const Table table = parse(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }", data));
  ASSERT_EQ(table.rows, 3);
  EXPECT_EQ(table.at(2, 1), 6);
  EXPECT_EQ(table.columns[1].name, "x1");
  EXPECT_THROW((void)parse(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), }", data)), Error);
  EXPECT_THROW((void)parse(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0), }", data)), Error);
  EXPECT_THROW((void)parse(npy("{'descr': '|O', 'fortran_order': False, 'shape': (3, 2), }", data)), Error);
  EXPECT_THROW((void)parse("not an array"), Error);
}

TEST(Npy, ReadsFortranOrderAndNames) {
  const double values[] = {1, 2, 3, 4, 5, 6};
  std::string data(sizeof(values), '\0');
  std::memcpy(data.data(), values, sizeof(values));
  const std::string text = npy("{'descr': '<f8', 'fortran_order': True, 'shape': (3, 2), }", data);
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  const Table table = parse_npy(bytes, "t", {.categorical = {"k"}, .names = {"age", "k"}});
  EXPECT_EQ(table.at(0, 0), 1);
  EXPECT_EQ(table.at(2, 0), 3);
  EXPECT_EQ(table.columns[0].name, "age");
  EXPECT_EQ(table.columns[1].levels, (std::vector<std::string>{"4", "5", "6"}));
  EXPECT_EQ(table.at(1, 1), 1);
  EXPECT_THROW((void)parse_npy(bytes, "t", {.names = {"age"}}), Error);
}

TEST(Npy, AMappedFileShowsTheSameNumbers) {
  const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) / "mapped.npy";
  const float values[] = {1, 2, 3, 4, 5, 6};
  std::string data(sizeof(values), '\0');
  std::memcpy(data.data(), values, sizeof(values));
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }";
  header.resize(117, ' ');
  write_file_atomically(path, npy(header + "\n", data));
  ASSERT_TRUE(MappedTable::suits(path));
  const MappedTable table(path);
  const std::vector<int64_t> picked = {1};
  EXPECT_EQ(table.view(picked).at(2, 0), 6);
  EXPECT_EQ(table.column(0)[1], 3);
  EXPECT_EQ(table.names()[1], "x1");
  write_file_atomically(path, npy("{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }", data));
  EXPECT_FALSE(MappedTable::suits(path));
  EXPECT_THROW((void)MappedTable(path), Error);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace tessera::explain
