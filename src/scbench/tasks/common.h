// What the tasks share: fitting an example into a number of tokens, drawing targets, text pools.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/scbench/task.h"

namespace tessera::scbench {

// Streams of one example's randomness, so that a longer example starts like a shorter one.
enum Stream : uint64_t { kItems = 1, kTargets = 2, kNoise = 3, kPlaces = 4 };

// An example with n items (pairs, entries, noise lines, numbers, demonstrations); must be a pure function of n.
using BuildExample = std::function<Example(int64_t items)>;

// build(n) for an n >= minimum such that it fits into options.tokens and n + 1 items do not. Interpolates, then bisects:
// about ten builds. Throws Error(invalid_argument) when build(minimum) does not fit.
Example largest_fit(const ExampleOptions& options, const TokenCounter& count, int64_t minimum, const BuildExample& build);

// head + context + every input and answer: what must fit.
std::string full_text(const Example& example);

// Throws Error(invalid_argument) unless 1 <= turns <= most.
void check_turns(std::string_view task, int turns, int64_t most);

// `turns` distinct numbers below n, one out of each of `turns` equal parts, in random order. n >= turns.
std::vector<int64_t> spread_targets(int64_t n, int turns, Random& random);

// `count` distinct numbers below n, in random order.
std::vector<int64_t> draw_distinct(int64_t n, int64_t count, Random& random);

// Joins noise lines and needles: needles[i] becomes line places[i] of the result, the noise fills the others.
std::vector<std::string> weave(std::vector<std::string> noise, const std::vector<std::string>& needles,
                               const std::vector<int64_t>& places);

std::string join(const std::vector<std::string>& parts, std::string_view separator);

// `words`: a random content word with its space, out of those not below `taken` in the order `permutation`.
std::string spaced_word(int64_t i);
std::string words_noise_line(const std::vector<int64_t>& permutation, int64_t taken, Random& random);

// `uuid`: a random version 4 UUID; a question and its answer in the published manner.
std::string random_uuid(Random& random);
Turn english_turn(std::string_view question, std::string_view answer, std::vector<std::string> accepted);
// An English sentence without digits or capital words besides its first.
std::string noise_sentence(Random& random);

const Task& kv_task();
const Task& prefix_suffix_task();
const Task& vt_task();
const Task& mf_task();
const Task& many_shot_task();
const Task& passkey_task();

}  // namespace tessera::scbench
