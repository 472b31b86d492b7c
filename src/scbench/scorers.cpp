#include "scbench/scorers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <sstream>
#include <string>

namespace tessera::scbench {
namespace {

constexpr std::string_view kDigits = "0123456789";

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The first run of digits from `start` on; empty when there is none.
std::string_view digits_from(std::string_view text, size_t start) {
  const size_t begin = text.find_first_of(kDigits, start);
  if (begin == std::string_view::npos) return {};
  const size_t end = std::min(text.find_first_not_of(kDigits, begin), text.size());
  return text.substr(begin, end - begin);
}

// The first unsigned integer or decimal; empty when there is none.
std::string_view first_number(std::string_view text) {
  const std::string_view whole = digits_from(text, 0);
  if (whole.empty()) return {};
  const auto begin = static_cast<size_t>(whole.data() - text.data());
  size_t end = begin + whole.size();
  if (end + 1 < text.size() && text[end] == '.' && is_digit(text[end + 1])) {
    end = std::min(text.find_first_not_of(kDigits, end + 1), text.size());
  }
  return text.substr(begin, end - begin);
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string_view strip(std::string_view text) {
  constexpr std::string_view white = " \t\r\n\v\f";
  const size_t begin = text.find_first_not_of(white);
  return begin == std::string_view::npos ? std::string_view() : text.substr(begin, text.find_last_not_of(white) - begin + 1);
}

// The words of the text, punctuation taken as space.
std::vector<std::string> choice_words(std::string_view text) {
  std::string plain(text);
  std::replace_if(
      plain.begin(), plain.end(), [](char c) { return std::string_view("\n\"'.,?!{}").find(c) != std::string_view::npos; },
      ' ');
  std::istringstream stream(plain);
  std::vector<std::string> words;
  for (std::string word_found; stream >> word_found;) words.push_back(word_found);
  return words;
}

}  // namespace

double score_substring(std::string_view output, std::string_view label) { return contains(output, label) ? 1 : 0; }

double score_share(std::string_view output, std::span<const std::string> names) {
  if (names.empty()) return 0;
  const std::string text = lower(output);
  const auto found = std::count_if(names.begin(), names.end(), [&](const auto& name) { return contains(text, lower(name)); });
  return std::round(100.0 * static_cast<double>(found) / static_cast<double>(names.size())) / 100.0;
}

double score_first_number(std::string_view output, std::string_view label) {
  const std::string_view number = first_number(output);
  if (number.empty()) return 0;
  // Too many digits become infinity, which equals no label.
  const double found = std::strtod(std::string(number).c_str(), nullptr);
  const double expected = std::strtod(std::string(label).c_str(), nullptr);
  return (contains(label, ".") ? found : std::trunc(found)) == expected ? 1 : 0;
}

double score_first_digits(std::string_view output, std::string_view label) {
  const std::string_view digits = digits_from(output, 0);
  return !digits.empty() && digits == label ? 1 : 0;
}

double score_containment(std::string_view output, std::string_view label, Scoring scoring) {
  const std::string text = lower(output);
  const std::string wanted = lower(label);
  if (scoring == Scoring::intended) return contains(text, wanted) ? 1 : 0;
  return text.find_first_of(wanted) != std::string::npos ? 1 : 0;
}

double score_choice(std::string_view output, std::span<const std::string> accepted, Scoring scoring) {
  constexpr std::string_view letters = "ABCD";
  constexpr std::array<std::string_view, 4> cues = {"answer is:", "answer:", "answer is", "option is"};
  const auto is_accepted = [&](std::string_view text) {
    return std::find(accepted.begin(), accepted.end(), text) != accepted.end() ? 1.0 : 0.0;
  };
  const std::string_view text = strip(output);
  if (text.empty()) return 0;
  const bool alone = text.size() == 1 || !is_letter(text[1]);
  if (contains(letters, text.substr(0, 1)) && (alone || scoring == Scoring::compat)) return is_accepted(text.substr(0, 1));
  if (is_accepted(text) == 1.0) return 1;
  const std::vector<std::string> words = choice_words(text);
  std::string plain;
  for (const std::string& part : words) plain += (plain.empty() ? "" : " ") + part;
  for (const std::string_view cue : cues) {
    const size_t at = plain.find(cue);
    if (at == std::string::npos) continue;
    const std::string rest = plain.substr(std::min(plain.size(), at + cue.size() + 1));
    return std::any_of(accepted.begin(), accepted.end(), [&](const auto& item) { return rest.starts_with(item); }) ? 1 : 0;
  }
  const auto letter = std::find_if(words.begin(), words.end(), [&](const auto& part) { return contains(letters, part); });
  return letter == words.end() ? 0 : is_accepted(*letter);
}

}  // namespace tessera::scbench
