// SCBench's scorers, each a pure function of the output and what is accepted.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tessera/scbench/task.h"

namespace tessera::scbench {

// Key-value and prefix-suffix (B6.01): 1 when the label occurs in the raw output, byte for byte.
double score_substring(std::string_view output, std::string_view label);

// Variable tracking (B6.02): share of the names that occur, case ignored, rounded to two decimals. No names: 0.
double score_share(std::string_view output, std::span<const std::string> names);

// Math.Find (B6.03): 1 when the first integer or decimal of the output, its sign ignored, equals the label; a label
// without a point is compared with the number cut to an integer.
double score_first_number(std::string_view output, std::string_view label);

// Passkey (B6.04): 1 when the first run of digits is the label, digit for digit.
double score_first_digits(std::string_view output, std::string_view label);

// Many-shot (B6.07), case and outer white space ignored. Intended: 1 when the label occurs in the output. Compat: 1
// when any character of the label does.
double score_containment(std::string_view output, std::string_view label, Scoring scoring);

// Multiple choice (B6.08): `accepted` = {option text, letter}. Reads an answer that begins with a letter A to D, is one
// of the accepted, names one after a cue such as "answer is:", or holds a lone letter. Compat also reads the first
// letter of any word ("Because" is option B); intended wants the letter to stand alone.
double score_choice(std::string_view output, std::span<const std::string> accepted, Scoring scoring);

}  // namespace tessera::scbench
