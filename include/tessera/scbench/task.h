// Tasks on shared contexts: a context and several questions about it, generated from a seed at any length.
//
//   const Task& task = find_task("kv");
//   Example example = task.generate({.tokens = 4096, .turns = 5, .vocabulary = Vocabulary::words}, counter, random);
//   double score = task.score(prediction, example.turns[0]);
//
// Formats: docs/tasks.md. Scorers follow SCBench's, named per task.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/random.h"

namespace tessera::scbench {

// `words`: docs/tasks.md's grammar, what the bundled model reads. `uuid`: the published style (JSON of UUIDs, variable
// names in noise text, bracketed numbers, English instructions), for instruction-tuned models.
enum class Vocabulary : uint8_t { words, uuid };

// `intended`: what the scorer was meant to do. `compat`: what SCBench's program does, quirks included (many-shot passes
// when any single character of the label occurs in the output), for comparison with published figures.
enum class Scoring : uint8_t { intended, compat };

struct Turn {
  std::string input;                  // what is appended to the context (or the history) to ask
  std::string answer;                 // golden answer, as it is appended to the history
  std::vector<std::string> accepted;  // what the scorer looks for; meaning depends on the task
};

// Plain text of a conversation: head context turns[0].input turns[0].answer turns[1].input ..., nothing in between.
struct Example {
  std::string task;
  std::string head;  // instruction before the context; empty in `words`
  std::string context;
  std::vector<Turn> turns;
};

struct ExampleOptions {
  int64_t tokens = 4096;  // of head + context + all inputs and answers together: the largest example that fits
  int turns = 5;          // >= 1
  Vocabulary vocabulary = Vocabulary::words;
};

// Number of tokens of a text for the model at hand.
using TokenCounter = std::function<int64_t(std::string_view)>;

class Task {
 public:
  virtual ~Task() = default;
  virtual std::string name() const = 0;   // "kv", "prefix-suffix", "vt", "mf", "many-shot", "passkey", "choice"
  virtual std::string title() const = 0;  // "Retr.KV", ...
  // Limit on the tokens of one answer; `uuid` follows SCBench's.
  virtual int64_t max_new_tokens(Vocabulary vocabulary) const = 0;
  // Depends on the seed of `random` only, not on what was drawn from it. Tokenises the text about ten times.
  // Throws Error: invalid_argument when `tokens` is too small for the turns or the task has fewer questions; unsupported
  // for "choice", which is read from files only.
  virtual Example generate(const ExampleOptions& options, const TokenCounter& count, Random& random) const = 0;
  // In [0, 1]. Any bytes are a valid prediction.
  virtual double score(std::string_view prediction, const Turn& turn, Scoring scoring) const = 0;
  double score(std::string_view prediction, const Turn& turn) const {
    return score(prediction, turn, Scoring::intended);
  }
};

// Throws Error(invalid_argument) listing the names.
const Task& find_task(std::string_view name);
// Of the tasks that can be generated.
std::vector<std::string> task_names();

// Example `index` of a run: the same for the same seed, task and index, whatever else the run does.
Random example_random(uint64_t seed, std::string_view task, int64_t index);

// Content word i of docs/tasks.md, without the space in front; 0 <= i < kWords.
constexpr int64_t kWords = 2800;
std::string word(int64_t i);

}  // namespace tessera::scbench
