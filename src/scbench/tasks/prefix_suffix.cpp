// Retr.Prefix-Suffix: a list of random strings, each turn asks for the one with a given beginning and end.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "scbench/scorers.h"
#include "scbench/tasks/common.h"

namespace tessera::scbench {
namespace {

struct Entry {
  std::string prefix;  // one word
  std::string middle;  // two words
  std::string suffix;  // one word
};

// `n` entries, no two with the same prefix and suffix.
std::vector<Entry> draw_entries(int64_t n, Random random) {
  std::vector<Entry> entries;
  std::set<std::pair<int64_t, int64_t>> seen;
  while (static_cast<int64_t>(entries.size()) < n) {
    const int64_t prefix = random.below(kWords);
    const int64_t suffix = random.below(kWords);
    if (!seen.insert({prefix, suffix}).second) continue;
    const std::string first = spaced_word(random.below(kWords));
    entries.push_back({spaced_word(prefix), first + spaced_word(random.below(kWords)), spaced_word(suffix)});
  }
  return entries;
}

// 20 to 30 characters of codes 65 to 122, as the published rows seem to be made.
std::string draw_string(Random& random) {
  std::string text(static_cast<size_t>(20 + random.below(11)), ' ');
  for (char& c : text) c = static_cast<char>(65 + random.below(58));
  return text;
}

// The least length >= 4 at which beginning and end together belong to strings[index] alone; 0 when none does.
size_t unique_affix(const std::vector<std::string>& strings, size_t index) {
  const std::string_view target = strings[index];
  for (size_t length = 4; 2 * length <= target.size(); ++length) {
    const std::string_view prefix = target.substr(0, length);
    const std::string_view suffix = target.substr(target.size() - length);
    const auto matches = std::count_if(strings.begin(), strings.end(), [&](const std::string& text) {
      return text.starts_with(prefix) && text.ends_with(suffix);
    });
    if (matches == 1) return length;
  }
  return 0;
}

class PrefixSuffix final : public Task {
 public:
  std::string name() const override { return "prefix-suffix"; }
  std::string title() const override { return "Retr.Prefix-Suffix"; }
  int64_t max_new_tokens(Vocabulary vocabulary) const override { return vocabulary == Vocabulary::words ? 8 : 150; }

  Example generate(const ExampleOptions& options, const TokenCounter& count, Random& random) const override {
    check_turns(name(), options.turns, 1000);
    return largest_fit(options, count, options.turns, [&](int64_t n) {
      Random targets = random.split(kTargets);
      const std::vector<int64_t> asked = spread_targets(n, options.turns, targets);
      return options.vocabulary == Vocabulary::words ? in_words(draw_entries(n, random.split(kItems)), asked)
                                                     : in_strings(n, random.split(kItems), asked);
    });
  }

  double score(std::string_view prediction, const Turn& turn, Scoring) const override {
    return score_substring(prediction, turn.accepted.at(0));
  }

 private:
  Example in_words(const std::vector<Entry>& entries, const std::vector<int64_t>& asked) const {
    Example example{name(), "", " lists", {}};
    for (const Entry& entry : entries)
      example.context += fmt::format("\n{}{}{}", entry.prefix, entry.middle, entry.suffix);
    for (const int64_t i : asked) {
      const Entry& entry = entries[static_cast<size_t>(i)];
      const std::string answer = entry.prefix + entry.middle + entry.suffix;
      example.turns.push_back({fmt::format("\n?{} ..{} =", entry.prefix, entry.suffix), answer, {answer.substr(1)}});
    }
    return example;
  }

  Example in_strings(int64_t n, Random random, const std::vector<int64_t>& asked) const {
    std::vector<std::string> strings;
    std::set<std::string> seen;
    while (static_cast<int64_t>(strings.size()) < n) {
      std::string text = draw_string(random);
      if (seen.insert(text).second) strings.push_back(std::move(text));
    }
    Example example{name(),
                    "Below is a list of random strings, one on each line. Each question gives the first and the last "
                    "characters of one of them. Reply with the whole string and with nothing else.\n\n",
                    join(strings, "\n"),
                    {}};
    for (const int64_t i : asked) {
      const std::string& text = strings[static_cast<size_t>(i)];
      // Two random strings that agree in ten characters at both ends do not occur in practice; half the string would
      // do.
      const size_t affix = std::max<size_t>(unique_affix(strings, static_cast<size_t>(i)), 4);
      example.turns.push_back(english_turn(fmt::format("Which string begins with {} and ends with {} ?",
                                                       text.substr(0, affix), text.substr(text.size() - affix)),
                                           text, {text}));
    }
    return example;
  }
};

}  // namespace

const Task& prefix_suffix_task() {
  static const PrefixSuffix task;
  return task;
}

}  // namespace tessera::scbench
