#include "explain/forest_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "explain/normal.h"
#include "tessera/base/random.h"
#include "tessera/base/thread_pool.h"

namespace tessera::explain {
namespace {

constexpr double kSample = 0.6;       // of the rows in each tree: a pair of rows is unknown to a sixth of the trees
constexpr int64_t kFewestTrees = 8;   // that must know neither row of a pair whose difference is scored
constexpr double kFloorShare = 0.05;  // of the typical error, added to the spread over trees
constexpr int64_t kPartners = 2;      // nearest records that differ, one of which is drawn
constexpr int64_t kTwins = 20;        // equal records passed over
constexpr int64_t kTrialRows = 5000;  // on which the kinds of forest are compared
constexpr int64_t kTrialTrees = 60;
constexpr double kUncalibrated = 2;  // least factor where scores cannot be carried over to the targets

std::vector<ForestOptions> kinds_of(const Options& options, int64_t features) {
  ForestOptions randomised;
  randomised.trees = options.trees;
  randomised.sample = kSample;
  randomised.seed = Random(options.seed).split(7).bits();
  ForestOptions best = randomised;
  best.best_splits = true;
  best.candidates = std::max<int64_t>(1, (features + 2) / 3);
  return {randomised, best};
}

double held_out_square(const Forest& forest, TableView inputs, std::span<const double> outputs) {
  double sum = 0;
  std::vector<double> point(static_cast<size_t>(inputs.columns));
  for (int64_t i = 0; i < inputs.rows; ++i) {
    for (size_t j = 0; j < point.size(); ++j) point[j] = inputs.at(i, static_cast<int64_t>(j));
    double prediction = 0, trees = 0;
    for (int64_t t = 0; t < forest.trees(); ++t) {
      if (!forest.held_out(t, i)) continue;
      prediction += forest.predict_tree(t, point);
      trees += 1;
    }
    if (trees > 0) sum += std::pow(outputs[static_cast<size_t>(i)] - prediction / trees, 2);
  }
  return sum;
}

// The conformal quantile, raised by a share of the standard error of its own coverage (training-conditional validity;
// Vovk 2012): otherwise half of all tables would get less than the level. Two such quantiles are multiplied, so each is
// raised by 1 / sqrt(2) of it.
double safe_quantile(std::vector<double> scores, double level) {
  const double error = std::sqrt(0.5 * level * (1 - level) / std::max(1.0, static_cast<double>(scores.size())));
  return conformal_quantile(std::move(scores), std::min(level + error, (1 + level) / 2));
}

// The kind with the smaller held-out error on a sample of rows.
ForestOptions choose_kind(const Problem& problem) {
  std::vector<double> inputs, outputs;
  Random random = Random(problem.options.seed).split(9);
  const int64_t rows = std::min(kTrialRows, problem.inputs.rows);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = rows == problem.inputs.rows ? i : random.below(problem.inputs.rows);
    const std::vector<double> values = problem.row(row);
    inputs.insert(inputs.end(), values.begin(), values.end());
    outputs.push_back(problem.outputs[static_cast<size_t>(row)]);
  }
  const TableView view{inputs.data(), nullptr, rows, problem.inputs.columns};
  ForestOptions chosen;
  double least = std::numeric_limits<double>::infinity();
  for (const ForestOptions& kind : kinds_of(problem.options, problem.inputs.columns)) {
    ForestOptions trial = kind;
    trial.trees = std::min(kind.trees, kTrialTrees);
    const double error = held_out_square(Forest(view, outputs, problem.features, trial), view, outputs);
    if (error < least) {
      least = error;
      chosen = kind;
    }
  }
  return chosen;
}

}  // namespace

ForestModel::ForestModel(const Problem& problem, const RowSearch& search)
    : problem_(problem),
      search_(search),
      kind_(choose_kind(problem)),
      forest_(problem.inputs, problem.outputs.copy(), problem.features, kind_) {
  const int64_t rows = problem.inputs.rows;
  std::vector<double> mimicked(static_cast<size_t>(rows));
  ThreadPool::shared().parallel_for(0, rows, 256, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) mimicked[static_cast<size_t>(i)] = forest_.predict(problem.row(i));
  });
  const ColumnView mimicked_view = mimicked;
  ForestOptions options = kind_;
  options.seed = Random(options.seed).split(1).bits();
  const Forest second(problem.inputs, mimicked, problem.features, options);
  const World logged{forest_, problem_.outputs}, mimic{second, mimicked_view};
  known_ = calibrate(logged, mimic, true);
  unknown_ = calibrate(logged, mimic, false);
}

ForestModel::Calibration ForestModel::calibrate(const World& logged, const World& mimic, bool known) const {
  const Scores here = neighbour_scores(logged, known), there = neighbour_scores(mimic, known);
  Calibration result;
  result.records = std::ssize(here.ratio);
  result.floor = here.floor;
  result.factor.assign(problem_.features.size(), 0);
  result.reached = result.records >= records_for(problem_.options.level);
  if (!result.reached) return result;
  const double factor = safe_quantile(here.ratio, problem_.options.level);
  const double neighbours = conformal_quantile(there.ratio, problem_.options.level);
  const auto targets = target_scores(mimic, there.floor, known);
  std::vector<double> all;
  for (const auto& scores : targets) all.insert(all.end(), scores.begin(), scores.end());
  if (all.empty() || !(neighbours > 0)) {
    result.factor.assign(problem_.features.size(), std::max(kUncalibrated, factor));
    return result;
  }
  // A feature's own scores may ask for more than those of all, never for less: they are few.
  const double together = safe_quantile(all, problem_.options.level);
  for (size_t j = 0; j < targets.size(); ++j) {
    const double own = safe_quantile(targets[j], problem_.options.level);
    result.factor[j] = factor * std::max(own, together) / neighbours;
  }
  return result;
}

ForestModel::Scores ForestModel::neighbour_scores(const World& world, bool known) const {
  // Pairs of records that differ little, like the two ends of a step or of a swapped category.
  Metric metric = search_.standard_metric();
  metric.penalty.assign(metric.penalty.size(), 1.0);
  Random random = Random(problem_.options.seed).split(8);
  struct Error {
    double error, deviation;
  };
  std::vector<Error> errors;
  double squares = 0;
  const int64_t wanted = std::min(2 * problem_.options.calibration, problem_.inputs.rows);
  for (int64_t i = 0; i < wanted; ++i) {
    const int64_t record = random.below(problem_.inputs.rows);
    const std::vector<double> query = problem_.row(record);
    auto near = search_.nearest(query, metric, kPartners + kTwins, record);
    std::erase_if(near, [](const Neighbour& neighbour) { return neighbour.distance2 == 0; });  // tells nothing
    if (near.empty()) continue;
    const auto choice = random.below(std::min<int64_t>(std::ssize(near), kPartners));
    const int64_t partner = near[static_cast<size_t>(choice)].row;
    const Spread spread = difference(world.forest, query, problem_.row(partner), known ? -1 : record, partner);
    if (spread.trees < std::min<int64_t>(kFewestTrees, 1 + forest_.trees() / 20)) continue;
    const double truth = world.outputs[static_cast<size_t>(record)] - world.outputs[static_cast<size_t>(partner)];
    errors.push_back({std::abs(truth - spread.mean), spread.deviation});
    squares += (truth - spread.mean) * (truth - spread.mean);
  }
  Scores scores;
  if (errors.empty()) return scores;
  scores.floor = kFloorShare * std::sqrt(squares / static_cast<double>(errors.size()));
  for (const Error& one : errors) scores.ratio.push_back(one.error / (one.deviation + scores.floor + 1e-300));
  return scores;
}

std::vector<std::vector<double>> ForestModel::target_scores(const World& world, double floor, bool known) const {
  const Problem problem = stepped();
  Random random = Random(problem_.options.seed).split(10);
  std::vector<std::vector<double>> scores(problem_.features.size());
  for (int64_t i = 0; i < std::min(problem_.options.calibration, problem_.inputs.rows); ++i) {
    const int64_t record = random.below(problem_.inputs.rows);
    const std::vector<double> query = problem_.row(record);
    const Plan plan = make_plan(problem, query, problem_.baselines_for(query));
    for (const Target& target : plan.targets) {
      const auto& plus = plan.points[static_cast<size_t>(target.plus)];
      const auto& minus = plan.points[static_cast<size_t>(target.minus)];
      const double truth = forest_.predict(plus) - forest_.predict(minus);
      const Spread spread = difference(world.forest, plus, minus, known ? -1 : record, -1);
      if (spread.trees == 0) continue;
      scores[static_cast<size_t>(target.feature)].push_back(std::abs(truth - spread.mean) /
                                                            (spread.deviation + floor + 1e-300));
    }
  }
  return scores;
}

ForestModel::Spread ForestModel::difference(const Forest& forest, std::span<const double> plus,
                                            std::span<const double> minus, int64_t a, int64_t b) {
  double sum = 0, squares = 0;
  Spread spread;
  for (int64_t t = 0; t < forest.trees(); ++t) {
    if ((a >= 0 && !forest.held_out(t, a)) || (b >= 0 && !forest.held_out(t, b))) continue;
    const double change = forest.predict_tree(t, plus) - forest.predict_tree(t, minus);
    sum += change;
    squares += change * change;
    ++spread.trees;
  }
  if (spread.trees == 0) return spread;
  const auto count = static_cast<double>(spread.trees);
  spread.mean = sum / count;
  spread.deviation = std::sqrt(std::max(0.0, squares / count - spread.mean * spread.mean));
  return spread;
}

double ForestModel::whole_range() const {
  if (problem_.options.classification) return 1;
  double low = problem_.outputs[0], high = low;
  for (size_t i = 0; i < problem_.outputs.size(); ++i) {
    low = std::min(low, problem_.outputs[i]);
    high = std::max(high, problem_.outputs[i]);
  }
  return high - low;
}

// A forest has no slope: a gradient is the difference over the feature's step, divided by it.
Problem ForestModel::stepped() const {
  Problem problem = {problem_.inputs, {}, problem_.features, problem_.options, problem_.baseline, problem_.alternative,
                     problem_.delta};
  problem.options.importance = ImportanceKind::difference;
  return problem;
}

Explanation ForestModel::explain(std::span<const double> query, int64_t row) const {
  const bool known = row >= 0 && problem_.options.output_known;
  const int64_t exclude = known ? -1 : row;
  const Calibration& calibration = known ? known_ : unknown_;
  const std::vector<int64_t> baselines = problem_.baselines_for(query);
  const Plan plan = make_plan(stepped(), query, baselines);
  const double range = calibration.reached ? 0 : whole_range();
  std::vector<double> estimate(plan.targets.size(), 0), lower(estimate), upper(estimate);
  for (size_t t = 0; t < plan.targets.size(); ++t) {
    const Target& target = plan.targets[t];
    const auto j = static_cast<size_t>(target.feature);
    const Spread spread = difference(forest_, plan.points[static_cast<size_t>(target.plus)],
                                     plan.points[static_cast<size_t>(target.minus)], exclude, -1);
    const double half = calibration.factor[j] * (spread.deviation + calibration.floor);
    const bool slope =
        problem_.options.importance == ImportanceKind::gradient && problem_.features[j].kind == ColumnKind::continuous;
    const double unit = slope ? 1 / problem_.delta[j] : 1;
    const bool bounded = problem_.options.classification;
    const auto limit = [&](double value) { return unit * (bounded ? std::clamp(value, -1.0, 1.0) : value); };
    estimate[t] = limit(spread.mean);
    lower[t] = limit(calibration.reached ? spread.mean - half : -range);
    upper[t] = limit(calibration.reached ? spread.mean + half : range);
  }
  Explanation result;
  result.estimator = Estimator::forest;
  fill_features(problem_, plan, query, baselines, result, estimate, lower, upper);
  result.prediction = forest_.predict(query);
  Metric metric = search_.standard_metric();
  metric.penalty.assign(metric.penalty.size(), 1.0);
  double left = 0, total = 0, mean = 0;
  for (const Neighbour& neighbour : search_.nearest(query, metric, problem_.options.neighbours, exclude)) {
    result.neighbours.push_back(neighbour.row);
  }
  const size_t count = std::min<size_t>(20, result.neighbours.size());
  for (size_t i = 0; i < count; ++i)
    mean += problem_.outputs[static_cast<size_t>(result.neighbours[i])] / static_cast<double>(count);
  for (size_t i = 0; i < count; ++i) {
    const int64_t record = result.neighbours[i];
    const double output = problem_.outputs[static_cast<size_t>(record)];
    const double error = std::sqrt(held_out_error(std::span(&record, 1)));
    left += error * error;
    total += (output - mean) * (output - mean);
  }
  result.diagnostics.local_r2 = total > 1e-300 ? 1 - left / total : std::numeric_limits<double>::quiet_NaN();
  result.diagnostics.rows_used = problem_.inputs.rows;
  result.diagnostics.effective_rows = static_cast<double>(result.neighbours.size());
  result.diagnostics.condition = 1;
  result.diagnostics.calibration_factor = *std::max_element(calibration.factor.begin(), calibration.factor.end());
  result.diagnostics.calibration_records = calibration.records;
  return result;
}

double ForestModel::held_out_error(std::span<const int64_t> records) const {
  double sum = 0;
  for (const int64_t record : records) {
    const std::vector<double> query = problem_.row(record);
    double prediction = 0;
    int64_t trees = 0;
    for (int64_t t = 0; t < forest_.trees(); ++t) {
      if (!forest_.held_out(t, record)) continue;
      prediction += forest_.predict_tree(t, query);
      ++trees;
    }
    const double error =
        problem_.outputs[static_cast<size_t>(record)] - (trees > 0 ? prediction / static_cast<double>(trees) : 0);
    sum += error * error;
  }
  return sum / static_cast<double>(std::max<size_t>(1, records.size()));
}

}  // namespace tessera::explain
