// Passkey: one numbered needle per turn among noise (the needle part of SCBench's Mix.Sum+NIAH).
#include <fmt/format.h>

#include "scbench/scorers.h"
#include "scbench/tasks/common.h"

namespace tessera::scbench {
namespace {

constexpr int64_t kNumbers = 1000;  // `words` numbers are 0..999

class Passkey final : public Task {
 public:
  std::string name() const override { return "passkey"; }
  std::string title() const override { return "Retr.PassKey"; }
  int64_t max_new_tokens(Vocabulary vocabulary) const override { return vocabulary == Vocabulary::words ? 4 : 15; }

  Example generate(const ExampleOptions& options, const TokenCounter& count, Random& random) const override {
    check_turns(name(), options.turns, 200);
    return largest_fit(options, count, 1, [&](int64_t n) {
      return options.vocabulary == Vocabulary::words ? in_words(n, options.turns, random)
                                                     : in_sentences(n, options.turns, random);
    });
  }

  double score(std::string_view prediction, const Turn& turn, Scoring) const override {
    return score_first_digits(prediction, turn.accepted.at(0));
  }

 private:
  Example in_words(int64_t noise_lines, int turns, const Random& random) const {
    Random items = random.split(kItems);
    const std::vector<int64_t> order = draw_distinct(kWords, kWords, items);
    Example example{name(), "", " keys", {}};
    std::vector<std::string> needles;
    for (int t = 0; t < turns; ++t) {
      const std::string owner = spaced_word(order[static_cast<size_t>(t)]);
      const std::string number = std::to_string(items.below(kNumbers));
      needles.push_back("\n pass" + owner + " = " + number);
      example.turns.push_back({"\n? pass" + owner + " =", " " + number, {number}});
    }
    Random noise_random = random.split(kNoise);
    std::vector<std::string> noise;
    for (int64_t i = 0; i < noise_lines; ++i) noise.push_back(words_noise_line(order, turns, noise_random));
    Random places = random.split(kPlaces);
    example.context += join(weave(std::move(noise), needles, spread_targets(noise_lines + turns, turns, places)), "");
    return example;
  }

  Example in_sentences(int64_t noise_lines, int turns, const Random& random) const {
    Random items = random.split(kItems);
    const std::vector<int64_t> order = draw_distinct(kWords, turns, items);
    Example example{
        name(),
        "Hidden in the text below are the pass numbers of several people. Remember them. Each question asks "
        "for one; reply with this number and with nothing else.\n\n",
        "",
        {}};
    std::vector<std::string> needles;
    for (const int64_t i : order) {
      std::string owner = word(i);
      owner[0] = static_cast<char>(owner[0] - 'a' + 'A');
      const std::string number = std::to_string(10000 + items.below(90000));
      needles.push_back(fmt::format("The pass number of {} is {}.", owner, number));
      example.turns.push_back(english_turn(fmt::format("What is the pass number of {}?", owner), number, {number}));
    }
    Random noise_random = random.split(kNoise);
    std::vector<std::string> noise;
    for (int64_t i = 0; i < noise_lines; ++i) noise.push_back(noise_sentence(noise_random));
    Random places = random.split(kPlaces);
    example.context = join(weave(std::move(noise), needles, spread_targets(noise_lines + turns, turns, places)), " ");
    return example;
  }
};

}  // namespace

const Task& passkey_task() {
  static const Passkey task;
  return task;
}

}  // namespace tessera::scbench
