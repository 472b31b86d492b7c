// ICL.ManyShot: a classification that can only be learned from the demonstrations: cues are mapped to labels anew in
// every example (in the manner of SCBench, with text of our own).
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "scbench/scorers.h"
#include "scbench/tasks/common.h"

namespace tessera::scbench {
namespace {

constexpr int64_t kLabels = 8;
constexpr int64_t kWordCues = 64;
constexpr int64_t kFirstFiller = kWordCues + kLabels;
constexpr int64_t kFillersPerLine = 3;

// No label is part of another.
constexpr std::array<std::string_view, kLabels> kShelves = {"amber", "cobalt", "ivory",  "scarlet",
                                                            "olive", "violet", "silver", "indigo"};
constexpr std::array<std::string_view, 48> kObjects = {
    "lantern",   "teapot",        "compass", "violin",   "hammer",   "mirror",   "basket",   "saddle",
    "kettle",    "ledger",        "anchor",  "blanket",  "candle",   "drum",     "feather",  "globe",
    "helmet",    "inkwell",       "jar",     "kite",     "ladder",   "magnet",   "needle",   "oar",
    "pillow",    "quilt",         "ribbon",  "scale",    "thimble",  "umbrella", "vase",     "whistle",
    "yoke",      "zither",        "bucket",  "chisel",   "doorbell", "easel",    "flute",    "goblet",
    "hourglass", "ironing board", "jigsaw",  "key ring", "loom",     "mandolin", "notebook", "paddle"};
constexpr std::array<std::string_view, 16> kPeople = {"Ada",   "Boris", "Chloe", "Dmitri", "Elsa", "Farid",
                                                      "Greta", "Hugo",  "Iris",  "Jonas",  "Kira", "Liam",
                                                      "Mona",  "Nils",  "Olga",  "Pavel"};
constexpr std::array<std::string_view, 12> kLooks = {"dusty", "heavy",  "chipped", "polished", "small", "broken",
                                                     "old",   "folded", "painted", "borrowed", "plain", "wet"};
constexpr std::array<std::string_view, 10> kTimes = {"on Monday",      "after lunch", "in a hurry", "before closing",
                                                     "last week",      "at noon",     "by mistake", "in a crate",
                                                     "without a note", "for a friend"};

template <typename Pool>
std::string_view pick(const Pool& pool, Random& random) {
  return pool[static_cast<size_t>(random.below(static_cast<int64_t>(pool.size())))];
}

// n cues, each as often as the others, in random order.
std::vector<int64_t> balanced_cues(int64_t n, int64_t cues, Random& random) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i) % cues;
  random.shuffle(order);
  return order;
}

class ManyShot final : public Task {
 public:
  std::string name() const override { return "many-shot"; }
  std::string title() const override { return "ICL.ManyShot"; }
  int64_t max_new_tokens(Vocabulary vocabulary) const override { return vocabulary == Vocabulary::words ? 4 : 10; }

  Example generate(const ExampleOptions& options, const TokenCounter& count, Random& random) const override {
    const bool words = options.vocabulary == Vocabulary::words;
    check_turns(name(), options.turns, words ? kWordCues : static_cast<int64_t>(kObjects.size()));
    return largest_fit(options, count, options.turns, [&](int64_t n) {
      return words ? in_words(n, options.turns, random) : in_sentences(n, options.turns, random);
    });
  }

  double score(std::string_view prediction, const Turn& turn, Scoring scoring) const override {
    return score_containment(prediction, turn.accepted.at(0), scoring);
  }

 private:
  Example in_words(int64_t demonstrations, int turns, const Random& random) const {
    Random items = random.split(kItems);
    // Cues, labels and fillers, in this order, out of one permutation.
    const std::vector<int64_t> order = draw_distinct(kWords, kWords, items);
    const auto line = [&](int64_t cue, Random& from) {
      std::string text;
      for (int64_t i = 0; i < kFillersPerLine; ++i) {
        text += spaced_word(order[static_cast<size_t>(kFirstFiller + from.below(kWords - kFirstFiller))]);
      }
      return text + spaced_word(order[static_cast<size_t>(cue)]) + " =";
    };
    const auto label = [&](int64_t cue) { return spaced_word(order[static_cast<size_t>(kWordCues + cue % kLabels)]); };
    Example example{name(), "", " shots", {}};
    for (const int64_t cue : balanced_cues(demonstrations, kWordCues, items)) {
      const std::string text = line(cue, items);
      example.context += fmt::format("\n{}{}", text, label(cue));
    }
    Random targets = random.split(kTargets);
    for (const int64_t cue : draw_distinct(std::min(demonstrations, kWordCues), turns, targets)) {
      example.turns.push_back({fmt::format("\n?{}", line(cue, targets)), label(cue), {label(cue).substr(1)}});
    }
    return example;
  }

  Example in_sentences(int64_t demonstrations, int turns, const Random& random) const {
    Random items = random.split(kItems);
    const auto count = static_cast<int64_t>(kObjects.size());
    const std::vector<int64_t> objects = draw_distinct(count, count, items);
    const std::vector<int64_t> shelves = draw_distinct(kLabels, kLabels, items);
    const auto note = [&](int64_t cue, Random& from) {
      const std::string_view person = pick(kPeople, from);
      const std::string_view look = pick(kLooks, from);
      return fmt::format("{} brought a {} {} {}.", person, look,
                         kObjects[static_cast<size_t>(objects[static_cast<size_t>(cue)])], pick(kTimes, from));
    };
    const auto shelf = [&](int64_t cue) {
      return kShelves[static_cast<size_t>(shelves[static_cast<size_t>(cue % kLabels)])];
    };
    Example example{name(),
                    "A storehouse keeps each kind of object on a shelf named after a colour. The notes below say which "
                    "shelf was used. Learn the rule from them and reply to each new note with the colour of the shelf "
                    "and with nothing else.\n\n",
                    "",
                    {}};
    for (const int64_t cue : balanced_cues(demonstrations, count, items)) {
      const std::string text = note(cue, items);
      example.context += fmt::format("{}Note: {}\nShelf: {}", example.context.empty() ? "" : "\n\n", text, shelf(cue));
    }
    Random targets = random.split(kTargets);
    for (const int64_t cue : draw_distinct(std::min(demonstrations, count), turns, targets)) {
      const std::string colour(shelf(cue));
      example.turns.push_back({fmt::format("\n\nNote: {}\nShelf:", note(cue, targets)), " " + colour, {colour}});
    }
    return example;
  }
};

}  // namespace

const Task& many_shot_task() {
  static const ManyShot task;
  return task;
}

}  // namespace tessera::scbench
