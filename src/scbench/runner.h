// The loops of the benchmark, on any model: what to run, in which order, what is left to do.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "scbench/conversation.h"
#include "scbench/prompt.h"
#include "scbench/store.h"
#include "tessera/scbench/bench.h"

namespace tessera::scbench {

// One method under test: how people wrote it, its canonical name, and a fresh conversation under it.
struct BenchMethod {
  std::string label;
  std::string name;
  std::function<std::unique_ptr<Conversation>()> start;
};

struct BenchModel {
  std::string name;
  std::string digest;
  const model::Tokenizer& tokenizer;
  ChatRenderer render;              // empty: plain
  nlohmann::ordered_json settings;  // of the engine; part of what a resumed run must agree on
  std::vector<BenchMethod> methods;
};

// run_bench once the model and the methods are known.
Summary run_bench_on(const BenchModel& model, const BenchOptions& options);

// Words when the tokenizer writes " word(0)" as one token.
Vocabulary vocabulary_for(const model::Tokenizer& tokenizer);

}  // namespace tessera::scbench
