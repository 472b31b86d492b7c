#include <algorithm>
#include <charconv>
#include <cmath>

#include "experts/data/class_names.h"
#include "tessera/base/error.h"
#include "tessera/experts/dataset.h"

namespace tessera::experts {
namespace {

constexpr int64_t kMaxIndex = 1 << 22;
constexpr int64_t kMaxValues = int64_t{1} << 31;

struct Entry {
  int64_t row = 0, index = 0;
  float value = 0;
};

std::string_view next_word(std::string_view& line) {
  const size_t begin = std::min(line.find_first_not_of(" \t\r"), line.size());
  const size_t end = std::min(line.find_first_of(" \t\r", begin), line.size());
  const std::string_view word = line.substr(begin, end - begin);
  line.remove_prefix(end);
  return word;
}

Entry parse_entry(std::string_view word, std::string_view name, int64_t line) {
  Entry entry;
  const char* last = word.data() + word.size();
  const auto [colon, status] = std::from_chars(word.data(), last, entry.index);
  bool good = status == std::errc() && colon != last && *colon == ':' && entry.index >= 1 && entry.index <= kMaxIndex;
  if (good) {
    const auto [end, value_status] = std::from_chars(colon + 1, last, entry.value);
    good = value_status == std::errc() && end == last && std::isfinite(entry.value);
  }
  if (!good) {
    throw Error(ErrorCode::bad_file, "{}: row {}: expected INDEX:VALUE with an index from 1 to {}, found '{}'", name,
                line, kMaxIndex, word.substr(0, 60));
  }
  return entry;
}

}  // namespace

Dataset parse_libsvm(std::string_view text, std::string_view name, const DatasetOptions& options) {
  Dataset data{.features = options.features, .classes = options.classes};
  std::vector<Entry> entries;
  std::vector<std::string> texts;
  std::vector<int64_t> lines;
  for (int64_t line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view rest = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string_view label = next_word(rest);
    if (label.empty()) continue;
    texts.emplace_back(label.starts_with('+') ? label.substr(1) : label);
    lines.push_back(line);
    int64_t previous = 0;
    for (std::string_view word = next_word(rest); !word.empty(); word = next_word(rest)) {
      Entry entry = parse_entry(word, name, line);
      if (entry.index <= previous) {
        throw Error(ErrorCode::bad_file, "{}: row {}: expected ascending indices, found {} after {}", name, line,
                    entry.index, previous);
      }
      previous = entry.index;
      entry.row = static_cast<int64_t>(texts.size()) - 1;
      data.features = std::max(data.features, entry.index);
      entries.push_back(entry);
    }
  }
  data.rows = static_cast<int64_t>(texts.size());
  if (data.rows == 0 || data.features == 0) throw Error(ErrorCode::bad_file, "{}: holds no row with values", name);
  if (data.rows * data.features > kMaxValues) {
    throw Error(ErrorCode::limit_exceeded, "{}: {} rows of {} features are more than {} numbers", name, data.rows,
                data.features, kMaxValues);
  }
  data.values.assign(static_cast<size_t>(data.rows * data.features), 0.0F);
  for (const Entry& entry : entries) {
    data.values[static_cast<size_t>(entry.row * data.features + entry.index - 1)] = entry.value;
  }
  number_classes(texts, lines, name, data.classes, data.labels);
  return data;
}

}  // namespace tessera::experts
