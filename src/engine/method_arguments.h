// Typed access to the arguments of one stage of a method string.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "engine/method_registry.h"

namespace tessera::engine {

// Every getter takes the default and the allowed range, and records the key as known; `finish` then refuses keys that no
// getter asked for.
class MethodArguments {
 public:
  MethodArguments(const StageText& stage, std::string_view whole) : stage_(stage), whole_(whole) {}

  struct IntegerRange {
    int64_t least;
    int64_t most = int64_t{1} << 40;
  };
  int64_t integer(std::string_view key, int64_t otherwise, IntegerRange range);

  struct RealRange {
    double least;
    double most;
  };
  double real(std::string_view key, double otherwise, RealRange range);

  // Index into `choices`.
  size_t choice(std::string_view key, size_t otherwise, std::initializer_list<std::string_view> choices);

  // Free text, for example a file name.
  std::string text(std::string_view key);

  void finish() const;

 private:
  const std::string* find(std::string_view key);
  [[noreturn]] void refuse(std::string_view key, const std::string& expected, const std::string& found) const;

  const StageText& stage_;
  std::string_view whole_;
  std::vector<std::string> known_;
};

}  // namespace tessera::engine
