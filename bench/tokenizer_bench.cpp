// How fast a tokenizer encodes, in MB/s of one thread's CPU time:
//
//   bench_tokenizer MODEL TEXT [REPEATS]
//
// MODEL is a .gguf file or a directory with tokenizer.json, TEXT a file. Prints JSON.
#include <cstdio>
#include <ctime>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/tokenizer_factory.h"
#include "tessera/base/build_info.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/statistics.h"

namespace {

using namespace tessera;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

int run(const std::string& model, const std::string& text_path, int repeats) {
  const std::string text = read_file(text_path);
  const double before = cpu_seconds();
  const auto tokenizer = model.ends_with(".gguf") ? model::tokenizer_from_gguf(model::GgufFile::open(model).metadata())
                                                  : model::tokenizer_from_huggingface(model);
  const double load_seconds = cpu_seconds() - before;
  std::vector<double> rates;
  size_t tokens = tokenizer->encode(text, {}).size();  // once to warm up
  for (int i = 0; i < repeats; ++i) {
    const double start = cpu_seconds();
    tokens = tokenizer->encode(text, {}).size();
    rates.push_back(1e-6 * static_cast<double>(text.size()) / (cpu_seconds() - start));
  }
  const nlohmann::json report = {{"machine", machine_description()},
                                 {"model", model},
                                 {"bytes", text.size()},
                                 {"tokens", tokens},
                                 {"load_seconds", load_seconds},
                                 {"repeats", repeats},
                                 {"megabytes_per_second", median(rates)},
                                 {"spread", {quantile(rates, 0.1), quantile(rates, 0.9)}}};
  std::printf("%s\n", report.dump(1).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: bench_tokenizer MODEL TEXT [REPEATS]\n");
    return 2;
  }
  try {
    const int repeats = argc == 4 ? std::stoi(argv[3]) : 7;
    if (repeats < 1) throw Error(ErrorCode::invalid_argument, "REPEATS: expected at least 1, found {}", repeats);
    return run(argv[1], argv[2], repeats);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_tokenizer: %s\n", error.what());
    return 2;
  }
}
