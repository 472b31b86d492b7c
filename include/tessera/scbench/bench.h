// The benchmark: tasks x modes x methods x examples on one model, every turn scored, timed and stored.
//
//   Summary summary = run_bench({.model = "models/nano", .methods = {"dense", "vertical-slash"}, .out = "out/nano"});
//
// OUT/config.json   settings, machine, command
// OUT/runs.jsonl    one line per scored turn (RunLine), appended and flushed as it happens
// OUT/summary.json  the summary
// OUT/report.html   the same for people, one self-contained page
//
// Modes. multi-turn: context and first question are prefilled together, then before turn i the cache holds
// C Q1 H1 Q2 H2 ... Qi, where H is the golden or the generated answer. multi-request: the context alone is prefilled
// once; every question runs on a fork that is dropped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tessera/engine/session.h"
#include "tessera/scbench/summary.h"
#include "tessera/scbench/task.h"

namespace tessera::scbench {

enum class Mode : uint8_t { multi_turn, multi_request };

// What stands for the answers in the history of a multi-turn run. Golden is SCBench's default.
enum class History : uint8_t { golden, generated };

const char* to_string(Mode mode);              // "multi-turn", "multi-request"
const char* to_string(History history);        // "golden", "generated"
const char* to_string(Vocabulary vocabulary);  // "words", "uuid"
const char* to_string(Scoring scoring);        // "intended", "compat"
// Throw Error(invalid_argument) listing the names.
Mode parse_mode(std::string_view name);
History parse_history(std::string_view name);
Vocabulary parse_vocabulary(std::string_view name);
Scoring parse_scoring(std::string_view name);

struct BenchOptions {
  std::filesystem::path model;                   // Hugging Face directory or .gguf file
  std::vector<std::string> tasks;                // names; empty: all, or with `data` all files found there
  std::vector<std::string> methods = {"dense"};  // the first is what the others are compared with
  std::vector<Mode> modes = {Mode::multi_turn, Mode::multi_request};
  int64_t length = 4096;  // tokens of prompt, history and answers together; SCBench uses 131072
  int turns = 5;          // per example, SCBench's default
  int64_t examples = 20;  // per task
  uint64_t seed = 0;
  std::optional<Vocabulary> vocabulary;  // none: words if the tokenizer knows them as single tokens, else uuid
  History history = History::golden;
  Scoring scoring = Scoring::intended;
  std::filesystem::path data;  // directory with SCBench's jsonl files instead of generated examples
  std::filesystem::path out;   // empty: nothing is stored
  bool resume = false;         // go on with what OUT holds; without it a used OUT is an error
  engine::SessionOptions session;
  std::string command;  // the command line, for the report; may be empty
};

// Runs what is not yet in OUT. Throws Error: invalid_argument (options, a used OUT, other settings than OUT's),
// not_found, bad_file, unsupported (model, data), limit_exceeded (more tokens than the model's context), io, and
// interrupted after Ctrl-C, between two turns and with everything up to there stored and summarised.
Summary run_bench(const BenchOptions& options);

}  // namespace tessera::scbench
