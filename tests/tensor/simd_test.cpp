#include "tessera/tensor/simd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "tessera/base/error.h"

namespace tessera {
namespace {

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

ErrorCode code_of(std::string_view name) {
  try {
    set_simd_target(name);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::internal;
}

TEST(SimdTarget, EveryListedNameCanBeChosenAndTheBestIsTheDefault) {
  const std::vector<std::string> names = simd_targets();
  ASSERT_FALSE(names.empty());
  for (const std::string& name : names) {
    set_simd_target(name);
    EXPECT_TRUE(lower(simd_target()) == name || name == "scalar") << simd_target();
    EXPECT_EQ(simd_targets(), names) << "choosing a target must not shorten the list";
  }
  set_simd_target("");
  EXPECT_EQ(lower(simd_target()), names.front());
}

#if defined(__x86_64__)
TEST(SimdTarget, PlainCppIsAlwaysThere) { EXPECT_THAT(simd_targets(), testing::Contains("scalar")); }

TEST(SimdTarget, ATargetOfAnotherMachineIsUnsupported) {
  const std::vector<std::string> names = simd_targets();
  if (std::find(names.begin(), names.end(), "avx3_dl") == names.end()) {
    EXPECT_EQ(code_of("avx3_dl"), ErrorCode::unsupported);
  }
}
#endif

TEST(SimdTarget, AnUnknownNameIsAnErrorThatListsTheChoices) {
  EXPECT_EQ(code_of("avx99"), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of("AVX2"), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of(" "), ErrorCode::invalid_argument);
  try {
    set_simd_target("avx99");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(simd_targets().front()));
    EXPECT_THAT(error.what(), testing::HasSubstr("avx99"));
  }
}

TEST(SimdTargetDeathTest, TheEnvironmentIsHonouredOnFirstUse) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        setenv("TESSERA_CPU_TARGET", "nonsense", 1);
        try {
          ensure_simd_target();
        } catch (const Error& error) {
          std::exit(error.code() == ErrorCode::invalid_argument ? 7 : 8);
        }
        std::exit(9);
      },
      testing::ExitedWithCode(7), "");
  const std::string last = simd_targets().back();
  EXPECT_EXIT(
      {
        setenv("TESSERA_CPU_TARGET", last.c_str(), 1);
        const std::string found = lower(simd_target());
        std::exit(found == last || last == "scalar" ? 7 : 8);
      },
      testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace tessera
