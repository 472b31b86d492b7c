// Retr.KV: many key-value pairs, each turn asks for the value of one key.
#include <fmt/format.h>

#include <unordered_set>

#include "scbench/scorers.h"
#include "scbench/tasks/common.h"

namespace tessera::scbench {
namespace {

struct Pair {
  std::string key;
  std::string value;
};

// `n` pairs with distinct keys.
template <typename DrawText>
std::vector<Pair> draw_pairs(int64_t n, Random random, const DrawText& draw) {
  std::vector<Pair> pairs;
  std::unordered_set<std::string> keys;
  while (static_cast<int64_t>(pairs.size()) < n) {
    std::string key = draw(random);
    if (keys.insert(key).second) pairs.push_back({std::move(key), draw(random)});
  }
  return pairs;
}

std::string two_words(Random& random) {
  const std::string first = spaced_word(random.below(kWords));
  return first + spaced_word(random.below(kWords));
}

class KeyValue final : public Task {
 public:
  std::string name() const override { return "kv"; }
  std::string title() const override { return "Retr.KV"; }
  int64_t max_new_tokens(Vocabulary vocabulary) const override { return vocabulary == Vocabulary::words ? 8 : 150; }

  Example generate(const ExampleOptions& options, const TokenCounter& count, Random& random) const override {
    check_turns(name(), options.turns, 1000);
    return largest_fit(options, count, options.turns, [&](int64_t n) {
      Random targets = random.split(kTargets);
      const std::vector<int64_t> asked = spread_targets(n, options.turns, targets);
      return options.vocabulary == Vocabulary::words
                 ? in_words(draw_pairs(n, random.split(kItems), two_words), asked)
                 : in_uuids(draw_pairs(n, random.split(kItems), random_uuid), asked);
    });
  }

  double score(std::string_view prediction, const Turn& turn, Scoring) const override {
    return score_substring(prediction, turn.accepted.at(0));
  }

 private:
  Example in_words(const std::vector<Pair>& pairs, const std::vector<int64_t>& asked) const {
    Example example{name(), "", " pairs", {}};
    for (const Pair& pair : pairs) example.context += fmt::format("\n{} ={}", pair.key, pair.value);
    for (const int64_t i : asked) {
      const Pair& pair = pairs[static_cast<size_t>(i)];
      example.turns.push_back({fmt::format("\n?{} =", pair.key), pair.value, {pair.value.substr(1)}});
    }
    return example;
  }

  Example in_uuids(const std::vector<Pair>& pairs, const std::vector<int64_t>& asked) const {
    Example example{name(),
                    "The JSON object below maps random keys to random values. Each question names one key. Reply with "
                    "the value stored under it and with nothing else.\n\n",
                    "{",
                    {}};
    for (const Pair& pair : pairs) {
      example.context += fmt::format("{}\"{}\": \"{}\"", example.context.size() > 1 ? ", " : "", pair.key, pair.value);
    }
    example.context += "}";
    for (const int64_t i : asked) {
      const Pair& pair = pairs[static_cast<size_t>(i)];
      example.turns.push_back(
          english_turn(fmt::format("Which value is stored under the key \"{}\"?", pair.key), pair.value, {pair.value}));
    }
    return example;
  }
};

}  // namespace

const Task& kv_task() {
  static const KeyValue task;
  return task;
}

}  // namespace tessera::scbench
