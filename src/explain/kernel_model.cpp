#include "explain/kernel_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "explain/normal.h"
#include "tessera/base/random.h"

namespace tessera::explain {
namespace {

constexpr int64_t kCellRows = 40;    // a cell with fewer rows borrows from others
constexpr int64_t kBlockRows = 200;  // of the likelihood
constexpr int64_t kBlocks = 3;
constexpr int64_t kScaleRows = 10;  // left-out rows behind the local scale; chosen on development seeds
constexpr double kScalePrior = 1;   // as many pseudo rows predicted exactly as well as average
constexpr double kSmallestNugget = 1e-8;

std::vector<int64_t> row_numbers(const std::vector<Neighbour>& neighbours) {
  std::vector<int64_t> rows;
  for (const Neighbour& neighbour : neighbours) rows.push_back(neighbour.row);
  return rows;
}

// Root mean square of standardised left-out residuals, all but the first `skip`.
double local_scale(const Eigen::VectorXd& left_out, int64_t skip) {
  double sum = kScalePrior, count = kScalePrior;
  for (int64_t i = skip; i < left_out.size(); ++i) {
    sum += left_out[i] * left_out[i];
    count += 1;
  }
  return std::sqrt(sum / count);
}

// Order statistic of rank ceil(level (N + 1)): the split conformal quantile (Vovk et al. 2005).
double conformal_quantile(std::vector<double> scores, double level) {
  if (scores.empty()) return normal_quantile((1 + level) / 2);
  std::sort(scores.begin(), scores.end());
  const auto rank = static_cast<size_t>(std::ceil(level * static_cast<double>(scores.size() + 1)));
  return scores[std::min(rank, scores.size()) - 1];
}

}  // namespace

struct KernelModel::Local {
  std::vector<int64_t> rows;
  KernelFit fit;
  double scale = 1;
};

Eigen::VectorXd KernelModel::point(std::span<const double> values) const {
  const auto continuous = static_cast<int64_t>(search_.continuous().size());
  Eigen::VectorXd result(static_cast<int64_t>(values.size()));
  for (int64_t c = 0; c < continuous; ++c)
    result[c] = values[static_cast<size_t>(search_.continuous()[static_cast<size_t>(c)])];
  for (size_t c = 0; c < search_.categorical().size(); ++c) {
    result[continuous + static_cast<int64_t>(c)] = values[static_cast<size_t>(search_.categorical()[c])];
  }
  return result;
}

Points KernelModel::gather(std::span<const int64_t> rows) const {
  Points points;
  points.continuous = static_cast<int64_t>(search_.continuous().size());
  points.categorical = static_cast<int64_t>(search_.categorical().size());
  points.values.resize(points.continuous + points.categorical, static_cast<int64_t>(rows.size()));
  for (size_t i = 0; i < rows.size(); ++i) points.values.col(static_cast<int64_t>(i)) = point(problem_.row(rows[i]));
  return points;
}

Metric KernelModel::metric(const Region& region) const {
  Metric metric;
  for (const double length : region.kernel.length) metric.weight.push_back(1 / (length * length));
  metric.penalty = region.kernel.penalty;
  if (region.cell) metric.penalty.assign(metric.penalty.size(), std::numeric_limits<double>::infinity());
  return metric;
}

KernelModel::Local KernelModel::local(const Region& region, std::span<const double> query, int64_t exclude) const {
  std::vector<int64_t> rows = row_numbers(search_.nearest(query, metric(region), problem_.options.neighbours, exclude));
  Eigen::VectorXd output(static_cast<int64_t>(rows.size()));
  for (size_t i = 0; i < rows.size(); ++i)
    output[static_cast<int64_t>(i)] = problem_.outputs[static_cast<size_t>(rows[i])];
  Local result{rows, KernelFit(region.kernel, gather(rows), output), 1};
  if (result.fit.valid()) result.scale = local_scale(result.fit.left_out(kScaleRows), 0);
  return result;
}

double KernelModel::deviance(const Kernel& kernel, const std::vector<std::vector<int64_t>>& blocks) const {
  double sum = 0;
  for (const auto& rows : blocks) {
    Eigen::VectorXd output(static_cast<int64_t>(rows.size()));
    for (size_t i = 0; i < rows.size(); ++i)
      output[static_cast<int64_t>(i)] = problem_.outputs[static_cast<size_t>(rows[i])];
    const KernelFit fit(kernel, gather(rows), output);
    if (!fit.valid()) return std::numeric_limits<double>::infinity();
    sum += fit.deviance();
  }
  return sum;
}

Kernel KernelModel::fit_kernel(const std::vector<std::vector<int64_t>>& blocks, bool cell) const {
  // Coordinate search on log scale: few, robust evaluations; the likelihood is flat near its top.
  std::vector<Smoothness> kinds = {Smoothness::gaussian, Smoothness::matern52};
  if (problem_.options.importance == ImportanceKind::difference) kinds.push_back(Smoothness::exponential);
  const Points points = gather(blocks[0]);
  Kernel best;
  double best_value = std::numeric_limits<double>::infinity();
  for (const Smoothness kind : kinds) {
    Kernel kernel;
    kernel.smoothness = kind;
    for (int64_t c = 0; c < points.continuous; ++c) {
      const double deviation = search_.deviation()[static_cast<size_t>(search_.continuous()[static_cast<size_t>(c)])];
      kernel.length.push_back(deviation);
    }
    const double root = std::sqrt(static_cast<double>(std::max<int64_t>(1, points.continuous)));
    kernel.penalty.assign(static_cast<size_t>(points.categorical), 1.0);
    const std::vector<double> unit = kernel.length;
    double value = std::numeric_limits<double>::infinity();
    Kernel start = kernel;
    for (const double multiple : {0.15, 0.3, 0.6, 1.2, 3.0}) {
      for (const double nugget : {kSmallestNugget, 1e-3, 0.1}) {
        start.nugget = nugget;
        for (size_t c = 0; c < unit.size(); ++c) start.length[c] = unit[c] * multiple * root;
        const double found = deviance(start, blocks);
        if (found < value) {
          value = found;
          kernel = start;
        }
      }
    }
    const size_t lengths = kernel.length.size(), penalties = cell ? 0 : kernel.penalty.size();
    for (const double step : {2.0, 1.4, 1.15}) {
      for (size_t k = 0; k < lengths + penalties + 1; ++k) {
        double& parameter = k < lengths               ? kernel.length[k]
                            : k < lengths + penalties ? kernel.penalty[k - lengths]
                                                      : kernel.nugget;
        const double factor = k == lengths + penalties ? step * step * step : k < lengths ? step : step * step;
        for (const double direction : {factor, 1 / factor}) {
          for (int repeat = 0; repeat < 3; ++repeat) {
            const double before = parameter;
            parameter = std::max(before * direction, k == lengths + penalties ? kSmallestNugget : 1e-6 * before);
            const double found = parameter == before ? value : deviance(kernel, blocks);
            if (!(found < value - 1e-3)) {
              parameter = before;
              break;
            }
            value = found;
          }
        }
      }
    }
    if (value < best_value) {
      best_value = value;
      best = kernel;
    }
  }
  if (!std::isfinite(best_value)) best.nugget = 1;  // flat or degenerate: plain smoothing
  if (best.length.empty() || !std::isfinite(best_value)) {
    best.length.clear();
    for (const int64_t j : search_.continuous()) best.length.push_back(search_.deviation()[static_cast<size_t>(j)]);
    best.penalty.assign(search_.categorical().size(), 1.0);
  }
  return best;
}

std::unique_ptr<KernelModel::Region> KernelModel::train(std::span<const double> query, bool cell) const {
  auto region = std::make_unique<Region>();
  region->cell = cell;
  const std::span<const uint32_t> members = cell ? search_.cell_rows(query) : std::span<const uint32_t>();
  const int64_t rows = cell ? static_cast<int64_t>(members.size()) : problem_.inputs.rows;
  const auto row_at = [&](int64_t i) { return cell ? static_cast<int64_t>(members[static_cast<size_t>(i)]) : i; };
  Random random = Random(problem_.options.seed).split(cell ? static_cast<uint64_t>(search_.cell_of(query)) + 2 : 1);
  Metric metric = search_.standard_metric();
  metric.penalty.assign(metric.penalty.size(), cell ? std::numeric_limits<double>::infinity() : 1.0);
  std::vector<std::vector<int64_t>> blocks;
  const int64_t count = rows <= kBlockRows + kBlockRows / 2 ? 1 : kBlocks;
  for (int64_t b = 0; b < count; ++b) {
    const int64_t centre = row_at(random.below(rows));
    blocks.push_back(row_numbers(search_.nearest(problem_.row(centre), metric, count == 1 ? rows : kBlockRows)));
  }
  region->kernel = fit_kernel(blocks, cell);
  std::set<int64_t> records;
  const int64_t wanted = std::min(rows, problem_.options.calibration);
  if (wanted == rows) {
    for (int64_t i = 0; i < rows; ++i) records.insert(row_at(i));
  }
  while (static_cast<int64_t>(records.size()) < wanted) records.insert(row_at(random.below(rows)));
  calibrate(*region, std::vector<int64_t>(records.begin(), records.end()));
  return region;
}

void KernelModel::calibrate(Region& region, std::span<const int64_t> records) const {
  std::vector<double> values, pairs;
  for (const int64_t record : records) {
    const Local fit = local(region, problem_.row(record), -1);
    const auto at = std::find(fit.rows.begin(), fit.rows.end(), record);
    if (!fit.fit.valid() || at == fit.rows.end() || fit.rows.size() < 4) continue;
    // The record is among the nearest; its own residual must not enter the scale.
    const auto index = static_cast<int64_t>(at - fit.rows.begin());
    if (index >= kScaleRows) continue;
    Eigen::VectorXd left = fit.fit.left_out(kScaleRows + 1);
    std::swap(left[0], left[index]);
    values.push_back(std::abs(left[0]) / local_scale(left, 1));
    const int64_t partner = index == 0 ? 1 : 0;
    std::swap(left[1], left[partner == 0 ? index : 1]);
    pairs.push_back(std::abs(fit.fit.pair_left_out(index, partner)) / local_scale(left, 2));
  }
  region.records = static_cast<int64_t>(values.size());
  region.value_factor = conformal_quantile(values, problem_.options.level);
  region.pair_factor = conformal_quantile(pairs, problem_.options.level);
}

const KernelModel::Region& KernelModel::pooled() const {
  std::shared_ptr<std::once_flag> once;
  {
    const std::lock_guard lock(mutex_);
    auto& flag = once_[-1];
    if (!flag) flag = std::make_shared<std::once_flag>();
    once = flag;
  }
  std::call_once(*once, [&] {
    auto made = train({}, false);
    const std::lock_guard lock(mutex_);
    regions_[-1] = std::move(made);
  });
  const std::lock_guard lock(mutex_);
  return *regions_.at(-1);
}

const KernelModel::Region& KernelModel::region(std::span<const double> query) const {
  const int64_t cell = search_.cell_of(query);
  const int64_t least = std::max<int64_t>(kCellRows, 6 * (1 + static_cast<int64_t>(search_.continuous().size())));
  if (search_.categorical().empty() || cell < 0 || static_cast<int64_t>(search_.cell_rows(query).size()) < least)
    return pooled();
  std::shared_ptr<std::once_flag> once;
  {
    const std::lock_guard lock(mutex_);
    auto& flag = once_[cell];
    if (!flag) flag = std::make_shared<std::once_flag>();
    once = flag;
  }
  std::call_once(*once, [&] {
    auto made = train(query, true);
    const std::lock_guard lock(mutex_);
    regions_[cell] = std::move(made);
  });
  const std::lock_guard lock(mutex_);
  return *regions_.at(cell);
}

Estimate KernelModel::across_cells(std::span<const double> plus, std::span<const double> minus, int64_t exclude,
                                   double& half) const {
  const Region& first = region(plus);
  const Region& second = region(minus);
  if (first.cell && second.cell) {
    const Local a = local(first, plus, exclude), b = local(second, minus, exclude);
    if (!a.fit.valid() || !b.fit.valid()) return {0, 0};
    const Estimate up = a.fit.estimate(a.fit.value_at(point(plus)));
    const Estimate down = b.fit.estimate(b.fit.value_at(point(minus)));
    half = std::hypot(up.error * a.scale * first.value_factor, down.error * b.scale * second.value_factor);
    return {up.value - down.value, std::hypot(up.error, down.error)};
  }
  // Thin cells: one fit to the rows near both points, so that what they share cancels.
  const Region& shared = pooled();
  std::vector<int64_t> rows;
  const int64_t share = std::max<int64_t>(1, problem_.options.neighbours / 2);
  for (const auto& end : {plus, minus}) {
    for (const Neighbour& neighbour : search_.nearest(end, metric(shared), share, exclude)) {
      if (std::find(rows.begin(), rows.end(), neighbour.row) == rows.end()) rows.push_back(neighbour.row);
    }
  }
  Eigen::VectorXd output(static_cast<int64_t>(rows.size()));
  for (size_t i = 0; i < rows.size(); ++i)
    output[static_cast<int64_t>(i)] = problem_.outputs[static_cast<size_t>(rows[i])];
  const KernelFit fit(shared.kernel, gather(rows), output);
  if (!fit.valid()) return {0, 0};
  const Estimate estimate = fit.estimate(fit.difference(point(plus), point(minus)));
  half = estimate.error * local_scale(fit.left_out(kScaleRows), 0) * shared.pair_factor;
  return estimate;
}

Explanation KernelModel::explain(std::span<const double> query, int64_t exclude) const {
  const std::vector<int64_t> baselines = problem_.baselines_for(query);
  const Plan plan = make_plan(problem_, query, baselines);
  const Region& here = region(query);
  const Local fit = local(here, query, exclude);
  std::vector<double> estimate(plan.targets.size(), 0), lower(estimate), upper(estimate);
  Explanation result;
  result.estimator = Estimator::kernel;
  const Eigen::VectorXd centre = point(query);
  for (size_t t = 0; t < plan.targets.size() && fit.fit.valid(); ++t) {
    const Target& target = plan.targets[t];
    Estimate found;
    double half = 0;
    if (problem_.features[static_cast<size_t>(target.feature)].kind == ColumnKind::categorical) {
      found = across_cells(plan.points[static_cast<size_t>(target.plus)],
                           plan.points[static_cast<size_t>(target.minus)], exclude, half);
    } else {
      const auto& continuous = search_.continuous();
      const int64_t c = std::find(continuous.begin(), continuous.end(), target.feature) - continuous.begin();
      found = fit.fit.estimate(target.minus < 0
                                   ? fit.fit.slope_at(centre, c)
                                   : fit.fit.difference(point(plan.points[static_cast<size_t>(target.plus)]),
                                                        point(plan.points[static_cast<size_t>(target.minus)])));
      half = found.error * fit.scale * std::max(here.pair_factor, here.value_factor);
    }
    estimate[t] = found.value;
    lower[t] = found.value - half;
    upper[t] = found.value + half;
    if (problem_.options.classification && target.minus >= 0) {  // a difference of two probabilities
      for (double* bound : {&estimate[t], &lower[t], &upper[t]}) *bound = std::clamp(*bound, -1.0, 1.0);
    }
  }
  fill_features(problem_, plan, query, baselines, result, estimate, lower, upper);
  result.neighbours = fit.rows;
  Diagnostics& diagnostics = result.diagnostics;
  diagnostics.rows_used = static_cast<int64_t>(fit.rows.size());
  diagnostics.calibration_factor = here.value_factor;
  diagnostics.calibration_records = here.records;
  if (fit.fit.valid()) {
    result.prediction = fit.fit.estimate(fit.fit.value_at(centre)).value;
    if (problem_.options.classification) result.prediction = std::clamp(result.prediction, 0.0, 1.0);
    double left = 0, total = 0, mean = 0;
    const auto count = std::min<int64_t>(kScaleRows * 2, diagnostics.rows_used);
    for (int64_t i = 0; i < count; ++i)
      mean += problem_.outputs[static_cast<size_t>(fit.rows[static_cast<size_t>(i)])] / static_cast<double>(count);
    for (int64_t i = 0; i < count; ++i) {
      const double output = problem_.outputs[static_cast<size_t>(fit.rows[static_cast<size_t>(i)])];
      const double error = fit.fit.left_out_error(i);
      left += error * error;
      total += (output - mean) * (output - mean);
    }
    diagnostics.local_r2 = total > 1e-300 ? 1 - left / total : std::numeric_limits<double>::quiet_NaN();
    const Functional value = fit.fit.value_at(centre);
    const double sum = value.covariance.sum();
    diagnostics.effective_rows = sum > 0 ? sum * sum / value.covariance.squaredNorm() : 0;
    diagnostics.parameters = static_cast<int64_t>(value.trend.size());
    diagnostics.condition = 1 / here.kernel.nugget;
  }
  return result;
}

std::vector<double> KernelModel::predict(std::span<const double> query,
                                         const std::vector<std::vector<double>>& points) const {
  const Local fit = local(region(query), query, -1);
  std::vector<double> values;
  for (const auto& at : points)
    values.push_back(fit.fit.valid() ? fit.fit.estimate(fit.fit.value_at(point(at))).value : 0);
  return values;
}

double KernelModel::held_out_error(std::span<const int64_t> records) const {
  double sum = 0;
  for (const int64_t record : records) {
    const std::vector<double> query = problem_.row(record);
    const Local fit = local(region(query), query, record);
    const double error = problem_.outputs[static_cast<size_t>(record)] -
                         (fit.fit.valid() ? fit.fit.estimate(fit.fit.value_at(point(query))).value : 0);
    sum += error * error;
  }
  return sum / static_cast<double>(std::max<size_t>(1, records.size()));
}

}  // namespace tessera::explain
