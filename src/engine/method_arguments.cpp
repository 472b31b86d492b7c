#include "engine/method_arguments.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "tessera/base/error.h"

namespace tessera::engine {
namespace {

template <typename Number>
bool parse_whole(const std::string& text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

const std::string* MethodArguments::find(std::string_view key) {
  known_.emplace_back(key);
  const std::string* found = nullptr;
  for (const auto& [name, value] : stage_.arguments) {
    if (name != key) continue;
    if (found != nullptr) refuse(key, "one value", "two");
    found = &value;
  }
  return found;
}

int64_t MethodArguments::integer(std::string_view key, int64_t otherwise, IntegerRange range) {
  const std::string* text = find(key);
  if (text == nullptr) return otherwise;
  int64_t value = 0;
  if (!parse_whole(*text, value) || value < range.least || value > range.most) {
    refuse(key, fmt::format("a whole number from {} to {}", range.least, range.most), *text);
  }
  return value;
}

double MethodArguments::real(std::string_view key, double otherwise, RealRange range) {
  const std::string* text = find(key);
  if (text == nullptr) return otherwise;
  double value = 0;
  if (!parse_whole(*text, value) || !(value >= range.least && value <= range.most)) {
    refuse(key, fmt::format("a number from {} to {}", range.least, range.most), *text);
  }
  return value;
}

size_t MethodArguments::choice(std::string_view key, size_t otherwise, std::initializer_list<std::string_view> choices) {
  const std::string* text = find(key);
  if (text == nullptr) return otherwise;
  const auto* const found = std::find(choices.begin(), choices.end(), *text);
  if (found == choices.end()) refuse(key, fmt::format("one of {}", fmt::join(choices, ", ")), *text);
  return static_cast<size_t>(found - choices.begin());
}

std::string MethodArguments::text(std::string_view key) {
  const std::string* value = find(key);
  return value == nullptr ? "" : *value;
}

void MethodArguments::finish() const {
  for (const auto& [name, value] : stage_.arguments) {
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) {
      throw Error(ErrorCode::invalid_argument, "method '{}': {} has no parameter '{}'; it takes {}", whole_, stage_.name, name,
                  known_.empty() ? "none" : fmt::format("{}", fmt::join(known_, ", ")));
    }
  }
}

void MethodArguments::refuse(std::string_view key, const std::string& expected, const std::string& found) const {
  throw Error(ErrorCode::invalid_argument, "method '{}': {} of {}: expected {}, found '{}'", whole_, key, stage_.name, expected,
              found);
}

}  // namespace tessera::engine
