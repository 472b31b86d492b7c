// Every table of docs/explain.md: coverage, width and error with standard errors, and times, on one thread.
//
//   bench_explain parity|quality|noise|large|speed|compas [--trials N] [--first-seed S] [--json FILE] [--data FOLDER]
//
// Coverage counts targets inside their 95 % interval over simulated trials (seeds 1000.. report, seeds 500000..
// develop); standard errors treat trials as independent. Times are CPU milliseconds, medians. The file is written after
// every row of a table, and a run with the same file, build and seeds goes on after the last row.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "explain/forest.h"
#include "explain/simulation.h"
#include "measure.h"
#include "tessera/base/build_info.h"
#include "tessera/base/clock.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"
#include "tessera/base/statistics.h"
#include "tessera/base/thread_pool.h"
#include "tessera/explain/explain.h"

namespace tessera::explain {
namespace {

struct Sample {
  double truth = 0, estimate = 0, lower = 0, upper = 0;
  bool covered() const { return lower <= truth && truth <= upper; }
  double width() const { return upper - lower; }
  double score() const { return width() + 40 * std::max({0.0, lower - truth, truth - upper}); }  // at 95 %
};

using Trials = std::vector<std::vector<Sample>>;  // [trials][targets]

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double error_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const auto count = static_cast<double>(values.size());
  return std::sqrt(squares / (count * std::max(1.0, count - 1)));
}

nlohmann::json summarise(const std::string& name, const Trials& trials, double cpu_ms) {
  std::vector<double> coverage, score, width, all_width, error;
  std::vector<std::vector<double>> per_target(trials[0].size());
  for (const auto& trial : trials) {
    double inside = 0, scores = 0, widths = 0;
    for (size_t t = 0; t < trial.size(); ++t) {
      inside += trial[t].covered();
      scores += trial[t].score();
      widths += trial[t].width();
      all_width.push_back(trial[t].width());
      error.push_back(std::abs(trial[t].estimate - trial[t].truth));
      per_target[t].push_back(trial[t].covered());
    }
    const auto count = static_cast<double>(trial.size());
    coverage.push_back(inside / count);
    score.push_back(scores / count);
    width.push_back(widths / count);
  }
  nlohmann::json row = {{"name", name},
                        {"trials", trials.size()},
                        {"coverage", mean_of(coverage)},
                        {"coverage_se", error_of(coverage)},
                        {"mean_width", mean_of(width)},
                        {"mean_width_se", error_of(width)},
                        {"median_width", median(all_width)},
                        {"interval_score", mean_of(score)},
                        {"interval_score_se", error_of(score)},
                        {"median_error", median(error)},
                        {"mean_error", mean_of(error)},
                        {"cpu_ms", cpu_ms}};
  std::string targets;
  for (const auto& values : per_target) {
    row["target_coverage"].push_back(mean_of(values));
    if (per_target.size() <= 8) targets += fmt::format(" {:.3f}", mean_of(values));
  }
  fmt::print(
      "{:34} T={:4} coverage {:.3f} ± {:.3f} [{} ] width {:.3f} ± {:.3f} median {:.3f} IS {:.3f} ± {:.3f} error median "
      "{:.4f} mean {:.4f} cpu {:.2f} ms\n",
      name, trials.size(), mean_of(coverage), error_of(coverage), targets, mean_of(width), error_of(width),
      median(all_width), mean_of(score), error_of(score), median(error), mean_of(error), cpu_ms);
  std::fflush(stdout);
  return row;
}

// The four targets of the simulation: two slopes and two contrasts with the baselines used.
std::vector<Sample> samples(const Simulation& simulation, const std::vector<double>& query, const Explanation& answer) {
  std::vector<Sample> result;
  for (size_t j = 0; j < 4; ++j) {
    const FeatureImportance& f = answer.features[j];
    double truth = j < 2 ? Simulation::slope(query.data(), static_cast<int>(j)) : Simulation::truth(query.data());
    if (j >= 2) {
      std::vector<double> other = query;
      other[j] = f.baseline;
      truth -= Simulation::truth(other.data());
    }
    result.push_back({truth, f.importance, f.lower, f.upper});
  }
  (void)simulation;
  return result;
}

// The rows of one table, kept in a file while they come.
class Report {
 public:
  Report(nlohmann::json head, std::filesystem::path file) : content_(std::move(head)), file_(std::move(file)) {
    nlohmann::json before;
    if (!file_.empty() && std::filesystem::exists(file_)) before = nlohmann::json::parse(read_file(file_));
    const auto same = [&](const char* key) { return before.contains(key) && before[key] == content_[key]; };
    const bool resumes =
        same("table") && same("commit") && same("first_seed") && same("trials") && !before.value("complete", true);
    content_["rows"] = resumes ? before["rows"] : nlohmann::json::array();
    content_["complete"] = false;
  }
  // Measures unless the file has the row already.
  template <typename Measure>
  void add(const std::string& name, const Measure& measure) {
    for (const auto& row : content_["rows"]) {
      if (row["name"] == name) return;
    }
    content_["rows"].push_back(measure());
    save();
  }
  void finish() {
    content_["complete"] = true;
    save();
  }

 private:
  void save() const {
    if (!file_.empty()) write_file_atomically(file_, content_.dump(1) + "\n");
  }
  nlohmann::json content_;
  std::filesystem::path file_;
};

struct Run {
  std::string name;
  Options options;
  int64_t rows = 2000;
  int64_t trials = 1000;
  uint64_t first_seed = 1000;
  double noise = 0;        // standard deviation added to the outputs
  bool linear = false;     // f = 1 + 0.5 u - 0.3 v + 0.4 a - 0.2 b instead
  bool row_query = false;  // explain row 0 of the table (its output is known)
};

double linear_truth(const double* x) { return 1 + 0.5 * x[0] - 0.3 * x[1] + 0.4 * x[2] - 0.2 * x[3]; }

nlohmann::json run_simulation(const Run& run) {
  Trials trials(static_cast<size_t>(run.trials));
  std::vector<double> cpu(trials.size());
  for (size_t t = 0; t < trials.size(); ++t) {
    Simulation simulation(run.first_seed + t, run.rows);
    if (run.linear) {
      for (int64_t i = 0; i < run.rows; ++i)
        simulation.outputs[static_cast<size_t>(i)] = linear_truth(simulation.inputs.data() + 4 * i);
    }
    Random random(run.first_seed + t);
    for (double& output : simulation.outputs) output += run.noise > 0 ? run.noise * random.normal() : 0;
    // A known output: the query becomes one more row.
    if (run.row_query) {
      simulation.inputs.insert(simulation.inputs.end(), simulation.query.begin(), simulation.query.end());
      simulation.outputs.push_back(Simulation::truth(simulation.query.data()) + run.noise * random.normal());
    }
    const Explainer explainer(simulation.view(), simulation.outputs, simulation.features, run.options);
    const Explanation answer = run.row_query ? explainer.explain_row(run.rows) : explainer.explain(simulation.query);
    const Stopwatch watch;  // the second answer: what the table costs once is paid
    (void)(run.row_query ? explainer.explain_row(run.rows) : explainer.explain(simulation.query));
    cpu[t] = watch.elapsed().cpu_ms;
    trials[t] = samples(simulation, simulation.query, answer);
    if (run.linear) {
      for (size_t j = 0; j < 4; ++j) {
        const double slope[] = {0.5, -0.3, 0.4, -0.2};
        trials[t][j].truth = j < 2 ? slope[j] : slope[j] * (simulation.query[j] - answer.features[j].baseline);
      }
    }
  }
  return summarise(run.name, trials, median(cpu));
}

Options published(int64_t neighbours, int degree, double ratio, Weights weights) {
  Options options = published_options(false);
  options.neighbours = neighbours;
  options.degree = degree;
  options.ratio = ratio;
  options.weights = weights;
  return options;
}

const std::vector<std::pair<std::string, Options>>& settings() {
  static const std::vector<std::pair<std::string, Options>> all = {
      {"A", published(66, 4, 0.894, Weights::linear)}, {"B", published(64, 2, 0.75, Weights::none)},
      {"C", published(66, 2, 0.667, Weights::linear)}, {"D", published(150, 2, 0.667, Weights::linear)},
      {"E", published(66, 2, 0.894, Weights::linear)}, {"F", published(150, 4, 0.5, Weights::linear)}};
  return all;
}

// Zero for every feature with a point interval, and a constant interval of the given half widths learned from other
// seeds.
struct Rivals {
  Trials zero, constant;
  Rivals(int64_t trials, uint64_t first_seed) {
    std::vector<std::vector<double>> spread(4);
    for (uint64_t t = 0; t < 1000; ++t) {
      const auto found = truths(700000 + t);
      for (size_t j = 0; j < 4; ++j) spread[j].push_back(std::abs(found[j].truth));
    }
    for (int64_t t = 0; t < trials; ++t) {
      zero.push_back(truths(first_seed + static_cast<uint64_t>(t)));
      constant.push_back(zero.back());
      for (size_t j = 0; j < 4; ++j) {
        constant.back()[j].upper = quantile(spread[j], 0.95);
        constant.back()[j].lower = -constant.back()[j].upper;
      }
    }
  }

 private:
  static std::vector<Sample> truths(uint64_t seed) {
    const Simulation simulation(seed, 2000);
    std::vector<Sample> result;
    for (size_t j = 0; j < 4; ++j) {
      std::vector<double> other = simulation.query;
      if (j >= 2) {
        std::vector<int64_t> count(3);
        for (size_t i = j; i < simulation.inputs.size(); i += 4) ++count[static_cast<size_t>(simulation.inputs[i])];
        other[j] = simulation.query[j] != 0 ? 0 : count[1] >= count[2] ? 1 : 2;
      }
      const double* x = simulation.query.data();
      result.push_back(
          {j < 2 ? Simulation::slope(x, static_cast<int>(j)) : Simulation::truth(x) - Simulation::truth(other.data()),
           0, 0, 0});
    }
    return result;
  }
};

struct Seeds {
  int64_t trials = 1000;
  uint64_t first = 1000;
};

void add_run(Report& report, const Run& run) {
  report.add(run.name, [&] { return run_simulation(run); });
}

void add_rivals(Report& report, const Seeds& seeds) {
  const Rivals rivals(seeds.trials, seeds.first);
  report.add("zero for every feature", [&] { return summarise("zero for every feature", rivals.zero, 0); });
  report.add("constant interval", [&] { return summarise("constant interval", rivals.constant, 0); });
}

Options mimic() {
  Options options;
  options.estimator = Estimator::forest;
  return options;
}

void parity(Report& report, const Seeds& seeds) {
  add_rivals(report, seeds);
  for (const auto& [name, options] : settings())
    add_run(report, {"published " + name, options, 2000, seeds.trials, seeds.first});
}

void quality(Report& report, const Seeds& seeds) {
  add_rivals(report, seeds);
  add_run(report, {"default, n = 2000 (Q1)", {}, 2000, seeds.trials, seeds.first});
  add_run(report, {"default, output known (Q2)", {}, 2000, seeds.trials, seeds.first, 0, false, true});
  add_run(report, {"mimic forest", mimic(), 2000, std::max<int64_t>(1, seeds.trials / 10), seeds.first});
}

void noise(Report& report, const Seeds& seeds) {
  add_rivals(report, seeds);
  const int64_t few = std::max<int64_t>(1, seeds.trials / 10);
  add_run(report, {"default, noise 0.05 (Q6)", {}, 2000, seeds.trials, seeds.first, 0.05});
  add_run(report, {"default, noise 0.2 (Q6)", {}, 2000, seeds.trials, seeds.first, 0.2});
  add_run(report, {"default, linear, noise 0.2 (Q6)", {}, 2000, seeds.trials, seeds.first, 0.2, true});
  add_run(report, {"default, linear, exact (Q6)", {}, 2000, few, seeds.first, 0, true});
  add_run(report, {"mimic forest, noise 0.2", mimic(), 2000, few, seeds.first, 0.2});
}

void large(Report& report, const Seeds& seeds) {
  add_rivals(report, seeds);
  add_run(report, {"default, n = 20000 (Q3)", {}, 20000, seeds.trials, seeds.first});
  add_run(report, {"mimic forest, n = 20000", mimic(), 20000, std::max<int64_t>(1, seeds.trials / 50), seeds.first});
}

// A table of standard normal features with a smooth output, for shapes whose data are not at hand.
struct Shape {
  std::vector<double> inputs, outputs;
  std::vector<Feature> features;
  int64_t rows;
  Shape(int64_t count, int64_t continuous, int64_t binary, uint64_t seed) : rows(count) {
    Random random(seed);
    for (int64_t j = 0; j < continuous + binary; ++j) {
      if (j < continuous) {
        features.push_back({"x" + std::to_string(j), ColumnKind::continuous, {}, {}, {}});
      } else {
        features.push_back({"c" + std::to_string(j), ColumnKind::categorical, {"0", "1"}, {}, {}});
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < continuous + binary; ++j) {
        inputs.push_back(j < continuous ? random.normal() : static_cast<double>(random.below(2)));
        sum += inputs.back() * std::sin(static_cast<double>(j + 1));
      }
      outputs.push_back(1 / (1 + std::exp(-sum)));
    }
  }
  TableView view() const { return {inputs.data(), nullptr, rows, static_cast<int64_t>(features.size())}; }
};

nlohmann::json time_rows(const std::string& name, const Explainer& explainer, int64_t queries, double reference_ms) {
  std::vector<double> cpu;
  for (int64_t i = 0; i < queries + 1; ++i) {
    const Stopwatch watch;
    (void)explainer.explain_row(i * 7 % explainer.inputs().rows);
    if (i > 0) cpu.push_back(watch.elapsed().cpu_ms);
  }
  const nlohmann::json spread = bench::spread(cpu);
  fmt::print("{:44} {:9.3f} ms (10-90 %: {:.3f} to {:.3f}), reference {:.0f} ms, {:.0f} times\n", name, median(cpu),
             spread["low"].get<double>(), spread["high"].get<double>(), reference_ms, reference_ms / median(cpu));
  return {{"name", name}, {"cpu_ms", spread}, {"reference_ms", reference_ms}};
}

void speed(Report& report) {
  const Simulation simulation(1000, 2000);
  const double reference[] = {19300, 15600, 0, 17500};
  for (const size_t s : {0U, 1U, 3U}) {
    const std::string name = "simulation " + settings()[s].first + ", 1000 replicates";
    const Explainer explainer(simulation.view(), simulation.outputs, simulation.features, settings()[s].second);
    report.add(name, [&] { return time_rows(name, explainer, 101, reference[s]); });
  }
  const auto shaped = [&](const std::string& name, const Shape& shape, Options options, double reference_ms) {
    options.classification = true;
    options.importance = ImportanceKind::difference;
    const Explainer explainer(shape.view(), shape.outputs, shape.features, options);
    report.add(name, [&] { return time_rows(name, explainer, 51, reference_ms); });
  };
  shaped("COMPAS shape (150 rows, 26 parameters)", Shape(6172, 3, 4, 1), published(150, 2, 0.667, Weights::linear),
         23900);
  shaped("German shape (40 rows, 196 parameters)", Shape(1000, 7, 20, 2), published(40, 2, 0.9, Weights::linear),
         225000);
  shaped("Spambase shape (150 rows, 1711 parameters)", Shape(1613, 57, 0, 3), published(150, 2, 0.9, Weights::linear),
         380000);
  const Explainer explainer(simulation.view(), simulation.outputs, simulation.features, Options{});
  report.add("default, simulation", [&] { return time_rows("default, simulation", explainer, 101, 19300); });
}

struct Compas {
  std::vector<double> inputs, outputs;
  std::vector<Feature> features;
  std::vector<int64_t> test;  // rows of the test split
  int64_t rows = 0;
  TableView view() const { return {inputs.data(), nullptr, rows, static_cast<int64_t>(features.size())}; }

  explicit Compas(const std::filesystem::path& folder) {
    const Table table = read_table(folder / "explain" / "compas.csv",
                                   {.categorical = {"two_year_recid", "c_charge_degree", "sex", "race", "split"}});
    rows = table.rows;
    const std::vector<std::string> names = {
        "age", "two_year_recid", "c_charge_degree", "sex", "priors_count", "length_of_stay", "race"};
    for (const std::string& name : names) {
      const Column& column = table.columns[static_cast<size_t>(table.column(name))];
      Feature feature{name, column.kind, column.levels, {}, {}};
      if (column.kind == ColumnKind::continuous) feature.delta = name == "length_of_stay" ? 1 : 2;
      features.push_back(feature);
    }
    const int64_t split = table.column("split");
    for (int64_t i = 0; i < rows; ++i) {
      for (const std::string& name : names) inputs.push_back(table.at(i, table.column(name)));
      outputs.push_back(table.at(i, table.column("model_output")));
      if (table.columns[static_cast<size_t>(split)].levels[static_cast<size_t>(table.at(i, split))] == "test")
        test.push_back(i);
    }
  }
};

// The true difference of one feature at one row; baseline: code compared with (categorical).
double true_difference(const Compas& data, const Forest& truth, int64_t row, size_t j, double baseline) {
  std::vector<double> plus(data.inputs.begin() + row * 7, data.inputs.begin() + (row + 1) * 7), minus = plus;
  if (data.features[j].kind == ColumnKind::continuous) {
    plus[j] += *data.features[j].delta / 2;
    minus[j] -= *data.features[j].delta / 2;
  } else {
    minus[j] = baseline;
  }
  return truth.predict(plus) - truth.predict(minus);
}

int64_t test_row(const Compas& data, int64_t q, int64_t offset) {
  return data.test[static_cast<size_t>((q * 12 + offset) % static_cast<int64_t>(data.test.size()))];
}

Trials zero_rival(const Compas& data, const Forest& truth, int64_t offset) {
  // The published code's baselines: the most frequent level, or the second where the row has it.
  std::vector<std::array<int64_t, 2>> common(7);
  for (size_t j = 0; j < 7; ++j) {
    std::vector<std::pair<int64_t, int64_t>> count(data.features[j].levels.size());
    for (size_t level = 0; level < count.size(); ++level) count[level].second = static_cast<int64_t>(level);
    if (count.size() < 2) continue;
    for (int64_t i = 0; i < data.rows; ++i)
      --count[static_cast<size_t>(data.inputs[static_cast<size_t>(i) * 7 + j])].first;
    std::sort(count.begin(), count.end());
    common[j] = {count[0].second, count[1].second};
  }
  Trials trials;
  for (int64_t q = 0; q < 100; ++q) {
    const int64_t row = test_row(data, q, offset);
    std::vector<Sample> samples;
    for (size_t j = 0; j < 7; ++j) {
      const double value = data.inputs[static_cast<size_t>(row) * 7 + j];
      const auto baseline =
          static_cast<double>(value == static_cast<double>(common[j][0]) ? common[j][1] : common[j][0]);
      samples.push_back({true_difference(data, truth, row, j, baseline), 0, 0, 0});
    }
    trials.push_back(std::move(samples));
  }
  return trials;
}

nlohmann::json explain_compas(const std::string& name, const Compas& data, const std::vector<double>& logged,
                              const Forest& truth, const Options& options, int64_t offset) {
  const Explainer explainer(data.view(), logged, data.features, options);
  Trials trials;
  std::vector<double> cpu;
  for (int64_t q = 0; q < 100; ++q) {
    const int64_t row = test_row(data, q, offset);
    const Stopwatch watch;
    const Explanation answer = explainer.explain_row(row);
    cpu.push_back(watch.elapsed().cpu_ms);
    std::vector<Sample> samples;
    for (size_t j = 0; j < data.features.size(); ++j) {
      const FeatureImportance& f = answer.features[j];
      samples.push_back({true_difference(data, truth, row, j, f.baseline), f.importance, f.lower, f.upper});
    }
    trials.push_back(std::move(samples));
  }
  fmt::print("  [{}]\n", explainer.choice());
  return summarise(name, trials, median(cpu));
}

// Our own random forest (100 trees, bootstrap, all features' square root per split) trained on the logged decisions of
// the train split stands for the black box: its outputs are logged, and its true differences are known.
void compas(Report& report, const std::filesystem::path& folder, int64_t offset) {
  const Compas data(folder);
  std::vector<char> is_test(static_cast<size_t>(data.rows), 0);
  for (const int64_t i : data.test) is_test[static_cast<size_t>(i)] = 1;
  std::vector<double> inputs, labels;
  for (int64_t i = 0; i < data.rows; ++i) {
    if (is_test[static_cast<size_t>(i)]) continue;
    inputs.insert(inputs.end(), data.inputs.begin() + i * 7, data.inputs.begin() + (i + 1) * 7);
    labels.push_back(data.outputs[static_cast<size_t>(i)] > 0.5 ? 1 : 0);
  }
  const TableView train{inputs.data(), nullptr, static_cast<int64_t>(labels.size()), 7};
  const Forest truth(train, labels, data.features,
                     {.trees = 100, .best_splits = true, .candidates = 2, .bootstrap = true, .seed = 0});
  std::vector<double> logged;
  for (int64_t i = 0; i < data.rows; ++i)
    logged.push_back(truth.predict(std::span(data.inputs).subspan(static_cast<size_t>(i) * 7, 7)));
  Options base;
  base.classification = true;
  base.importance = ImportanceKind::difference;
  Options reference = published(150, 2, 0.667, Weights::linear);
  reference.classification = true;
  reference.importance = ImportanceKind::difference;
  const auto add = [&](const std::string& name, const Options& options) {
    report.add(name, [&] { return explain_compas(name, data, logged, truth, options, offset); });
  };
  const Trials zero = zero_rival(data, truth, offset);
  report.add("COMPAS zero for every feature", [&] { return summarise("COMPAS zero for every feature", zero, 0); });
  report.add("COMPAS constant interval", [&] {
    Trials constant = zero;
    const Trials others = zero_rival(data, truth, offset + 6);
    for (size_t j = 0; j < 7; ++j) {
      std::vector<double> sizes;
      for (const auto& trial : others) sizes.push_back(std::abs(trial[j].truth));
      const double half = quantile(sizes, 0.95);
      for (auto& trial : constant) trial[j].lower = -(trial[j].upper = half);
    }
    return summarise("COMPAS constant interval", constant, 0);
  });
  add("COMPAS published", reference);
  Options kernel = base;
  kernel.estimator = Estimator::kernel;
  add("COMPAS kernel", kernel);
  Options forest = base;
  forest.estimator = Estimator::forest;
  add("COMPAS mimic forest", forest);
  add("COMPAS default (Q4)", base);
  report.add("COMPAS all rows, published, 1000 replicates", [&]() -> nlohmann::json {
    const Explainer all(data.view(), data.outputs, data.features, reference);
    const Stopwatch watch;
    (void)all.explain_rows(0, data.rows);
    const Elapsed elapsed = watch.elapsed();
    fmt::print("COMPAS published, all {} rows, 1000 replicates: {:.1f} s CPU, {:.1f} s wall on {} threads\n", data.rows,
               elapsed.cpu_ms / 1000, elapsed.wall_ms / 1000, ThreadPool::shared().threads());
    return {{"name", "COMPAS all rows, published, 1000 replicates"},
            {"rows", data.rows},
            {"cpu_s", elapsed.cpu_ms / 1000},
            {"wall_s", elapsed.wall_ms / 1000},
            {"threads", ThreadPool::shared().threads()}};
  });
}

}  // namespace
}  // namespace tessera::explain

int main(int argc, char** argv) {
  CLI::App app{"tables of docs/explain.md"};
  std::string what, json, data = "../shared/data";
  tessera::explain::Seeds seeds;
  int64_t compas_offset = 7;
  int threads = 1;
  app.add_option("table", what, "parity, quality, noise, large, speed or compas")->required();
  app.add_option("--trials", seeds.trials, "simulated data sets")->check(CLI::PositiveNumber);
  app.add_option("--first-seed", seeds.first, "of the first trial");
  app.add_option("--compas-offset", compas_offset, "test rows offset, offset + 12, ...; 0 and 3 served development");
  app.add_option("--threads", threads, "");
  app.add_option("--json", json, "file to write");
  app.add_option("--data", data, "folder that holds explain/compas.csv");
  CLI11_PARSE(app, argc, argv);
  tessera::ThreadPool::set_default_threads(threads);
  namespace ex = tessera::explain;
  const nlohmann::json machine = tessera::machine_description();
  nlohmann::json head = {{"machine", machine}, {"commit", machine["commit"]}, {"table", what}};
  if (what == "compas") {
    head["test_rows"] = fmt::format("{} + 12 q, q = 0..99", compas_offset);
  } else if (what != "speed") {
    head["first_seed"] = seeds.first;
    head["trials"] = seeds.trials;
  }
  fmt::print("{}\n", head.dump());
  ex::Report report(head, json);
  if (what == "parity") ex::parity(report, seeds);
  if (what == "quality") ex::quality(report, seeds);
  if (what == "noise") ex::noise(report, seeds);
  if (what == "large") ex::large(report, seeds);
  if (what == "speed") ex::speed(report);
  if (what == "compas") ex::compas(report, data, compas_offset);
  report.finish();
}
