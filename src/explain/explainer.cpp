#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "explain/baselines.h"
#include "explain/diagnostics.h"
#include "explain/forest_model.h"
#include "explain/index_content.h"
#include "explain/kernel_model.h"
#include "explain/polynomial_basis.h"
#include "explain/published.h"
#include "tessera/base/error.h"
#include "tessera/base/random.h"
#include "tessera/base/thread_pool.h"

namespace tessera::explain {
namespace {

constexpr double kMostParameters = 20000;  // of the published basis
constexpr int64_t kForestRows = 200000;    // `automatic` trains no mimic on more rows
constexpr double kKernelEnough = 0.95;     // held-out R2 at which `automatic` does not try the forest
// Of the kernel's mean squared error. Where outputs come in steps, a kernel's intervals are two to three times as wide
// as a forest's of the same held-out error (development rows of COMPAS and German credit).
constexpr double kForestGain = 0.8;
constexpr double kForestGainOnSteps = 1.25;
constexpr int64_t kSampledOutputs = 64;  // that tell one output from another
constexpr double kStepsBelow = 0.5;      // distinct outputs among a sample of rows, over their number

void check_options(const Options& options) {
  const auto require = [](bool holds, const char* name, const char* expected, double found) {
    if (!holds) throw Error(ErrorCode::invalid_argument, "{}: expected {}, found {}", name, expected, found);
  };
  require(options.neighbours >= 2 && options.neighbours <= 5000, "neighbours", "2 to 5000",
          static_cast<double>(options.neighbours));
  require(options.degree >= 1 && options.degree <= 6, "degree", "1 to 6", options.degree);
  require(options.replicates >= 1 && options.replicates <= 1000000, "replicates", "1 to 1000000",
          static_cast<double>(options.replicates));
  require(options.ratio > 0 && options.ratio <= 1, "ratio", "a number in (0, 1]", options.ratio);
  require(options.level > 0 && options.level < 1, "level", "a number between 0 and 1", options.level);
  require(options.clip >= 0 && options.clip < 0.5, "clip", "a number in [0, 0.5)", options.clip);
  require(options.calibration >= 1, "calibration", "at least 1", static_cast<double>(options.calibration));
  require(options.trees >= 2 && options.trees <= 10000, "trees", "2 to 10000", static_cast<double>(options.trees));
  const bool published = options.estimator == Estimator::published;
  if (published == (options.interval == IntervalKind::conformal)) {
    throw Error(
        ErrorCode::invalid_argument,
        "interval: the published estimator offers percentile, basic, bca, studentised, delete-one and classical, the "
        "others conformal; found {} with {}",
        to_string(options.estimator), to_string(options.interval));
  }
}

void check_outputs(const Problem& problem) {
  const bool classification = problem.options.classification;
  const ColumnView& outputs = problem.outputs;
  if (std::isfinite(outputs.low) && std::isfinite(outputs.high) &&
      (!classification || (outputs.low >= 0 && outputs.high <= 1))) {
    return;
  }
  for (int64_t i = 0; i < problem.inputs.rows; ++i) {
    const double output = outputs[static_cast<size_t>(i)];
    if (!std::isfinite(output))
      throw Error(ErrorCode::invalid_argument, "row {}: the output is {}; expected a finite number", i, output);
    if (classification && (output < 0 || output > 1)) {
      throw Error(ErrorCode::invalid_argument,
                  "row {}: the output is {}; classification expects probabilities from 0 to 1", i, output);
    }
  }
}

// Most frequent level and the one to use when the query has the baseline (spec of the published code); ties: lower
// code.
void choose_baselines(Problem& problem, const RowSearch& search) {
  problem.baseline.assign(problem.features.size(), -1);
  problem.alternative = problem.baseline;
  for (size_t j = 0; j < problem.features.size(); ++j) {
    const Feature& feature = problem.features[j];
    if (feature.kind != ColumnKind::categorical) continue;
    const auto levels = static_cast<int64_t>(feature.levels.size());
    const std::vector<int64_t>& count = search.level_count(static_cast<int64_t>(j));
    std::vector<int64_t> order(feature.levels.size());
    for (int64_t level = 0; level < levels; ++level) order[static_cast<size_t>(level)] = level;
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return count[static_cast<size_t>(a)] > count[static_cast<size_t>(b)];
    });
    if (levels < 2 || count[static_cast<size_t>(order[1])] == 0) {
      throw Error(ErrorCode::invalid_argument,
                  "column '{}' has the single category '{}' and cannot be explained; leave it out", feature.name,
                  feature.levels.empty() ? "" : feature.levels[static_cast<size_t>(order[0])]);
    }
    const int64_t wanted = feature.baseline.value_or(order[0]);
    if (wanted < 0 || wanted >= levels) {
      throw Error(ErrorCode::invalid_argument, "column '{}': baseline {} is not a code from 0 to {}", feature.name,
                  wanted, levels - 1);
    }
    problem.baseline[j] = wanted;
    problem.alternative[j] = wanted == order[0] ? order[1] : order[0];
  }
}

void choose_deltas(Problem& problem, const RowSearch& search) {
  problem.delta.assign(problem.features.size(), 0);
  for (const int64_t j : search.continuous()) {
    const Feature& feature = problem.features[static_cast<size_t>(j)];
    const auto [low, high] = search.range(j);
    if (low == high) {
      throw Error(ErrorCode::invalid_argument, "column '{}' is constant ({}) and cannot be explained; leave it out",
                  feature.name, low);
    }
    problem.delta[static_cast<size_t>(j)] = feature.delta.value_or(search.deviation()[static_cast<size_t>(j)] / 2);
    if (!(problem.delta[static_cast<size_t>(j)] > 0) || !std::isfinite(problem.delta[static_cast<size_t>(j)])) {
      throw Error(ErrorCode::invalid_argument, "column '{}': the delta must be a positive number, found {}",
                  feature.name, *feature.delta);
    }
  }
}

double distinct_share(const Problem& problem) {
  Random random = Random(problem.options.seed).split(4);
  std::set<double> seen;
  constexpr int kRows = 1000;
  for (int i = 0; i < kRows; ++i) seen.insert(problem.outputs[static_cast<size_t>(random.below(problem.inputs.rows))]);
  const double rows = std::min<double>(kRows, static_cast<double>(problem.inputs.rows));
  return static_cast<double>(seen.size()) / rows;
}

}  // namespace

struct Explainer::Implementation {
  Problem problem;
  std::unique_ptr<RowSearch> search;
  std::unique_ptr<KernelModel> kernel;
  std::unique_ptr<ForestModel> forest;
  Estimator chosen = Estimator::published;
  std::string choice;

  // Everything that what is learned depends on.
  std::string key() const {
    const Options& o = problem.options;
    std::string text = describe_table(problem.inputs, problem.features);
    for (int64_t k = 0; k < kSampledOutputs; ++k) {
      const int64_t row = k * (problem.inputs.rows - 1) / (kSampledOutputs - 1);
      text += fmt::format(" {:.17g}", problem.outputs[static_cast<size_t>(row)]);
    }
    return text + fmt::format("; {} {} {} {} {} {} {} {} {}", to_string(o.estimator), static_cast<int>(o.importance),
                              o.classification, o.output_known, o.neighbours, o.level, o.calibration, o.trees, o.seed);
  }

  // True when `text` was learned from this table with these options.
  bool restore(std::string_view text) {
    if (text.empty()) return false;
    const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object() || !json.contains("key") || json["key"] != key()) return false;
    auto restored = std::make_unique<KernelModel>(problem, *search);
    try {
      restored->restore(json.at("regions"));
      choice = json.at("choice").get<std::string>();
    } catch (const nlohmann::json::exception& error) {
      throw Error(ErrorCode::bad_file, "learned kernels: {}", error.what());
    }
    kernel = std::move(restored);
    chosen = Estimator::kernel;
    return true;
  }

  void choose() {
    const Options& options = problem.options;
    chosen = options.estimator;
    choice = fmt::format("the {} estimator was asked for", to_string(chosen));
    if (chosen == Estimator::published) return;
    if (chosen != Estimator::forest) kernel = std::make_unique<KernelModel>(problem, *search);
    if (chosen == Estimator::forest) forest = std::make_unique<ForestModel>(problem, *search);
    if (chosen != Estimator::automatic) return;
    // The same random records, held out, decide.
    Random random = Random(options.seed).split(3);
    std::vector<int64_t> records;
    for (int i = 0; i < 100; ++i) records.push_back(random.below(problem.inputs.rows));
    double mean = 0, variance = 0;
    for (const int64_t i : records)
      mean += problem.outputs[static_cast<size_t>(i)] / static_cast<double>(records.size());
    for (const int64_t i : records)
      variance += std::pow(problem.outputs[static_cast<size_t>(i)] - mean, 2) / static_cast<double>(records.size());
    const double by_kernel = kernel->held_out_error(records);
    chosen = Estimator::kernel;
    choice = fmt::format("kernel: it predicts held-out outputs with a root mean squared error of {:.3g} (R2 {:.3f})",
                         std::sqrt(by_kernel), variance > 0 ? 1 - by_kernel / variance : 1.0);
    if (by_kernel <= (1 - kKernelEnough) * variance || problem.inputs.rows > kForestRows) return;
    forest = std::make_unique<ForestModel>(problem, *search);
    const double by_forest = forest->held_out_error(records);
    choice = fmt::format("on held-out outputs the root mean squared error is {:.3g} for kernel and {:.3g} for forest",
                         std::sqrt(by_kernel), std::sqrt(by_forest));
    const bool steps = distinct_share(problem) < kStepsBelow;
    if (steps) choice += ", and outputs come in steps";
    if (by_forest < (steps ? kForestGainOnSteps : kForestGain) * by_kernel) chosen = Estimator::forest;
  }

  void check_query(std::span<const double> query) const {
    if (query.size() != problem.features.size()) {
      throw Error(ErrorCode::invalid_argument, "query: expected {} values, found {}", problem.features.size(),
                  query.size());
    }
    for (size_t j = 0; j < query.size(); ++j) {
      const Feature& feature = problem.features[j];
      const bool fits = feature.kind == ColumnKind::continuous
                            ? std::isfinite(query[j])
                            : query[j] >= 0 && query[j] < static_cast<double>(feature.levels.size()) &&
                                  query[j] == std::floor(query[j]);
      if (!fits) {
        throw Error(ErrorCode::invalid_argument, "query, column '{}': {} is not a {} of the table", feature.name,
                    query[j], feature.kind == ColumnKind::continuous ? "finite number" : "category");
      }
    }
  }

  Explanation explain(std::span<const double> query, int64_t row) const {
    check_query(query);
    const int64_t exclude = problem.options.output_known ? -1 : row;
    Explanation result;
    switch (chosen) {
      case Estimator::published: {
        const Random base(problem.options.seed);
        const uint64_t stream = base.split(row >= 0 ? static_cast<uint64_t>(row) : ~uint64_t{0}).bits();
        result = explain_published(problem, *search, query, exclude, stream);
        break;
      }
      case Estimator::forest:
        result = forest->explain(query, row);
        break;
      default:
        result = kernel->explain(query, exclude);
        break;
    }
    result.row = row;
    result.output = row >= 0 ? problem.outputs[static_cast<size_t>(row)] : std::numeric_limits<double>::quiet_NaN();
    diagnose(problem, *search, query, row, result);
    return result;
  }
};

Explainer::Explainer(TableView inputs, ColumnView outputs, std::vector<Feature> features, Options options,
                     std::shared_ptr<const TableIndex> index, std::string_view learned)
    : implementation_(std::make_unique<Implementation>()) {
  check_options(options);
  Problem& problem = implementation_->problem;
  problem = {inputs, outputs, std::move(features), options, {}, {}, {}};
  if (inputs.columns != static_cast<int64_t>(problem.features.size()) ||
      static_cast<int64_t>(outputs.size()) != inputs.rows) {
    throw Error(ErrorCode::invalid_argument, "table: expected {} columns and {} outputs, found {} and {}",
                problem.features.size(), inputs.rows, inputs.columns, outputs.size());
  }
  if (problem.features.empty()) throw Error(ErrorCode::invalid_argument, "table: no feature is left to explain");
  if (inputs.rows < 2)
    throw Error(ErrorCode::invalid_argument, "table: expected at least 2 rows, found {}", inputs.rows);
  check_outputs(problem);
  if (!index) index = TableIndex::build(inputs, problem.features);
  const TableIndex::Content& content = index->content();
  if (content.rows != inputs.rows || content.statistics.size() != problem.features.size())
    throw Error(ErrorCode::invalid_argument, "index: it was built for another table");
  implementation_->search = std::make_unique<RowSearch>(inputs, std::move(index));
  const RowSearch& search = *implementation_->search;
  choose_baselines(problem, search);
  choose_deltas(problem, search);
  if (options.estimator == Estimator::published) {
    double dummies = 0;
    for (const Feature& feature : problem.features)
      dummies += feature.kind == ColumnKind::categorical ? static_cast<double>(feature.levels.size()) - 1 : 0;
    const double parameters = PolynomialBasis::count(static_cast<int64_t>(search.continuous().size()),
                                                     static_cast<int64_t>(dummies), options.degree);
    if (parameters > kMostParameters) {
      throw Error(
          ErrorCode::limit_exceeded,
          "degree {} in these columns needs {:.0f} parameters, more than {:.0f}; lower the degree or leave out columns",
          options.degree, parameters, kMostParameters);
    }
  }
  const bool learns = options.estimator == Estimator::automatic || options.estimator == Estimator::kernel;
  if (!learns || !implementation_->restore(learned)) implementation_->choose();
}

Explainer::~Explainer() = default;
Explainer::Explainer(Explainer&&) noexcept = default;

Explanation Explainer::explain_row(int64_t row) const {
  if (row < 0 || row >= inputs().rows) {
    throw Error(ErrorCode::invalid_argument, "row {}: the table has rows 0 to {}", row, inputs().rows - 1);
  }
  return implementation_->explain(implementation_->problem.row(row), row);
}

Explanation Explainer::explain(std::span<const double> query) const { return implementation_->explain(query, -1); }

std::vector<SlicePoint> Explainer::slice(std::span<const double> query, int64_t feature,
                                         std::span<const double> at) const {
  implementation_->check_query(query);
  std::vector<std::vector<double>> points;
  for (const double x : at) {
    points.emplace_back(query.begin(), query.end());
    points.back()[static_cast<size_t>(feature)] = x;
  }
  std::vector<double> values;
  switch (implementation_->chosen) {
    case Estimator::published:
      values = predict_published(implementation_->problem, *implementation_->search, query, points);
      break;
    case Estimator::forest:
      for (const auto& point : points) values.push_back(implementation_->forest->predict(point));
      break;
    default:
      values = implementation_->kernel->predict(query, points);
      break;
  }
  std::vector<SlicePoint> result;
  for (size_t i = 0; i < at.size(); ++i) result.push_back({at[i], values[i]});
  return result;
}

std::vector<Explanation> Explainer::explain_rows(int64_t begin, int64_t end) const {
  if (begin < 0 || end > inputs().rows || begin > end) {
    throw Error(ErrorCode::invalid_argument, "rows {} to {}: the table has rows 0 to {}", begin, end,
                inputs().rows - 1);
  }
  std::vector<Explanation> results(static_cast<size_t>(end - begin));
  ThreadPool::shared().parallel_for(begin, end, 1, [&](int64_t from, int64_t to, int) {
    for (int64_t row = from; row < to; ++row) results[static_cast<size_t>(row - begin)] = explain_row(row);
  });
  return results;
}

const std::vector<Feature>& Explainer::features() const { return implementation_->problem.features; }
const Options& Explainer::options() const { return implementation_->problem.options; }
TableView Explainer::inputs() const { return implementation_->problem.inputs; }
ColumnView Explainer::outputs() const { return implementation_->problem.outputs; }
Estimator Explainer::estimator() const { return implementation_->chosen; }
std::string Explainer::choice() const { return implementation_->choice; }

std::string Explainer::learned() const {
  if (implementation_->chosen != Estimator::kernel) return {};
  const nlohmann::json json = {{"key", implementation_->key()},
                               {"choice", implementation_->choice},
                               {"regions", implementation_->kernel->learned()}};
  return json.dump();
}

}  // namespace tessera::explain
