// Speed of combining and of labelers on one core (docs/experts-rules.md):
//
//   bench_experts_speed [--repeats 9] [--out bench/results/experts/speed.json]
//
// Combining: every rule, K = 26 classes, m = 24 experts of at most 6 classes, microseconds of CPU per input; goal 1.
// Labelers: 100000 items, 100 labelers of 6 of 26 classes (right by intent one time in five on
// classes they know, else a guess), seconds of CPU to the end of the fit; goal 5.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tessera/base/build_info.h"
#include "tessera/base/clock.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"
#include "tessera/base/statistics.h"
#include "tessera/experts/combine.h"
#include "tessera/experts/labelers.h"

namespace tessera::experts {
namespace {

constexpr int kClasses = 26, kSize = 6, kExperts = 24;
constexpr int64_t kInputs = 20000;

Design random_design(int experts, Random& random) {
  Design design{.classes = kClasses};
  for (int j = 0; j < experts; ++j) {
    std::vector<int> all;
    for (int k = 0; k < kClasses; ++k) all.push_back(k);
    random.shuffle(all);
    std::vector<int> set(all.begin(), all.begin() + kSize);
    std::sort(set.begin(), set.end());
    design.sets.push_back(set);
  }
  return design;
}

Answers soft_answers(const Design& design, Random& random) {
  Answers answers{.inputs = kInputs};
  for (int64_t i = 0; i < kInputs; ++i) {
    const auto y = static_cast<int>(random.below(kClasses));
    for (const auto& set : design.sets) {
      std::vector<double> block;
      double sum = 0;
      for (const int item : set) sum += block.emplace_back(std::exp(2 * random.normal() + (item == y ? 5 : 0)));
      for (const double value : block) answers.probabilities.push_back(static_cast<float>(value / sum));
    }
  }
  return answers;
}

nlohmann::json time_rules(int repeats, ThreadPool& one) {
  Random random(1);
  const Design design = random_design(kExperts, random);
  const Answers answers = soft_answers(design, random);
  nlohmann::json result;
  for (const Rule rule : all_rules()) {
    std::vector<double> times;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      const Stopwatch watch;
      const Combination combined = combine(design, answers, {.rule = rule, .pool = &one});
      times.push_back(watch.elapsed().cpu_ms * 1000 / static_cast<double>(combined.inputs));
    }
    result[to_string(rule)] = {{"median", median(times)}, {"least", quantile(times, 0)}, {"most", quantile(times, 1)}};
    fmt::print("{:<18} {:.3f} us per input ({:.3f} to {:.3f})\n", to_string(rule), median(times), quantile(times, 0),
               quantile(times, 1));
  }
  return result;
}

nlohmann::json time_labelers(ThreadPool& one) {
  constexpr int kLabelers = 100;
  constexpr int64_t kItems = 100000;
  Random random(2);
  const Design design = random_design(kLabelers, random);
  Answers answers{.inputs = kItems};
  std::vector<int32_t> truth;
  for (int64_t i = 0; i < kItems; ++i) {
    truth.push_back(static_cast<int32_t>(random.below(kClasses)));
    for (const auto& set : design.sets) {
      const bool right = std::binary_search(set.begin(), set.end(), truth.back()) && random.uniform() < 0.2;
      answers.labels.push_back(right ? truth.back() : set[static_cast<size_t>(random.below(kSize))]);
    }
  }
  nlohmann::json result;
  for (const LabelerModel model : {LabelerModel::one_coin, LabelerModel::dawid_skene}) {
    const Stopwatch watch;
    const LabelerFit fit = fit_labelers(design, answers, {.model = model, .pool = &one});
    const double seconds = watch.elapsed().cpu_ms / 1000;
    double right = 0;
    for (size_t i = 0; i < truth.size(); ++i) right += fit.combination.labels[i] == truth[i];
    result[to_string(model)] = {
        {"seconds", seconds}, {"steps", fit.log_density.size()}, {"accuracy", right / static_cast<double>(kItems)}};
    fmt::print("{:<18} {:.2f} s for {} items x {} labelers, {} steps, {:.2f} % right\n", to_string(model), seconds,
               kItems, kLabelers, fit.log_density.size(), 100 * right / static_cast<double>(kItems));
  }
  return result;
}

}  // namespace
}  // namespace tessera::experts

int main(int argc, char** argv) {
  using namespace tessera;
  int repeats = 9;
  std::string out;
  CLI::App app{"speed of combining and of labelers on one core"};
  app.add_option("--repeats", repeats, "of each rule")->check(CLI::PositiveNumber);
  app.add_option("--out", out, "JSON file to write");
  CLI11_PARSE(app, argc, argv);
  try {
    ThreadPool one(1);
    const nlohmann::json document = {{"machine", machine_description()},
                                     {"classes", experts::kClasses},
                                     {"experts", experts::kExperts},
                                     {"inputs", experts::kInputs},
                                     {"repeats", repeats},
                                     {"us_per_input", experts::time_rules(repeats, one)},
                                     {"labelers", experts::time_labelers(one)}};
    if (!out.empty()) write_file_atomically(out, document.dump(1) + "\n");
  } catch (const Error& error) {
    fmt::print(stderr, "bench_experts_speed: {}\n", error.what());
    return 2;
  }
}
