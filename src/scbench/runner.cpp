#include "scbench/runner.h"

#include <fmt/format.h>

#include <algorithm>

#include "scbench/dataset.h"
#include "scbench/modes.h"
#include "scbench/report/report.h"
#include "scbench/tasks/common.h"
#include "tessera/base/build_info.h"
#include "tessera/base/error.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/progress.h"

namespace tessera::scbench {
namespace {

// The examples of one task, made or read when they are needed.
struct TaskExamples {
  const Task* task;
  int64_t count;
  std::function<Example(int64_t index)> make;
  std::vector<size_t> turns;  // [count]
};

int64_t count_tokens(const model::Tokenizer& tokenizer, std::string_view text) {
  return static_cast<int64_t>(tokenizer.encode(text, {.add_special = false, .parse_special = false}).size());
}

class Runner {
 public:
  Runner(const BenchModel& model, const BenchOptions& options);
  Summary run();

 private:
  void check_options() const;
  TaskExamples generated(const std::string& name) const;
  TaskExamples read(const Dataset& dataset) const;
  int64_t example_tokens(const Task& task, int turns) const;
  RunHeader header() const;
  int64_t count_turns() const;

  void run_example(const TaskExamples& examples, int64_t index, Progress& progress);
  RunLine line_of(const TaskExamples& examples, int64_t index, Mode mode, const BenchMethod& method) const;

  const BenchModel& model_;
  const BenchOptions& options_;
  PromptBuilder prompts_;
  Vocabulary vocabulary_;
  std::vector<TaskExamples> tasks_;
  RunStore store_;
};

Runner::Runner(const BenchModel& model, const BenchOptions& options)
    : model_(model),
      options_(options),
      prompts_(model.render),
      vocabulary_(!options.data.empty() ? Vocabulary::uuid
                                        : options.vocabulary.value_or(vocabulary_for(model.tokenizer))) {
  check_options();
  if (options_.data.empty()) {
    for (const std::string& name : options_.tasks.empty() ? task_names() : options_.tasks)
      tasks_.push_back(generated(name));
  } else {
    const auto excess = [&](const Task& task, const Example& example) {
      const auto turns = static_cast<int>(example.turns.size());
      return count_tokens(model_.tokenizer, full_text(example)) - example_tokens(task, turns);
    };
    const DatasetOptions wanted{
        .tasks = options_.tasks, .examples = options_.examples, .turns = options_.turns, .excess_tokens = excess};
    for (const Dataset& dataset : read_datasets(options_.data, wanted)) tasks_.push_back(read(dataset));
  }
  if (!options_.out.empty()) {
    const RunHeader about = header();
    store_ = RunStore(options_.out, {about.settings, about.machine, about.command},
                      options_.resume ? Resume::yes : Resume::no);
  }
}

void Runner::check_options() const {
  if (options_.examples < 1 || options_.turns < 1 || options_.length < 1) {
    throw Error(ErrorCode::invalid_argument,
                "bench: expected examples, turns and length of at least 1, found {}, {} and {}", options_.examples,
                options_.turns, options_.length);
  }
  if (model_.methods.empty() || options_.modes.empty()) {
    throw Error(ErrorCode::invalid_argument, "bench: expected at least one method and one mode");
  }
  std::vector<std::string> names;
  for (const BenchMethod& method : model_.methods) names.push_back(method.name);
  for (const Mode mode : options_.modes) names.emplace_back(to_string(mode));
  names.insert(names.end(), options_.tasks.begin(), options_.tasks.end());
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
    throw Error(ErrorCode::invalid_argument, "bench: '{}' is given twice", *twice);
  }
}

// What is left of the length for the example's own text: the chat markup and the answers being decoded need room too.
int64_t Runner::example_tokens(const Task& task, int turns) const {
  const int64_t answers = options_.history == History::generated ? turns : 1;
  return options_.length - prompts_.markup_tokens(model_.tokenizer, turns) - answers * task.max_new_tokens(vocabulary_);
}

TaskExamples Runner::generated(const std::string& name) const {
  const Task& task = find_task(name);
  const ExampleOptions wanted{
      .tokens = example_tokens(task, options_.turns), .turns = options_.turns, .vocabulary = vocabulary_};
  const auto make = [this, &task, wanted](int64_t index) {
    Random random = example_random(options_.seed, task.name(), index);
    return task.generate(
        wanted, [this](std::string_view text) { return count_tokens(model_.tokenizer, text); }, random);
  };
  make(0);  // throws now rather than hours later when the length is too small
  const auto turns = static_cast<size_t>(options_.turns);
  return {&task, options_.examples, make, std::vector<size_t>(static_cast<size_t>(options_.examples), turns)};
}

TaskExamples Runner::read(const Dataset& dataset) const {
  const auto shared = std::make_shared<const std::vector<Example>>(dataset.examples);
  TaskExamples examples{dataset.task,
                        static_cast<int64_t>(shared->size()),
                        [shared](int64_t index) { return shared->at(static_cast<size_t>(index)); },
                        {}};
  for (const Example& example : *shared) examples.turns.push_back(example.turns.size());
  return examples;
}

int64_t Runner::count_turns() const {
  int64_t turns = 0;
  for (const TaskExamples& examples : tasks_) {
    for (const size_t count : examples.turns) turns += static_cast<int64_t>(count);
  }
  return turns * static_cast<int64_t>(model_.methods.size() * options_.modes.size());
}

RunHeader Runner::header() const {
  RunHeader about;
  about.model = model_.name;
  for (const TaskExamples& examples : tasks_) about.tasks.push_back(examples.task->name());
  for (const BenchMethod& method : model_.methods) {
    about.methods.push_back(method.name);
    about.method_labels.push_back(method.label);
  }
  for (const Mode mode : options_.modes) about.modes.emplace_back(to_string(mode));
  about.expected_turns = count_turns();
  about.seed = options_.seed;
  about.settings = {{"model", model_.name},
                    {"model_digest", model_.digest},
                    {"tasks", about.tasks},
                    {"methods", about.methods},
                    {"modes", about.modes},
                    {"length", options_.length},
                    {"turns", options_.turns},
                    {"examples", options_.examples},
                    {"seed", options_.seed},
                    {"vocabulary", to_string(vocabulary_)},
                    {"history", to_string(options_.history)},
                    {"scoring", to_string(options_.scoring)},
                    {"chat", prompts_.chat()},
                    {"data", options_.data.string()},
                    {"engine", model_.settings}};
  about.machine = machine_description();
  about.command = options_.command;
  return about;
}

RunLine Runner::line_of(const TaskExamples& examples, int64_t index, Mode mode, const BenchMethod& method) const {
  RunLine line;
  line.task = examples.task->name();
  line.mode = to_string(mode);
  line.method = method.name;
  line.model = model_.name;
  line.length = options_.length;
  line.example = index;
  line.seed = options_.seed;
  return line;
}

void fill(RunLine& line, const TurnRecord& record) {
  line.turn = static_cast<int64_t>(record.turn);
  line.prediction = record.prediction;
  line.prompt_tokens = record.prompt_tokens;
  line.reused_tokens = record.reused_tokens;
  line.prefill_ms = record.prefill_ms;
  line.decode_ms = record.decode_ms;
  line.ttft_ms = record.ttft_ms;
  line.generated_tokens = record.generated_tokens;
  line.kv_bytes = record.kv_bytes;
  line.density = record.density;
  line.skipped_mass = record.skipped_mass;
}

// All modes and methods of one example, methods side by side, so that a stopped run compares what it has.
void Runner::run_example(const TaskExamples& examples, int64_t index, Progress& progress) {
  const size_t turns = examples.turns[static_cast<size_t>(index)];
  std::optional<Example> example;
  for (const Mode mode : options_.modes) {
    for (const BenchMethod& method : model_.methods) {
      RunLine line = line_of(examples, index, mode, method);
      const auto wanted = [&](size_t turn) {
        line.turn = static_cast<int64_t>(turn);
        return !store_.contains(key_of(line));
      };
      bool any = false;
      for (size_t turn = 0; turn < turns; ++turn) any |= wanted(turn);
      if (!any) continue;
      throw_if_interrupted();
      if (!example) example = examples.make(index);
      const std::string what = fmt::format("{}, {}, {}", line.task, line.mode, method.label);
      const auto on_turn = [&](const TurnRecord& record) {
        const Turn& turn = example->turns[record.turn];
        fill(line, record);
        line.reference = join(turn.accepted, " ");
        line.score = examples.task->score(record.prediction, turn, options_.scoring);
        store_.append(line);
        progress.advance(what);
        throw_if_interrupted();
      };
      const std::unique_ptr<Conversation> conversation = method.start();
      const AnswerLimits limits{examples.task->max_new_tokens(vocabulary_), prompts_.stop_strings(vocabulary_)};
      run_mode(mode, *conversation, {*example, prompts_, model_.tokenizer, options_.history, limits, wanted, on_turn});
    }
  }
}

Summary Runner::run() {
  const RunHeader about = header();
  const auto conclude = [&] {
    const Summary summary = summarise(about, store_.lines());
    if (!options_.out.empty()) write_report(summary, store_.lines(), options_.out);
    return summary;
  };
  try {
    Progress progress("bench", about.expected_turns, static_cast<int64_t>(store_.lines().size()));
    for (const TaskExamples& examples : tasks_) {
      for (int64_t index = 0; index < examples.count; ++index) run_example(examples, index, progress);
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::interrupted) conclude();
    throw;
  }
  return conclude();
}

}  // namespace

Vocabulary vocabulary_for(const model::Tokenizer& tokenizer) {
  return count_tokens(tokenizer, " " + word(0)) == 1 ? Vocabulary::words : Vocabulary::uuid;
}

Summary run_bench_on(const BenchModel& model, const BenchOptions& options) { return Runner(model, options).run(); }

}  // namespace tessera::scbench
