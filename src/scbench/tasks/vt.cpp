// Retr.MultiHop: variable tracking. Chains of three names, the first bound to a number, scattered among noise; a turn
// asks for all names of one number.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "scbench/scorers.h"
#include "scbench/tasks/common.h"

namespace tessera::scbench {
namespace {

constexpr int kNames = 3;           // of a chain: two hops
constexpr int64_t kNumbers = 1000;  // `words` numbers are 0..999

struct Chain {
  std::string number;
  std::vector<std::string> names;  // [kNames]
};

// Every line slot of every chain, ascending within a chain: [kNames * chains].
std::vector<int64_t> draw_places(int64_t lines, int64_t chains, Random random) {
  std::vector<int64_t> places = draw_distinct(lines, kNames * chains, random);
  for (int64_t c = 0; c < chains; ++c) std::sort(places.begin() + kNames * c, places.begin() + kNames * (c + 1));
  return places;
}

// "X is 123", "Y is X", "Z is Y" for each chain, in the order of draw_places.
template <typename Say>
std::vector<std::string> statements(const std::vector<Chain>& chains, const Say& say) {
  std::vector<std::string> lines;
  for (const Chain& chain : chains) {
    for (size_t i = 0; i < kNames; ++i) lines.push_back(say(chain, i));
  }
  return lines;
}

// Five consonants: never a word of the noise.
std::string draw_name(Random& random) {
  constexpr std::string_view letters = "BCDFGHJKLMNPQRSTVWXZ";
  std::string name(5, ' ');
  for (char& c : name) c = letters[static_cast<size_t>(random.below(static_cast<int64_t>(letters.size())))];
  return name;
}

std::vector<Chain> draw_variables(int64_t count, Random random) {
  std::set<std::string> seen;
  const auto fresh = [&](const auto& draw) {
    while (true) {
      std::string text = draw(random);
      if (seen.insert(text).second) return text;
    }
  };
  std::vector<Chain> chains(static_cast<size_t>(count));
  for (Chain& chain : chains) {
    chain.number = fresh([](Random& r) { return std::to_string(10000 + r.below(90000)); });
    for (int i = 0; i < kNames; ++i) chain.names.push_back(fresh(draw_name));
  }
  return chains;
}

class VariableTracking final : public Task {
 public:
  std::string name() const override { return "vt"; }
  std::string title() const override { return "Retr.MultiHop"; }
  int64_t max_new_tokens(Vocabulary vocabulary) const override { return vocabulary == Vocabulary::words ? 8 : 30; }

  Example generate(const ExampleOptions& options, const TokenCounter& count, Random& random) const override {
    check_turns(name(), options.turns, 200);
    return largest_fit(options, count, 1, [&](int64_t n) {
      return options.vocabulary == Vocabulary::words ? in_words(n, options.turns, random)
                                                     : in_sentences(n, options.turns, random);
    });
  }

  double score(std::string_view prediction, const Turn& turn, Scoring) const override {
    return score_share(prediction, turn.accepted);
  }

 private:
  static int64_t chain_count(int turns) { return std::max(2, turns); }

  // Numbers of the chains asked about, in turn order.
  static std::vector<int64_t> asked_chains(int turns, const Random& random) {
    Random targets = random.split(kTargets);
    return draw_distinct(chain_count(turns), turns, targets);
  }

  Example in_words(int64_t noise_lines, int turns, const Random& random) const {
    const int64_t count = chain_count(turns);
    Random items = random.split(kItems);
    const std::vector<int64_t> order = draw_distinct(kWords, kWords, items);
    const std::vector<int64_t> numbers = draw_distinct(kNumbers, count, items);
    std::vector<Chain> chains(static_cast<size_t>(count));
    for (size_t c = 0; c < chains.size(); ++c) {
      chains[c].number = fmt::format(" {}", numbers[c]);
      for (size_t i = 0; i < kNames; ++i) chains[c].names.push_back(spaced_word(order[kNames * c + i]));
    }
    Random noise_random = random.split(kNoise);
    std::vector<std::string> noise;
    for (int64_t i = 0; i < noise_lines; ++i) noise.push_back(words_noise_line(order, kNames * count, noise_random));
    const auto say = [](const Chain& chain, size_t i) {
      return "\n" + chain.names[i] + " is" + (i == 0 ? chain.number : chain.names[i - 1]);
    };
    Example example{name(),
                    "",
                    " links" + join(weave(std::move(noise), statements(chains, say),
                                          draw_places(noise_lines + kNames * count, count, random.split(kPlaces))),
                                    ""),
                    {}};
    for (const int64_t c : asked_chains(turns, random)) {
      const Chain& chain = chains[static_cast<size_t>(c)];
      std::vector<std::string> accepted;
      for (const std::string& spaced : chain.names) accepted.push_back(spaced.substr(1));
      example.turns.push_back({"\n? is" + chain.number, join(chain.names, ""), accepted});
    }
    return example;
  }

  Example in_sentences(int64_t noise_lines, int turns, const Random& random) const {
    const int64_t count = chain_count(turns);
    const std::vector<Chain> chains = draw_variables(count, random.split(kItems));
    Random noise_random = random.split(kNoise);
    std::vector<std::string> noise;
    for (int64_t i = 0; i < noise_lines; ++i) noise.push_back(noise_sentence(noise_random));
    const auto say = [](const Chain& chain, size_t i) {
      return i == 0 ? fmt::format("VAR {} = {}.", chain.names[0], chain.number)
                    : fmt::format("VAR {} = VAR {}.", chain.names[i], chain.names[i - 1]);
    };
    Example example{name(),
                    "Some sentences of the text below give a variable a number, or the value of another variable. Keep "
                    "track of them. Each question names a number; reply with the names of all variables that have this "
                    "value and with nothing else.\n\n",
                    join(weave(std::move(noise), statements(chains, say),
                               draw_places(noise_lines + kNames * count, count, random.split(kPlaces))),
                         " "),
                    {}};
    for (const int64_t c : asked_chains(turns, random)) {
      const Chain& chain = chains[static_cast<size_t>(c)];
      example.turns.push_back(english_turn(fmt::format("Which variables have the value {}?", chain.number),
                                           join(chain.names, ", "), chain.names));
    }
    return example;
  }
};

}  // namespace

const Task& vt_task() {
  static const VariableTracking task;
  return task;
}

}  // namespace tessera::scbench
