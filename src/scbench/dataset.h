// Rows of SCBench's own data set, mapped onto the tasks' prompts and scorers.
//
// DIR/scbench_kv.jsonl, scbench_prefix_suffix.jsonl, scbench_vt.jsonl, scbench_mf.jsonl, scbench_many_shot.jsonl,
// scbench_choice_eng.jsonl. One JSON object per line:
//   context   string; list of integers in scbench_mf (`input` is read where `context` is absent)
//   multi_turns   list of {"input": string, "answer": string, number, or in scbench_vt a list of names}; in
//       scbench_choice_eng also "options": four strings, and the answer is an option, its letter, or [option, letter]
// Other fields are ignored. SCBench's other files are not read.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tessera/scbench/task.h"

namespace tessera::scbench {

struct Dataset {
  const Task* task = nullptr;
  std::vector<Example> examples;
  int64_t dropped = 0;  // rows left out because they do not fit
};

struct DatasetOptions {
  std::vector<std::string> tasks;  // empty: every file that is there
  int64_t examples = 20;           // rows per task, the first that fit
  int turns = 5;                   // per row at most
  // Tokens of an example beyond what is allowed; such rows are left out, never cut, since a cut loses what is asked for
  //. Empty: everything fits.
  std::function<int64_t(const Task&, const Example&)> excess_tokens;
};

// Throws Error: not_found; bad_file naming file and line; unsupported, listing what is read, for another task or when
// only other files are there; limit_exceeded when no row of a task fits.
std::vector<Dataset> read_datasets(const std::filesystem::path& folder, const DatasetOptions& options);

}  // namespace tessera::scbench
