#include "tessera/base/file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tessera/base/error.h"
#include "tessera/base/mapped_file.h"

namespace tessera {
namespace {

class FileTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_ = std::filesystem::path(testing::TempDir()) /
                                  testing::UnitTest::GetInstance()->current_test_info()->name();
};

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "expected a tessera::Error";
  return ErrorCode::internal;
}

TEST_F(FileTest, WritesWholeFilesAndLeavesNoTemporary) {
  write_file_atomically(folder_ / "a", "one");
  write_file_atomically(folder_ / "a", "two");
  EXPECT_EQ(read_file(folder_ / "a"), "two");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(FileTest, AnUnwritableTargetIsAnErrorAndLeavesNothing) {
  EXPECT_EQ(code_of([&] { write_file_atomically(folder_ / "missing" / "a", "x"); }), ErrorCode::io);
  std::filesystem::create_directory(folder_ / "taken");
  EXPECT_EQ(code_of([&] { write_file_atomically(folder_ / "taken", "x"); }), ErrorCode::io);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(FileTest, LineLogCutsAnUnfinishedLine) {
  std::ofstream(folder_ / "log") << "first\nsecond\nthi";
  { LineLog(folder_ / "log").append("third"); }
  EXPECT_EQ(read_file(folder_ / "log"), "first\nsecond\nthird\n");
}

TEST_F(FileTest, JsonErrorsNameTheFile) {
  write_file_atomically(folder_ / "bad.json", "{\"a\": ");
  try {
    read_json(folder_ / "bad.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::bad_file);
    EXPECT_NE(std::string(error.what()).find("bad.json"), std::string::npos);
  }
  EXPECT_EQ(code_of([] { parse_json(std::string(100000, '['), "deep"); }), ErrorCode::bad_file);
}

TEST_F(FileTest, MappedFileShowsTheBytes) {
  write_file_atomically(folder_ / "data", "abc");
  const MappedFile file(folder_ / "data");
  EXPECT_EQ(file.bytes().size(), 3U);
  EXPECT_EQ(static_cast<char>(file.bytes()[1]), 'b');
  EXPECT_EQ(code_of([&] { MappedFile(folder_ / "none"); }), ErrorCode::not_found);
  EXPECT_EQ(code_of([&] { MappedFile(folder_.string()); }), ErrorCode::io);
}

}  // namespace
}  // namespace tessera
