#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/model_registry.h"
#include "tessera/base/error.h"
#include "tessera/scbench/bench.h"

namespace tessera::cli {
namespace {

struct BenchCommand {
  std::string model;
  std::string tasks;
  std::string methods = "dense; vertical-slash; snapkv(capacity=1024)";
  std::string modes = "multi-turn,multi-request";
  std::string vocabulary = "auto";
  std::string history = "golden";
  std::string scoring = "intended";
  scbench::BenchOptions options;
  bool json = false;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (const std::string& part : CLI::detail::split(text, separator)) {
    if (std::string trimmed = CLI::detail::trim_copy(part); !trimmed.empty()) parts.push_back(std::move(trimmed));
  }
  return parts;
}

// The command that makes this run again, without the wish to resume.
std::string command_line(const BenchCommand& command) {
  const scbench::BenchOptions& options = command.options;
  std::string text = fmt::format(
      "tessera bench {} --methods \"{}\" --modes {} --length {} --turns {} --examples {} --seed {}", command.model,
      command.methods, command.modes, options.length, options.turns, options.examples, options.seed);
  if (!command.tasks.empty()) text += " --tasks " + command.tasks;
  if (command.vocabulary != "auto") text += " --vocabulary " + command.vocabulary;
  if (command.history != "golden") text += " --history " + command.history;
  if (command.scoring != "intended") text += " --scoring " + command.scoring;
  if (!options.data.empty()) text += " --data " + options.data.string();
  return text;
}

void run(BenchCommand& command) {
  scbench::BenchOptions& options = command.options;
  options.tasks = split(command.tasks, ',');
  options.methods = split(command.methods, ';');
  options.modes.clear();
  for (const std::string& mode : split(command.modes, ',')) options.modes.push_back(scbench::parse_mode(mode));
  if (command.vocabulary != "auto") options.vocabulary = scbench::parse_vocabulary(command.vocabulary);
  options.history = scbench::parse_history(command.history);
  options.scoring = scbench::parse_scoring(command.scoring);
  options.command = command_line(command);
  options.model = resolve_model(command.model);
  const scbench::Summary summary = scbench::run_bench(options);
  if (command.json) {
    fmt::print("{}\n", scbench::to_json(summary).dump(2));
    return;
  }
  fmt::print("{}", scbench::terminal_table(summary));
  if (!options.out.empty()) fmt::print("\nreport: {}\n", (options.out / "report.html").string());
}

}  // namespace

void add_bench(CLI::App& app) {
  const auto command = std::make_shared<BenchCommand>();
  scbench::BenchOptions& options = command->options;
  CLI::App* bench = app.add_subcommand("bench", "what methods cost on tasks that share a context");
  bench->add_option("MODEL", command->model, "Hugging Face directory, .gguf file, or a name from 'tessera models list'")
      ->required();
  bench->add_option("--tasks", command->tasks,
                    "names separated by ','; empty: all of kv, prefix-suffix, vt, mf, many-shot, passkey");
  bench->add_option("--methods", command->methods,
                    "method strings separated by ';'; the first is what the others are compared with");
  bench->add_option("--modes", command->modes, "multi-turn, multi-request or both");
  bench->add_option("--length", options.length, "tokens of an example: context, questions and answers together");
  bench->add_option("--turns", options.turns, "questions per context");
  bench->add_option("--examples", options.examples, "contexts per task");
  bench->add_option("--seed", options.seed, "of the generated examples and of the bootstrap");
  bench->add_option("--vocabulary", command->vocabulary, "words, uuid, or auto: what the tokenizer suits");
  bench->add_option("--history", command->history, "golden or generated answers in the history of multi-turn runs");
  bench->add_option("--scoring", command->scoring, "intended, or compat: with the quirks of the published scorers");
  bench->add_option("--data", options.data, "directory with SCBench's jsonl files instead of generated examples");
  bench->add_option("--out", options.out, "directory for runs.jsonl, summary.json and report.html");
  bench->add_flag("--resume", options.resume, "go on with what --out holds");
  bench->add_flag("--json", command->json, "print the summary as JSON");
  // The last one counts, so that ./quickstart.sh's own options can be overridden by those handed to it.
  for (CLI::Option* option : bench->get_options()) {
    if (option->get_items_expected_max() == 1) option->take_last();
  }
  bench->callback([command] { run(*command); });
}

}  // namespace tessera::cli
