#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <span>

#include "explain/forest.h"
#include "explain_tables.h"
#include "tessera/base/clock.h"
#include "tessera/base/statistics.h"
#include "tessera/base/thread_pool.h"

namespace tessera::explain {
namespace {

constexpr int64_t kQueries = 100;
constexpr uint64_t kOtherBoxes = 5;  // one black box is one draw: coverage differs by about .01 from box to box

// Records with the decisions that a black box learned; every `stride`th test row from `offset` on is explained.
struct Records {
  std::string name;
  std::vector<double> inputs, outputs, decisions;  // outputs: as logged (COMPAS)
  std::vector<Feature> features;
  std::vector<int64_t> test;  // rows of the test split
  int64_t rows = 0, stride = 1, offset = 0;

  size_t width() const { return features.size(); }
  TableView view() const { return {inputs.data(), nullptr, rows, static_cast<int64_t>(width())}; }
  std::span<const double> row(int64_t i) const {
    return std::span(inputs).subspan(static_cast<size_t>(i) * width(), width());
  }
  int64_t query(int64_t q) const {
    return test[static_cast<size_t>((q * stride + offset) % static_cast<int64_t>(test.size()))];
  }
};

Records compas_records(const std::filesystem::path& folder, int64_t offset) {
  const Table table = read_table(folder / "explain" / "compas.csv",
                                 {.categorical = {"two_year_recid", "c_charge_degree", "sex", "race", "split"}});
  Records records;
  records.name = "COMPAS";
  records.rows = table.rows;
  records.stride = 12;
  records.offset = offset;
  const std::vector<std::string> names = {
      "age", "two_year_recid", "c_charge_degree", "sex", "priors_count", "length_of_stay", "race"};
  for (const std::string& name : names) {
    const Column& column = table.columns[static_cast<size_t>(table.column(name))];
    Feature feature{name, column.kind, column.levels, {}, {}};
    if (column.kind == ColumnKind::continuous) feature.delta = name == "length_of_stay" ? 1 : 2;
    records.features.push_back(feature);
  }
  const int64_t split = table.column("split"), output = table.column("model_output");
  const auto& levels = table.columns[static_cast<size_t>(split)].levels;
  for (int64_t i = 0; i < table.rows; ++i) {
    for (const std::string& name : names) records.inputs.push_back(table.at(i, table.column(name)));
    records.outputs.push_back(table.at(i, output));
    records.decisions.push_back(table.at(i, output) > 0.5 ? 1 : 0);
    if (levels[static_cast<size_t>(table.at(i, split))] == "test") records.test.push_back(i);
  }
  return records;
}

// Every fifth record is a test row; steps are half a standard deviation.
Records german_records(const std::filesystem::path& file, int64_t offset) {
  const Table table = read_table(file, {.categorical_up_to = 2});
  Records records;
  records.name = "German";
  records.rows = table.rows;
  records.stride = 2;
  records.offset = offset;
  const int64_t decision = table.column("good");
  std::vector<int64_t> used;
  for (int64_t c = 0; c < static_cast<int64_t>(table.columns.size()); ++c) {
    if (c == decision) continue;
    const Column& column = table.columns[static_cast<size_t>(c)];
    Feature feature{column.name, column.kind, column.levels, {}, {}};
    if (feature.name == "NumberPeopleMaintenance") {  // a number of two values
      feature.kind = ColumnKind::continuous;
      feature.levels.clear();
    }
    if (feature.kind == ColumnKind::continuous) {
      double sum = 0, squares = 0;
      for (int64_t i = 0; i < table.rows; ++i) {
        sum += table.at(i, c);
        squares += table.at(i, c) * table.at(i, c);
      }
      const auto count = static_cast<double>(table.rows);
      feature.delta = std::sqrt(squares / count - sum / count * (sum / count)) / 2;
    }
    records.features.push_back(feature);
    used.push_back(c);
  }
  const auto& levels = table.columns[static_cast<size_t>(decision)].levels;
  for (int64_t i = 0; i < table.rows; ++i) {
    for (const int64_t c : used) records.inputs.push_back(table.at(i, c));
    records.decisions.push_back(levels[static_cast<size_t>(table.at(i, decision))] == "1" ? 1 : 0);
    if (i % 5 == 4) records.test.push_back(i);
  }
  return records;
}

// The true difference of one feature at one row; baseline: code compared with (categorical).
double true_difference(const Records& records, const Forest& truth, int64_t row, size_t j, double baseline) {
  std::vector<double> plus(records.row(row).begin(), records.row(row).end()), minus = plus;
  if (records.features[j].kind == ColumnKind::continuous) {
    plus[j] += *records.features[j].delta / 2;
    minus[j] -= *records.features[j].delta / 2;
  } else {
    minus[j] = baseline;
  }
  return truth.predict(plus) - truth.predict(minus);
}

Trials zero_rival(const Records& records, const Forest& truth) {
  // The published code's baselines: the most frequent level, or the second where the row has it.
  std::vector<std::array<int64_t, 2>> common(records.width());
  for (size_t j = 0; j < records.width(); ++j) {
    std::vector<std::pair<int64_t, int64_t>> count(records.features[j].levels.size());
    for (size_t level = 0; level < count.size(); ++level) count[level].second = static_cast<int64_t>(level);
    if (count.size() < 2) continue;
    for (int64_t i = 0; i < records.rows; ++i) --count[static_cast<size_t>(records.row(i)[j])].first;
    std::sort(count.begin(), count.end());
    common[j] = {count[0].second, count[1].second};
  }
  Trials trials;
  for (int64_t q = 0; q < kQueries; ++q) {
    const int64_t row = records.query(q);
    std::vector<Sample> samples;
    for (size_t j = 0; j < records.width(); ++j) {
      const auto usual = static_cast<double>(common[j][0]);
      const double baseline = records.row(row)[j] == usual ? static_cast<double>(common[j][1]) : usual;
      samples.push_back({true_difference(records, truth, row, j, baseline), 0, 0, 0});
    }
    trials.push_back(std::move(samples));
  }
  return trials;
}

// Half widths are the 95 % quantiles of the true sizes at other test rows.
Trials constant_rival(const Records& records, const Forest& truth) {
  Records elsewhere = records;
  elsewhere.offset += records.stride / 2;
  const Trials others = zero_rival(elsewhere, truth);
  Trials constant = zero_rival(records, truth);
  for (size_t j = 0; j < records.width(); ++j) {
    std::vector<double> sizes;
    for (const auto& trial : others) sizes.push_back(std::abs(trial[j].truth));
    const double half = quantile(sizes, 0.95);
    for (auto& trial : constant) trial[j].lower = -(trial[j].upper = half);
  }
  return constant;
}

struct Measured {
  Trials trials;
  std::vector<double> cpu;
};

// The explained rows of one black box, `logged` its outputs at all rows, added to `measured`.
void explain_records(const Records& records, const std::vector<double>& logged, const Forest& truth,
                     const Options& options, Measured& measured) {
  const Explainer explainer(records.view(), logged, records.features, options);
  for (int64_t q = 0; q < kQueries; ++q) {
    const int64_t row = records.query(q);
    const Stopwatch watch;
    const Explanation answer = explainer.explain_row(row);
    measured.cpu.push_back(watch.elapsed().cpu_ms);
    std::vector<Sample> samples;
    for (size_t j = 0; j < records.width(); ++j) {
      const FeatureImportance& f = answer.features[j];
      samples.push_back({true_difference(records, truth, row, j, f.baseline), f.importance, f.lower, f.upper});
    }
    measured.trials.push_back(std::move(samples));
  }
  fmt::print("  [{}]\n", explainer.choice());
}

// Our own random forest (100 trees, bootstrap, square root of the features per split) trained on the decisions of the
// train split. The tables explain that of seed 0.
Forest black_box(const Records& records, uint64_t seed) {
  std::vector<char> is_test(static_cast<size_t>(records.rows), 0);
  for (const int64_t i : records.test) is_test[static_cast<size_t>(i)] = 1;
  std::vector<double> inputs, labels;
  for (int64_t i = 0; i < records.rows; ++i) {
    if (is_test[static_cast<size_t>(i)]) continue;
    inputs.insert(inputs.end(), records.row(i).begin(), records.row(i).end());
    labels.push_back(records.decisions[static_cast<size_t>(i)]);
  }
  const TableView train{inputs.data(), nullptr, static_cast<int64_t>(labels.size()),
                        static_cast<int64_t>(records.width())};
  const auto candidates = static_cast<int64_t>(std::sqrt(static_cast<double>(records.width())));
  return {train,
          labels,
          records.features,
          {.trees = 100, .best_splits = true, .candidates = candidates, .bootstrap = true, .seed = seed}};
}

std::vector<double> outputs_of(const Records& records, const Forest& truth) {
  std::vector<double> outputs;
  for (int64_t i = 0; i < records.rows; ++i) outputs.push_back(truth.predict(records.row(i)));
  return outputs;
}

Options differences(Options options) {
  options.classification = true;
  options.importance = ImportanceKind::difference;
  return options;
}

// Outputs of the black box are logged for all rows, and its true differences are known.
void measure_records(Report& report, const Records& records, const Options& published_settings) {
  const Forest truth = black_box(records, 0);
  const std::vector<double> logged = outputs_of(records, truth);
  const auto add = [&](const std::string& what, const Options& options) {
    const std::string name = records.name + " " + what;
    report.add(name, [&] {
      Measured measured;
      explain_records(records, logged, truth, differences(options), measured);
      return summarise(name, measured.trials, median(measured.cpu));
    });
  };
  const auto rival = [&](const std::string& what, auto make) {
    const std::string name = records.name + " " + what;
    report.add(name, [&] { return summarise(name, make(records, truth), 0); });
  };
  rival("zero for every feature", zero_rival);
  rival("constant interval", constant_rival);
  Options ridge = published_settings;
  ridge.under_determined = UnderDetermined::ridge;
  ridge.clip = Options{}.clip;
  Options kernel;
  kernel.estimator = Estimator::kernel;
  add("published", published_settings);
  add("published, clipped, ridge where under-determined", ridge);
  add("kernel", kernel);
  add("mimic forest", mimic());
  add("default", {});
  const std::string others = fmt::format("{} default, {} other black boxes", records.name, kOtherBoxes);
  report.add(others, [&] {
    Measured measured;
    for (uint64_t seed = 1; seed <= kOtherBoxes; ++seed) {
      const Forest other = black_box(records, seed);
      explain_records(records, outputs_of(records, other), other, differences({}), measured);
    }
    return summarise(others, measured.trials, median(measured.cpu));
  });
}

}  // namespace

void compas(Report& report, const std::filesystem::path& folder, int64_t offset) {
  const Records records = compas_records(folder, offset);
  const Options reference = published(150, 2, 0.667, Weights::linear);
  measure_records(report, records, reference);
  const std::string name = "COMPAS all rows, published, 1000 replicates";
  report.add(name, [&]() -> nlohmann::json {
    const Explainer all(records.view(), records.outputs, records.features, differences(reference));
    const Stopwatch watch;
    (void)all.explain_rows(0, records.rows);
    const Elapsed elapsed = watch.elapsed();
    const int threads = ThreadPool::shared().threads();
    fmt::print("{}: {} rows, {:.1f} s CPU, {:.1f} s wall on {} threads\n", name, records.rows, elapsed.cpu_ms / 1000,
               elapsed.wall_ms / 1000, threads);
    return {{"name", name},
            {"rows", records.rows},
            {"cpu_s", elapsed.cpu_ms / 1000},
            {"wall_s", elapsed.wall_ms / 1000},
            {"threads", threads}};
  });
}

void german(Report& report, const std::filesystem::path& file, int64_t offset) {
  measure_records(report, german_records(file, offset), published(40, 2, 0.9, Weights::linear));
}

// Where scripts/fetch-data puts it.
std::string german_file() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const char* data = std::getenv("TESSERA_DATA");
  const std::filesystem::path folder =
      data != nullptr    ? std::filesystem::path(data)
      : cache != nullptr ? std::filesystem::path(cache) / "tessera" / "data"
                         : std::filesystem::path(home != nullptr ? home : ".") / ".cache" / "tessera" / "data";
  return (folder / "german" / "german.csv").string();
}

}  // namespace tessera::explain
