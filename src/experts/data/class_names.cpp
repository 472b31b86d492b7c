#include "experts/data/class_names.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

constexpr size_t kMostClasses = 100000;

bool whole_number(const std::string& text, int64_t& value) {
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  return status == std::errc() && end == text.data() + text.size();
}

std::vector<std::string> found_classes(const std::vector<std::string>& texts) {
  const std::set<std::string> unique(texts.begin(), texts.end());
  std::vector<std::string> classes(unique.begin(), unique.end());
  int64_t value = 0;
  if (std::all_of(classes.begin(), classes.end(), [&](const std::string& text) { return whole_number(text, value); })) {
    std::stable_sort(classes.begin(), classes.end(), [](const std::string& a, const std::string& b) {
      int64_t x = 0, y = 0;
      whole_number(a, x), whole_number(b, y);
      return x < y;
    });
  }
  return classes;
}

}  // namespace

void number_classes(const std::vector<std::string>& texts, const std::vector<int64_t>& lines, std::string_view name,
                    std::vector<std::string>& classes, std::vector<int32_t>& labels) {
  const bool given = !classes.empty();
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].empty()) throw Error(ErrorCode::bad_file, "{}: row {}: the class is missing", name, lines[i]);
  }
  if (!given) classes = found_classes(texts);
  if (classes.size() > kMostClasses) {
    throw Error(ErrorCode::limit_exceeded, "{}: {} different classes; is the right column the class?", name,
                classes.size());
  }
  std::map<std::string, int32_t> number;
  for (size_t k = 0; k < classes.size(); ++k) number[classes[k]] = static_cast<int32_t>(k);
  labels.clear();
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto at = number.find(texts[i]);
    if (at == number.end()) {
      throw Error(ErrorCode::bad_file, "{}: row {}: the class '{}' is not one of the {} known classes", name, lines[i],
                  texts[i], classes.size());
    }
    labels.push_back(at->second);
  }
}

}  // namespace tessera::experts
