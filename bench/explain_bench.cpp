// Every table of docs/explain.md: coverage, width and error with standard errors, and times.
//
//   bench_explain parity|quality|noise|large|under-determined|speed|compas|german [--trials N] [--first-seed S]
//   [--threads T] [--json FILE] [--data FOLDER]
//
// Coverage counts targets inside their 95 % interval over simulated trials (seeds 1000.. report, seeds 500000..
// develop); standard errors treat trials as independent. Times are CPU milliseconds, medians; none where
// trials run side by side on several threads. The file is written after
// every row of a table, and a run with the same file, build and seeds goes on after the last row.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>

#include "explain/simulation.h"
#include "explain_tables.h"
#include "measure.h"
#include "tessera/base/build_info.h"
#include "tessera/base/clock.h"
#include "tessera/base/random.h"
#include "tessera/base/statistics.h"
#include "tessera/base/thread_pool.h"
#include "tessera/explain/explain.h"

namespace tessera::explain {
namespace {

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
  const auto trial = [&](size_t t) {
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
  };
  ThreadPool::shared().parallel_for(0, run.trials, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) trial(static_cast<size_t>(t));
  });
  // The clock is that of the process: with other trials beside it, one answer's time is not known.
  const double alone = ThreadPool::shared().threads() == 1 ? median(cpu) : std::nan("");
  return summarise(run.name, trials, alone);
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

void parity(Report& report, const Seeds& seeds) {
  add_rivals(report, seeds);
  for (const auto& [name, options] : settings())
    add_run(report, {"published " + name, options, 2000, seeds.trials, seeds.first});
  add_run(report, {"mimic forest", mimic(), 2000, std::max<int64_t>(1, seeds.trials / 50), seeds.first});
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
        features.push_back({"x" + std::to_string(j), ColumnKind::continuous, {}, {}, 0.5});
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
  // Over a step of half a standard deviation (of 1), or from a category to the baseline.
  double difference(int64_t row, size_t feature, double baseline) const {
    const auto width = features.size();
    double sum = 0;
    for (size_t j = 0; j < width; ++j)
      sum += inputs[static_cast<size_t>(row) * width + j] * std::sin(static_cast<double>(j + 1));
    const double slope = std::sin(static_cast<double>(feature + 1));
    const double value = inputs[static_cast<size_t>(row) * width + feature];
    const auto at = [&](double move) { return 1 / (1 + std::exp(-(sum + move * slope))); };
    if (features[feature].kind == ColumnKind::categorical) return at(0) - at(baseline - value);
    return at(0.25) - at(-0.25);
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
  const Explainer forest(simulation.view(), simulation.outputs, simulation.features, mimic());
  report.add("mimic forest, simulation", [&] { return time_rows("mimic forest, simulation", forest, 101, 19300); });
}

// More parameters than rows: 40 rows and 196 parameters on a logistic function of 27 features, whose true differences
// are known.
void under_determined(Report& report, const Seeds& seeds) {
  const int64_t tables = std::max<int64_t>(1, seeds.trials / 50);
  const auto measure = [&](const std::string& name, const Options& base) {
    Options options = base;
    options.classification = true;
    options.importance = ImportanceKind::difference;
    Trials trials;
    std::vector<double> cpu;
    for (int64_t t = 0; t < tables; ++t) {
      const Shape shape(1000, 7, 20, seeds.first + static_cast<uint64_t>(t));
      const Explainer explainer(shape.view(), shape.outputs, shape.features, options);
      for (int64_t row = 0; row < 5; ++row) {
        const Stopwatch watch;
        const Explanation answer = explainer.explain_row(row);
        cpu.push_back(watch.elapsed().cpu_ms);
        std::vector<Sample> samples;
        for (size_t j = 0; j < shape.features.size(); ++j) {
          const FeatureImportance& f = answer.features[j];
          const double truth = shape.difference(row, j, f.baseline);
          samples.push_back({truth, f.importance, f.lower, f.upper});
        }
        trials.push_back(std::move(samples));
      }
    }
    if (name == "zero for every feature") {
      for (auto& trial : trials) {
        for (Sample& sample : trial) sample.estimate = sample.lower = sample.upper = 0;
      }
    }
    return summarise(name, trials, median(cpu));
  };
  const auto add = [&](const std::string& name, const Options& options) {
    report.add(name, [&] { return measure(name, options); });
  };
  Options norm = published(40, 2, 0.9, Weights::linear);
  Options ridge = norm;
  norm.clip = ridge.clip = 0.005;
  ridge.under_determined = UnderDetermined::ridge;
  add("zero for every feature", mimic());
  add("published, minimum norm", norm);
  add("published, ridge", ridge);
  add("mimic forest", mimic());
  add("default", {});
}

}  // namespace
}  // namespace tessera::explain

int main(int argc, char** argv) {
  CLI::App app{"tables of docs/explain.md"};
  std::string what, json, data = "../shared/data", german = tessera::explain::german_file();
  tessera::explain::Seeds seeds;
  int64_t offset = 7;
  int threads = 1;
  app.add_option("table", what, "parity, quality, noise, large, under-determined, speed, compas or german")->required();
  app.add_option("--trials", seeds.trials, "simulated data sets")->check(CLI::PositiveNumber);
  app.add_option("--first-seed", seeds.first, "of the first trial");
  app.add_option("--offset", offset,
                 "compas: test rows offset, offset + 12, ...; 0 and 3 served development. german: every "
                 "second test row; odd ones report, even ones served development");
  app.add_option("--german", german, "german.csv of scripts/fetch-data");
  app.add_option("--threads", threads, "");
  app.add_option("--json", json, "file to write");
  app.add_option("--data", data, "folder that holds explain/compas.csv");
  CLI11_PARSE(app, argc, argv);
  tessera::ThreadPool::set_default_threads(threads);
  namespace ex = tessera::explain;
  const nlohmann::json machine = tessera::machine_description();
  nlohmann::json head = {{"machine", machine}, {"commit", machine["commit"]}, {"table", what}};
  if (what == "compas" || what == "german") {
    head["test_rows"] = fmt::format("{} + {} q, q = 0..99", offset, what == "compas" ? 12 : 2);
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
  if (what == "under-determined") ex::under_determined(report, seeds);
  if (what == "speed") ex::speed(report);
  if (what == "compas") ex::compas(report, data, offset);
  if (what == "german") ex::german(report, german, offset);
  report.finish();
}
