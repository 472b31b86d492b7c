// Math.Find: a long list of integers; each turn asks for one statistic of all of them.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "scbench/scorers.h"
#include "scbench/tasks/common.h"

namespace tessera::scbench {
namespace {

struct Question {
  std::string_view phrase;
  int64_t (*answer)(const std::vector<int64_t>& sorted);  // at least one number, ascending
};

// The k-th distinct value from an end, or the last there is.
template <typename Iterator>
int64_t distinct_value(Iterator begin, Iterator end, int k) {
  int64_t value = *begin;
  for (; begin != end && k > 1; ++begin) {
    if (*begin != value) {
      value = *begin;
      --k;
    }
  }
  return value;
}

constexpr std::array<Question, 7> kQuestions = {{
    {"largest", [](const std::vector<int64_t>& x) { return x.back(); }},
    {"smallest", [](const std::vector<int64_t>& x) { return x.front(); }},
    {"second largest", [](const std::vector<int64_t>& x) { return distinct_value(x.rbegin(), x.rend(), 2); }},
    {"second smallest", [](const std::vector<int64_t>& x) { return distinct_value(x.begin(), x.end(), 2); }},
    {"median", [](const std::vector<int64_t>& x) { return x[(x.size() - 1) / 2]; }},
    {"third largest", [](const std::vector<int64_t>& x) { return distinct_value(x.rbegin(), x.rend(), 3); }},
    {"third smallest", [](const std::vector<int64_t>& x) { return distinct_value(x.begin(), x.end(), 3); }},
}};
constexpr int kWordsQuestions = 5;

class MathFind final : public Task {
 public:
  std::string name() const override { return "mf"; }
  std::string title() const override { return "Math.Find"; }
  int64_t max_new_tokens(Vocabulary vocabulary) const override { return vocabulary == Vocabulary::words ? 4 : 5; }

  Example generate(const ExampleOptions& options, const TokenCounter& count, Random& random) const override {
    const bool words = options.vocabulary == Vocabulary::words;
    check_turns(name(), options.turns, words ? kWordsQuestions : static_cast<int64_t>(kQuestions.size()));
    constexpr int64_t kFewest = 8;
    return largest_fit(options, count, kFewest, [&](int64_t n) {
      Random items = random.split(kItems);
      const int64_t lowest = words ? 0 : 100;  // three digits in the published style
      const int64_t lo = lowest + items.below(400 - lowest);
      const int64_t hi = 600 + items.below(400);
      std::vector<int64_t> numbers(static_cast<size_t>(n));
      for (int64_t& number : numbers) number = lo + items.below(hi - lo + 1);
      return words ? in_words(numbers, options.turns) : in_list(numbers, options.turns);
    });
  }

  double score(std::string_view prediction, const Turn& turn, Scoring) const override {
    return score_first_number(prediction, turn.accepted.at(0));
  }

 private:
  Example in_words(std::vector<int64_t> numbers, int turns) const {
    Example example{name(), "", fmt::format(" numbers {}", fmt::join(numbers, " ")), {}};
    std::sort(numbers.begin(), numbers.end());
    for (int t = 0; t < turns; ++t) {
      const Question& question = kQuestions[static_cast<size_t>(t)];
      const std::string answer = std::to_string(question.answer(numbers));
      example.turns.push_back({fmt::format("\n? {} =", question.phrase), " " + answer, {answer}});
    }
    return example;
  }

  Example in_list(std::vector<int64_t> numbers, int turns) const {
    Example example{
        name(),
        "Below is a list of integers. Each question asks for one number computed from the whole list. Reply "
        "with this number and with nothing else.\n\n",
        fmt::format("[{}]", fmt::join(numbers, ", ")),
        {}};
    std::sort(numbers.begin(), numbers.end());
    for (int t = 0; t < turns; ++t) {
      const Question& question = kQuestions[static_cast<size_t>(t)];
      const std::string answer = std::to_string(question.answer(numbers));
      const std::string_view subject = question.phrase == "median" ? "lower median" : question.phrase;
      const std::string_view noun = question.phrase == "median" ? "" : " value";
      example.turns.push_back(
          english_turn(fmt::format("What is the {}{} of the list?", subject, noun), answer, {answer}));
    }
    return example;
  }
};

}  // namespace

const Task& mf_task() {
  static const MathFind task;
  return task;
}

}  // namespace tessera::scbench
