#include "explain/forest_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tessera/base/random.h"

namespace tessera::explain {

ForestModel::ForestModel(const Problem& problem, const RowSearch& search)
    : problem_(problem),
      search_(search),
      forest_(problem.inputs, problem.outputs.copy(), problem.features,
              {.trees = problem.options.trees, .seed = Random(problem.options.seed).split(7).bits()}) {
  // Pairs of records that differ little, like the two ends of a step or of a swapped category.
  Metric metric = search.standard_metric();
  metric.penalty.assign(metric.penalty.size(), 1.0);
  Random random = Random(problem.options.seed).split(8);
  struct Score {
    double error, deviation;
  };
  std::vector<Score> scores;
  double squares = 0;
  const int64_t wanted = std::min(2 * problem.options.calibration, problem.inputs.rows);
  for (int64_t i = 0; i < wanted; ++i) {
    const int64_t record = random.below(problem.inputs.rows);
    const std::vector<double> query = problem.row(record);
    const auto near = search.nearest(query, metric, 8, record);
    if (near.empty()) continue;
    const int64_t partner = near[static_cast<size_t>(random.below(static_cast<int64_t>(near.size())))].row;
    const Spread spread = difference(query, problem.row(partner), record, partner);
    if (spread.trees < 2) continue;
    const double truth = problem.outputs[static_cast<size_t>(record)] - problem.outputs[static_cast<size_t>(partner)];
    scores.push_back({std::abs(truth - spread.mean), spread.deviation});
    squares += (truth - spread.mean) * (truth - spread.mean);
  }
  records_ = static_cast<int64_t>(scores.size());
  if (scores.empty()) return;
  floor_ = 0.1 * std::sqrt(squares / static_cast<double>(scores.size()));
  std::vector<double> ratios;
  for (const Score& score : scores) ratios.push_back(score.error / (score.deviation + floor_ + 1e-300));
  std::sort(ratios.begin(), ratios.end());
  const auto rank = static_cast<size_t>(std::ceil(problem.options.level * static_cast<double>(ratios.size() + 1)));
  factor_ = ratios[std::min(rank, ratios.size()) - 1];
}

ForestModel::Spread ForestModel::difference(std::span<const double> plus, std::span<const double> minus, int64_t a,
                                            int64_t b) const {
  double sum = 0, squares = 0;
  Spread spread;
  for (int64_t t = 0; t < forest_.trees(); ++t) {
    if ((a >= 0 && !forest_.held_out(t, a)) || (b >= 0 && !forest_.held_out(t, b))) continue;
    const double change = forest_.predict_tree(t, plus) - forest_.predict_tree(t, minus);
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

Explanation ForestModel::explain(std::span<const double> query, int64_t exclude) const {
  const std::vector<int64_t> baselines = problem_.baselines_for(query);
  // A forest has no slope: a gradient is the difference over the feature's step, divided by it.
  Problem stepped = {problem_.inputs, {}, problem_.features, problem_.options, problem_.baseline, problem_.alternative,
                     problem_.delta};
  stepped.options.importance = ImportanceKind::difference;
  const Plan plan = make_plan(stepped, query, baselines);
  std::vector<double> estimate(plan.targets.size(), 0), lower(estimate), upper(estimate);
  for (size_t t = 0; t < plan.targets.size(); ++t) {
    const Target& target = plan.targets[t];
    const auto j = static_cast<size_t>(target.feature);
    const Spread spread = difference(plan.points[static_cast<size_t>(target.plus)],
                                     plan.points[static_cast<size_t>(target.minus)], exclude, -1);
    const double half = factor_ * (spread.deviation + floor_);
    const bool slope =
        problem_.options.importance == ImportanceKind::gradient && problem_.features[j].kind == ColumnKind::continuous;
    const double unit = slope ? 1 / problem_.delta[j] : 1;
    const bool bounded = problem_.options.classification;
    const auto limit = [&](double value) { return unit * (bounded ? std::clamp(value, -1.0, 1.0) : value); };
    estimate[t] = limit(spread.mean);
    lower[t] = limit(spread.mean - half);
    upper[t] = limit(spread.mean + half);
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
  result.diagnostics.calibration_factor = factor_;
  result.diagnostics.calibration_records = records_;
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
