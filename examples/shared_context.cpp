// One context, several questions, two methods: what does a smaller cache cost?
//
//   build/release/bin/example_shared_context models/nano
#include <cstdio>
#include <string>
#include <vector>

#include "tessera/engine/session.h"
#include "tessera/scbench/task.h"

using namespace tessera;

namespace {

struct Outcome {
  double score = 0;
  int64_t kv_bytes = 0;
};

// Reads the context once, then asks every question on a fork of it.
Outcome ask_all(const std::shared_ptr<const Model>& model, const std::string& method, const scbench::Example& example) {
  const scbench::Task& task = scbench::find_task(example.task);
  Session session(model, Method::parse(method));
  session.prefill(example.context);
  Outcome outcome{0, session.kv_bytes()};
  for (const scbench::Turn& turn : example.turns) {
    Session fork = session.fork();  // shares every page of the context
    const auto answer = fork.generate(turn.input, {.max_new_tokens = task.max_new_tokens(scbench::Vocabulary::words)});
    outcome.score += task.score(answer.text, turn) / static_cast<double>(example.turns.size());
  }
  return outcome;
}

int run(const char* path) {
  const auto model = Model::load(path);
  const scbench::TokenCounter count = [&](std::string_view text) {
    return static_cast<int64_t>(model->tokenizer().encode(text, {.add_special = false}).size());
  };
  Random random(7);
  const scbench::Example example = scbench::find_task("kv").generate({.tokens = 2048, .turns = 4}, count, random);
  for (const char* method : {"dense", "kivi(bits=4)", "snapkv(capacity=256)"}) {
    const Outcome outcome = ask_all(model, method, example);
    std::printf("%-24s score %.2f with %6.0f KiB of cache\n", method, outcome.score,
                static_cast<double>(outcome.kv_bytes) / 1024);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? argv[1] : "models/nano");
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
