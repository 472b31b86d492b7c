#include "scbench/tasks/common.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "tessera/base/error.h"

namespace tessera::scbench {
namespace {

constexpr int64_t kWordOrder = 4900;   // pairs of 70 syllables
constexpr int64_t kWordStride = 1999;  // coprime to kWordOrder, so that neighbours look different

std::string syllable(int64_t s) {
  constexpr std::string_view consonants = "bdfgklmnprstvz";
  constexpr std::string_view vowels = "aeiou";
  return {consonants[static_cast<size_t>(s / 5)], vowels[static_cast<size_t>(s % 5)]};
}

template <size_t n>
std::string_view pick(const std::array<std::string_view, n>& pool, Random& random) {
  return pool[static_cast<size_t>(random.below(n))];
}

// Where a line through two measured points crosses the limit, kept strictly inside (lo, hi).
int64_t interpolate(int64_t lo, int64_t hi, double share) {
  const auto guess = lo + static_cast<int64_t>(share * static_cast<double>(hi - lo));
  return std::clamp(guess, lo + 1, hi - 1);
}

}  // namespace

std::string word(int64_t i) {
  TESSERA_ASSERT(i >= 0 && i < kWords);
  const int64_t j = (kWordStride * i) % kWordOrder;
  return syllable(j / 70) + syllable(j % 70);
}

std::string full_text(const Example& example) {
  std::string text = example.head + example.context;
  for (const Turn& turn : example.turns) text += turn.input + turn.answer;
  return text;
}

Example largest_fit(const ExampleOptions& options, const TokenCounter& count, int64_t minimum, const BuildExample& build) {
  const auto tokens_of = [&](const Example& example) { return count(full_text(example)); };
  Example best = build(minimum);
  int64_t lo = minimum;
  int64_t lo_tokens = tokens_of(best);
  if (lo_tokens > options.tokens) {
    throw Error(ErrorCode::invalid_argument,
                "task {}: the smallest example with {} turns has {} tokens, but only {} are allowed; raise the length",
                best.task, options.turns, lo_tokens, options.tokens);
  }
  // Grow until something does not fit; the second probe already tells the tokens per item.
  int64_t hi = 2 * minimum + 16;
  int64_t hi_tokens = 0;
  while (true) {
    Example probe = build(hi);
    hi_tokens = tokens_of(probe);
    if (hi_tokens > options.tokens) break;
    const double per_item =
        std::max(0.25, static_cast<double>(hi_tokens - lo_tokens) / static_cast<double>(hi - lo));
    best = std::move(probe);
    lo = hi;
    lo_tokens = hi_tokens;
    hi += 1 + static_cast<int64_t>(1.02 * static_cast<double>(options.tokens - hi_tokens) / per_item);
  }
  for (int step = 0; hi - lo > 1; ++step) {
    const double share = static_cast<double>(options.tokens - lo_tokens) / static_cast<double>(hi_tokens - lo_tokens);
    const int64_t middle = step % 3 == 2 ? lo + (hi - lo) / 2 : interpolate(lo, hi, share);
    Example probe = build(middle);
    const int64_t tokens = tokens_of(probe);
    if (tokens <= options.tokens) {
      best = std::move(probe);
      lo = middle;
      lo_tokens = tokens;
    } else {
      hi = middle;
      hi_tokens = tokens;
    }
  }
  return best;
}

void check_turns(std::string_view task, int turns, int64_t most) {
  if (turns < 1 || turns > most) {
    throw Error(ErrorCode::invalid_argument, "task {}: expected 1 to {} turns, found {}", task, most, turns);
  }
}

std::vector<int64_t> spread_targets(int64_t n, int turns, Random& random) {
  TESSERA_ASSERT(n >= turns);
  std::vector<int64_t> targets;
  for (int64_t t = 0; t < turns; ++t) {
    const int64_t begin = t * n / turns;
    const int64_t end = (t + 1) * n / turns;
    targets.push_back(begin + random.below(end - begin));
  }
  random.shuffle(targets);
  return targets;
}

std::vector<int64_t> draw_distinct(int64_t n, int64_t count, Random& random) {
  TESSERA_ASSERT(count <= n);
  std::vector<int64_t> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  random.shuffle(numbers);
  numbers.resize(static_cast<size_t>(count));
  return numbers;
}

std::vector<std::string> weave(std::vector<std::string> noise, const std::vector<std::string>& needles,
                               const std::vector<int64_t>& places) {
  std::vector<std::string> lines(noise.size() + needles.size());
  std::vector<bool> taken(lines.size());
  for (size_t i = 0; i < needles.size(); ++i) {
    const auto place = static_cast<size_t>(places[i]);
    lines[place] = needles[i];
    taken[place] = true;
  }
  size_t next = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (!taken[i]) lines[i] = std::move(noise[next++]);
  }
  return lines;
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

std::string spaced_word(int64_t i) { return " " + word(i); }

std::string words_noise_line(const std::vector<int64_t>& permutation, int64_t taken, Random& random) {
  constexpr int kWordsPerLine = 5;
  std::string line = "\n";
  for (int i = 0; i < kWordsPerLine; ++i) {
    line += spaced_word(permutation[static_cast<size_t>(taken + random.below(kWords - taken))]);
  }
  return line;
}

std::string random_uuid(Random& random) {
  const uint64_t high = (random.bits() & ~0xF000ULL) | 0x4000ULL;              // version 4
  const uint64_t low = (random.bits() & ~(3ULL << 62)) | (2ULL << 62);         // RFC 4122 variant
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xFFFF, high & 0xFFFF, low >> 48,
                     low & 0xFFFFFFFFFFFFULL);
}

Turn english_turn(std::string_view question, std::string_view answer, std::vector<std::string> accepted) {
  return {fmt::format("\n\nQuestion: {}\nAnswer:", question), fmt::format(" {}", answer), std::move(accepted)};
}

std::string noise_sentence(Random& random) {
  constexpr std::array<std::string_view, 12> subjects = {
      "The ferry",      "A tall pine",     "The night train", "An old clock",  "The baker",     "A grey heron",
      "The north wind", "A narrow bridge", "The gardener",    "A quiet choir", "The lighthouse", "A painted cart"};
  constexpr std::array<std::string_view, 12> verbs = {
      "rests",  "waits",       "drifts slowly",    "turns", "keeps its place", "hums",
      "stands", "lingers",     "returns", "moves along", "shines",           "is seen"};
  constexpr std::array<std::string_view, 12> places = {
      "beside the river",     "under the stone arch", "near the market",    "at the edge of the field",
      "behind the mill",      "above the valley",     "along the coast",    "in front of the school",
      "between the orchards", "past the old harbour", "on the village green", "over the wet roofs"};
  constexpr std::array<std::string_view, 12> times = {
      "before sunrise",   "after the rain",  "every autumn",          "while the town sleeps",
      "for most of June", "without a sound", "until the bells ring",  "as the fog lifts",
      "when school ends", "in the evening",  "long before breakfast", "during the first snow"};
  return fmt::format("{} {} {} {}.", pick(subjects, random), pick(verbs, random), pick(places, random),
                     pick(times, random));
}

}  // namespace tessera::scbench
