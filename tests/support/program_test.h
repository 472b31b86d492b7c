// A test that runs the program in a folder of its own.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "support/program.h"
#include "tessera/base/file.h"

namespace tessera::testing {

class ProgramTest : public ::testing::Test {
 protected:
  // `prefix` keeps apart the folders of test programs that run at the same time.
  explicit ProgramTest(const std::string& prefix)
      : folder_(std::filesystem::path(::testing::TempDir()) /
                (prefix + ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    write_file_atomically(folder_ / name, text);
    return path(name);
  }

  const std::filesystem::path folder_;
};

}  // namespace tessera::testing
