#include "scbench/words_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

namespace tessera::scbench {
namespace {

using Tokens = std::vector<std::string>;

Tokens tokens_of(const std::string& line) {
  std::istringstream stream(line);
  Tokens tokens;
  for (std::string token; stream >> token;) tokens.push_back(token);
  return tokens;
}

// The text with one space before each token: what a well-formed line looks like.
std::string spaced(const Tokens& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += " " + token;
  return text;
}

const std::set<std::string>& all_words() {
  static const std::set<std::string> words = [] {
    std::set<std::string> result;
    for (int64_t i = 0; i < kWords; ++i) result.insert(word(i));
    return result;
  }();
  return words;
}

bool is_word(const std::string& token) { return all_words().contains(token); }

bool is_number(const std::string& token) {
  return !token.empty() && token.size() <= 3 && token.find_first_not_of("0123456789") == std::string::npos &&
         token == std::to_string(std::stoi(token));
}

// Lines of the context after the title, and the turns, each as tokens; faults of shape are noted.
struct Reader {
  std::vector<Tokens> lines;
  std::vector<std::pair<Tokens, Tokens>> turns;  // question without "?", answer
  std::vector<std::string> faults;

  void expect(bool condition, const std::string& what) {
    if (!condition) faults.push_back(what);
  }

  Reader(const Example& example, const std::string& title) {
    expect(example.head.empty(), "a head before the context");
    std::istringstream stream(example.context);
    std::string line;
    std::getline(stream, line);
    if (example.task == "mf") {
      lines.push_back(tokens_of(line));
      expect(!lines[0].empty() && lines[0][0] == title && spaced(lines[0]) == line, "the line of numbers");
    } else {
      expect(line == " " + title, "title: " + line);
    }
    while (std::getline(stream, line)) {
      lines.push_back(tokens_of(line));
      expect(spaced(lines.back()) == line, "spacing: " + line);
    }
    for (const Turn& turn : example.turns) {
      expect(turn.input.starts_with("\n? "), "input: " + turn.input);
      turns.emplace_back(tokens_of(turn.input.substr(2)), tokens_of(turn.answer));
      expect(turn.input == "\n?" + spaced(turns.back().first), "input spacing: " + turn.input);
      expect(turn.answer == spaced(turns.back().second), "answer spacing: " + turn.answer);
    }
    std::set<Tokens> questions;
    for (const auto& turn : turns) questions.insert(turn.first);
    expect(questions.size() == turns.size(), "two turns ask the same");
  }

  // Whether `line` is words where the pattern says w, a number where it says n, and the literal token elsewhere.
  static bool matches(const Tokens& line, const Tokens& pattern) {
    if (line.size() != pattern.size()) return false;
    for (size_t i = 0; i < line.size(); ++i) {
      const bool fits = pattern[i] == "w"   ? is_word(line[i])
                        : pattern[i] == "n" ? is_number(line[i])
                                            : line[i] == pattern[i];
      if (!fits) return false;
    }
    return true;
  }
};

// Every line is `pattern`; the tokens at `key` of a line are unique; a question is `ask` filled with them.
void check_lookup(Reader& reader, const Tokens& pattern, const std::vector<size_t>& key,
                  const std::vector<size_t>& value, const Tokens& ask) {
  const auto at = [](const Tokens& line, const std::vector<size_t>& places) {
    Tokens result;
    for (const size_t i : places) result.push_back(line[i]);
    return result;
  };
  std::map<Tokens, Tokens> answers;
  for (const Tokens& line : reader.lines) {
    if (!Reader::matches(line, pattern)) {
      reader.expect(false, "line:" + spaced(line));
      continue;
    }
    reader.expect(answers.emplace(at(line, key), at(line, value)).second, "key twice:" + spaced(line));
  }
  for (const auto& [question, answer] : reader.turns) {
    reader.expect(Reader::matches(question, ask), "question:" + spaced(question));
    Tokens asked;
    std::copy_if(question.begin(), question.end(), std::back_inserter(asked), is_word);
    reader.expect(answers.contains(asked) && answers[asked] == answer, "wrong answer to" + spaced(question));
  }
}

void check_vt(Reader& reader) {
  std::map<std::string, Tokens> names_of;        // number -> names in order
  std::map<std::string, std::string> number_of;  // name -> number
  std::set<std::string> noise;
  for (const Tokens& line : reader.lines) {
    if (Reader::matches(line, {"w", "is", "n"})) {
      reader.expect(names_of.emplace(line[2], Tokens{line[0]}).second, "number twice:" + spaced(line));
      reader.expect(number_of.emplace(line[0], line[2]).second, "name twice:" + spaced(line));
    } else if (Reader::matches(line, {"w", "is", "w"})) {
      reader.expect(number_of.contains(line[2]), "link before its target:" + spaced(line));
      names_of[number_of[line[2]]].push_back(line[0]);
      reader.expect(number_of.emplace(line[0], number_of[line[2]]).second, "name twice:" + spaced(line));
    } else {
      reader.expect(Reader::matches(line, {"w", "w", "w", "w", "w"}), "line:" + spaced(line));
      noise.insert(line.begin(), line.end());
    }
  }
  reader.expect(names_of.size() == std::max<size_t>(2, reader.turns.size()), "number of chains");
  for (const auto& [name, number] : number_of) reader.expect(!noise.contains(name), "name in noise: " + name);
  for (const auto& [question, answer] : reader.turns) {
    reader.expect(Reader::matches(question, {"is", "n"}), "question:" + spaced(question));
    reader.expect(answer.size() == 3 && names_of[question.at(1)] == answer, "wrong answer to" + spaced(question));
  }
}

void check_mf(Reader& reader) {
  std::vector<int> numbers;
  for (size_t i = 1; i < reader.lines[0].size(); ++i) {
    reader.expect(is_number(reader.lines[0][i]), "number: " + reader.lines[0][i]);
    numbers.push_back(std::stoi(reader.lines[0][i]));
  }
  std::sort(numbers.begin(), numbers.end());
  const std::vector<int> values = [&] {
    std::vector<int> copy = numbers;
    copy.erase(std::unique(copy.begin(), copy.end()), copy.end());
    return copy;
  }();
  const std::vector<std::pair<Tokens, int>> expected = {{{"largest", "="}, values.back()},
                                                        {{"smallest", "="}, values.front()},
                                                        {{"second", "largest", "="}, values[values.size() - 2]},
                                                        {{"second", "smallest", "="}, values[1]},
                                                        {{"median", "="}, numbers[(numbers.size() - 1) / 2]}};
  for (size_t t = 0; t < reader.turns.size(); ++t) {
    reader.expect(reader.turns[t].first == expected[t].first, "question:" + spaced(reader.turns[t].first));
    reader.expect(reader.turns[t].second == Tokens{std::to_string(expected[t].second)}, "wrong answer");
  }
}

void check_many_shot(Reader& reader) {
  std::map<std::string, std::set<std::string>> labels_of;  // by cue
  std::set<std::string> fillers;
  std::set<std::string> labels;
  for (const Tokens& line : reader.lines) {
    if (!Reader::matches(line, {"w", "w", "w", "w", "=", "w"})) {
      reader.expect(false, "line:" + spaced(line));
      continue;
    }
    labels.insert(line[5]);
    labels_of[line[3]].insert(line[5]);
    fillers.insert(line.begin(), line.begin() + 3);
  }
  reader.expect(labels.size() <= 8, "more than eight labels");
  reader.expect(labels_of.size() <= 64, "more than 64 cues");
  for (const std::string& label : labels) {
    reader.expect(!labels_of.contains(label) && !fillers.contains(label), "label among the words: " + label);
  }
  for (const auto& [cue, its_labels] : labels_of) {
    reader.expect(its_labels.size() == 1, "two labels of cue " + cue);
    reader.expect(!fillers.contains(cue), "cue among the fillers: " + cue);
  }
  for (const auto& [question, answer] : reader.turns) {
    reader.expect(Reader::matches(question, {"w", "w", "w", "w", "="}), "question:" + spaced(question));
    reader.expect(labels_of[question[3]] == std::set<std::string>{answer.at(0)}, "no cue explains" + spaced(question));
  }
}

void check_passkey(Reader& reader) {
  std::map<std::string, std::string> number_of;
  std::set<std::string> noise;
  for (const Tokens& line : reader.lines) {
    if (Reader::matches(line, {"pass", "w", "=", "n"})) {
      reader.expect(number_of.emplace(line[1], line[3]).second, "needle twice:" + spaced(line));
    } else {
      reader.expect(Reader::matches(line, {"w", "w", "w", "w", "w"}), "line:" + spaced(line));
      noise.insert(line.begin(), line.end());
    }
  }
  reader.expect(number_of.size() == reader.turns.size(), "one needle per turn");
  for (const auto& [owner, number] : number_of) reader.expect(!noise.contains(owner), "owner in noise: " + owner);
  for (const auto& [question, answer] : reader.turns) {
    reader.expect(Reader::matches(question, {"pass", "w", "="}), "question:" + spaced(question));
    reader.expect(answer == Tokens{number_of[question.at(1)]}, "wrong answer to" + spaced(question));
  }
}

}  // namespace

std::vector<std::string> words_faults(const Example& example) {
  static const std::map<std::string, std::string> titles = {{"kv", "pairs"},        {"prefix-suffix", "lists"},
                                                            {"vt", "links"},        {"mf", "numbers"},
                                                            {"many-shot", "shots"}, {"passkey", "keys"}};
  Reader reader(example, titles.at(example.task));
  if (example.task == "kv") check_lookup(reader, {"w", "w", "=", "w", "w"}, {0, 1}, {3, 4}, {"w", "w", "="});
  if (example.task == "prefix-suffix") {
    check_lookup(reader, {"w", "w", "w", "w"}, {0, 3}, {0, 1, 2, 3}, {"w", "..", "w", "="});
  }
  if (example.task == "vt") check_vt(reader);
  if (example.task == "mf") check_mf(reader);
  if (example.task == "many-shot") check_many_shot(reader);
  if (example.task == "passkey") check_passkey(reader);
  return reader.faults;
}

}  // namespace tessera::scbench
