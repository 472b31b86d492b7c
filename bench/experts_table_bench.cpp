// Accuracy of combined experts against the centralised classifier (docs/experts-rules.md), one line of JSON per run.
//
//   bench_experts_table --data letter|fashion|digits [--learner mlp|cnn|softmax] [--sizes 2,4,..] [--seeds 5]
//   [--designs FOLDER]
//                       [--out FILE.jsonl]
//
// A run is one seed of one size R; R = K is the centralised classifier. Runs that are already in --out are not
// repeated, so a killed table continues. The closing table gives means over seeds and paired differences with 95 % t
// intervals.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "experts_table.h"
#include "tessera/base/build_info.h"
#include "tessera/base/clock.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/interrupt.h"
#include "tessera/experts/adaptive.h"
#include "tessera/experts/combine.h"
#include "tessera/experts/dataset.h"
#include "tessera/experts/fit.h"
#include "tessera/experts/metrics.h"

namespace tessera::experts {
namespace {

struct Settings {
  std::string data = "letter", learner_kind = "mlp", designs, out, label = "cover";
  std::vector<int> sizes;
  int seeds = 5;
  uint64_t first_seed = 1;
  int learner_shift = 0;
  bool learner_mirror = false;
  LearnerOptions learner;
};

double in_set_accuracy(const Design& design, const Answers& answers, const Dataset& test) {
  const std::vector<int32_t> labels = most_probable(design, answers);
  int64_t known = 0, right = 0;
  for (size_t i = 0; i < test.labels.size(); ++i) {
    for (size_t j = 0; j < design.sets.size(); ++j) {
      const auto& set = design.sets[j];
      if (!std::binary_search(set.begin(), set.end(), test.labels[i])) continue;
      ++known;
      right += labels[i * design.sets.size() + j] == test.labels[i];
    }
  }
  return static_cast<double>(right) / static_cast<double>(known);
}

nlohmann::json run_one(const Settings& settings, const Split& split, int size, uint64_t seed) {
  const auto classes = static_cast<int>(split.train.classes.size());
  const Design design = table_design(settings.designs, classes, size);
  const auto learner = make_learner(settings.learner);
  const Stopwatch fit_watch;
  const Ensemble ensemble = fit_experts(split.train, design, *learner, {.seed = seed});
  const double fit_ms = fit_watch.elapsed().cpu_ms;
  const Answers answers = ask(ensemble, split.test.values, split.test.rows);
  nlohmann::json run = {{"data", settings.data},
                        {"learner", learner->settings()},
                        {"design", settings.label},
                        {"R", size},
                        {"m", design.sets.size()},
                        {"seed", seed},
                        {"work", static_cast<double>(answer_columns(design)) / classes},
                        {"fit_cpu_ms", fit_ms},
                        {"in_set_accuracy", in_set_accuracy(design, answers, split.test)}};
  for (const Rule rule : all_rules()) {
    const Stopwatch watch;
    const Combination result = combine(design, answers, {.rule = rule});
    const double microseconds = watch.elapsed().cpu_ms * 1000 / static_cast<double>(split.test.rows);
    const Scores scores = score(result.probabilities, result.labels, split.test.labels, classes);
    run["rules"][to_string(rule)] = {{"accuracy", scores.accuracy},
                                     {"nll", scores.negative_log_likelihood},
                                     {"ece", scores.calibration_error},
                                     {"us_per_input", microseconds}};
  }
  for (const AdaptiveOptions& options :
       {AdaptiveOptions{}, AdaptiveOptions{.rule = Rule::quadratic}, AdaptiveOptions{.rule = Rule::balance},
        AdaptiveOptions{.guarantee = Guarantee::in_set}}) {
    if (options.guarantee == Guarantee::in_set && count_pairs(design).lambda_min < 1) continue;
    const Stopwatch watch;
    const AdaptiveResult result = decide_adaptively(design, answers, options);
    const auto rows = static_cast<double>(split.test.rows);
    double asked = 0, right = 0;
    for (size_t i = 0; i < result.asked.size(); ++i) {
      asked += result.asked[i];
      right += result.labels[i] == split.test.labels[i];
    }
    const std::string name = to_string(options.guarantee);
    run["adaptive"][options.rule == Rule::deficit ? name : name + "-" + to_string(options.rule)] = {
        {"asked", asked / rows}, {"accuracy", right / rows}, {"us_per_input", watch.elapsed().cpu_ms * 1000 / rows}};
  }
  return run;
}

std::string key_of(const nlohmann::json& run) {
  return fmt::format("{} {} {} {} {}", run.at("data").get<std::string>(), run.at("learner").dump(),
                     run.at("design").get<std::string>(), run.at("R").get<int>(), run.at("seed").get<uint64_t>());
}

std::string mean_and_interval(const std::vector<double>& values) {
  const auto [mean, half] = interval_of(values);
  return values.size() < 2 ? fmt::format("{:+.2f}", mean) : fmt::format("{:+.2f} ± {:.2f}", mean, half);
}

void print_table(const std::vector<nlohmann::json>& runs) {
  std::map<int, std::map<uint64_t, nlohmann::json>, std::greater<>> by_size;
  for (const auto& run : runs) by_size[run.at("R").get<int>()][run.at("seed").get<uint64_t>()] = run;
  if (by_size.empty()) return;
  fmt::print(
      "accuracy % / NLL, means over seeds; asked: experts per input for the label of the deficit rule; "
      "last columns: quadratic minus centralised, points, paired over seeds\n");
  fmt::print("  R    m seeds in-set");
  for (const Rule rule : all_rules()) fmt::print(" {:>16}", to_string(rule));
  fmt::print("  asked  work  quadratic - centralised\n");
  const auto& centralised = by_size.begin()->second;
  for (const auto& [size, seeds] : by_size) {
    const auto mean = [&](auto value) {
      double sum = 0;
      for (const auto& [seed, run] : seeds) sum += value(run);
      return sum / static_cast<double>(seeds.size());
    };
    fmt::print("{:>3} {:>4} {:>5} {:>6.2f}", size, seeds.begin()->second.at("m").get<int>(), seeds.size(),
               100 * mean([](const auto& run) { return run.at("in_set_accuracy").template get<double>(); }));
    for (const Rule rule : all_rules()) {
      const auto of = [&](const char* what) {
        return mean(
            [&](const auto& run) { return run.at("rules").at(to_string(rule)).at(what).template get<double>(); });
      };
      fmt::print(" {:>8.2f} / {:5.3f}", 100 * of("accuracy"), of("nll"));
    }
    double asked = 0, known = 0;
    for (const auto& [seed, run] : seeds) {
      if (!run.contains("adaptive")) continue;
      asked += run.at("adaptive").at("same-label").at("asked").get<double>(), ++known;
    }
    fmt::print(" {:>6}", known > 0 ? fmt::format("{:.2f}", asked / known) : "-");
    std::vector<double> gaps;
    for (const auto& [seed, run] : seeds) {
      if (!centralised.contains(seed)) continue;
      gaps.push_back(100 * (run.at("rules").at("quadratic").at("accuracy").get<double>() -
                            centralised.at(seed).at("rules").at("quadratic").at("accuracy").get<double>()));
    }
    fmt::print(" {:>5.1f}  {}\n", seeds.begin()->second.at("work").get<double>(),
               gaps.empty() ? "-" : mean_and_interval(gaps));
  }
}

void run_table(Settings settings) {
  const Split split = load_split(settings.data);
  const auto classes = static_cast<int>(split.train.classes.size());
  if (settings.sizes.empty()) {
    settings.sizes =
        classes == 26 ? std::vector<int>{26, 13, 10, 8, 6, 5, 4, 2} : std::vector<int>{10, 7, 6, 5, 4, 3, 2};
  }
  std::set<std::string> finished;
  std::vector<nlohmann::json> runs;
  const nlohmann::json wanted = make_learner(settings.learner)->settings();
  for (nlohmann::json& run : read_runs(settings.out)) {
    finished.insert(key_of(run));
    if (run.at("data") == settings.data && run.at("learner") == wanted && run.at("design") == settings.label)
      runs.push_back(std::move(run));
  }
  std::unique_ptr<LineLog> log;
  if (!settings.out.empty()) log = std::make_unique<LineLog>(settings.out);
  for (uint64_t seed = settings.first_seed; seed < settings.first_seed + static_cast<uint64_t>(settings.seeds);
       ++seed) {
    for (const int size : settings.sizes) {
      throw_if_interrupted();
      const nlohmann::json stub = {
          {"data", settings.data}, {"learner", wanted}, {"design", settings.label}, {"R", size}, {"seed", seed}};
      if (finished.contains(key_of(stub))) continue;
      nlohmann::json run = run_one(settings, split, size, seed);
      run["machine"] = machine_description();
      if (log) log->append(run.dump());
      fmt::print(stderr, "{} R={} seed={}: quadratic {:.2f} %, balance NLL {:.3f}, {:.1f} s\n", settings.data, size,
                 seed, 100 * run["rules"]["quadratic"]["accuracy"].get<double>(),
                 run["rules"]["balance"]["nll"].get<double>(), run["fit_cpu_ms"].get<double>() / 1000);
      runs.push_back(std::move(run));
    }
  }
  print_table(runs);
}

}  // namespace
}  // namespace tessera::experts

int main(int argc, char** argv) {
  using namespace tessera;
  experts::Settings settings;
  CLI::App app{"tables of combined experts against the centralised classifier"};
  app.add_option("--data", settings.data, "letter, fashion or digits");
  app.add_option("--learner", settings.learner_kind, "softmax, mlp or cnn");
  app.add_option("--sizes", settings.sizes, "classes per expert; the number of all classes is the centralised net")
      ->delimiter(',');
  app.add_option("--seeds", settings.seeds, "number of seeds");
  app.add_option("--first-seed", settings.first_seed, "1 up report, 500000 up develop");
  app.add_option("--designs", settings.designs, "folder of designs K-R.json");
  app.add_option("--label", settings.label, "name of the designs in the results");
  app.add_option("--out", settings.out, "file of JSON lines that is continued");
  int hidden = 0, epochs = 0, batch = 0, channels = 0;
  double rate = 0, decay = -1;
  app.add_option("--shift", settings.learner_shift), app.add_flag("--mirror", settings.learner_mirror);
  app.add_option("--hidden", hidden), app.add_option("--epochs", epochs), app.add_option("--batch", batch);
  app.add_option("--channels", channels), app.add_option("--learning-rate", rate),
      app.add_option("--weight-decay", decay);
  CLI11_PARSE(app, argc, argv);
  try {
    catch_interrupts();
    settings.learner = experts::table_settings(settings.data, settings.learner_kind);
    if (hidden > 0) settings.learner.hidden = hidden;
    if (epochs > 0) settings.learner.epochs = epochs;
    if (batch > 0) settings.learner.batch = batch;
    if (channels > 0) settings.learner.channels = channels;
    if (rate > 0) settings.learner.learning_rate = rate;
    if (decay >= 0) settings.learner.weight_decay = decay;
    if (settings.learner_shift > 0) settings.learner.shift = settings.learner_shift;
    if (settings.learner_mirror) settings.learner.mirror = true;
    experts::run_table(settings);
  } catch (const Error& error) {
    fmt::print(stderr, "bench_experts_table: {}\n", error.what());
    return 2;
  }
}
