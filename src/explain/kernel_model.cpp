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
constexpr double kExactNugget = 1e-3;  // below: outputs are taken for exact, not noisy
constexpr int64_t kNoiseBlocks = 9;
constexpr int64_t kNoiseRows = 150;  // each

std::vector<int64_t> row_numbers(const std::vector<Neighbour>& neighbours) {
  std::vector<int64_t> rows;
  for (const Neighbour& neighbour : neighbours) rows.push_back(neighbour.row);
  return rows;
}

Estimate value_of(const KernelMixture& mixture, const Eigen::VectorXd& point) {
  return mixture.estimate([&](const KernelFit& fit) { return fit.estimate(fit.value_at(point)); });
}

}  // namespace

struct KernelModel::Local {
  std::vector<int64_t> rows;
  KernelMixture mixture;
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

KernelBlock KernelModel::gather(std::span<const int64_t> rows) const {
  KernelBlock block;
  block.points.continuous = static_cast<int64_t>(search_.continuous().size());
  block.points.categorical = static_cast<int64_t>(search_.categorical().size());
  block.points.values.resize(block.points.continuous + block.points.categorical, static_cast<int64_t>(rows.size()));
  block.output.resize(static_cast<int64_t>(rows.size()));
  for (size_t i = 0; i < rows.size(); ++i) {
    block.points.values.col(static_cast<int64_t>(i)) = point(problem_.row(rows[i]));
    block.output[static_cast<int64_t>(i)] = problem_.outputs[static_cast<size_t>(rows[i])];
  }
  return block;
}

std::vector<double> KernelModel::unit_lengths() const {
  std::vector<double> unit;
  for (const int64_t j : search_.continuous()) unit.push_back(search_.deviation()[static_cast<size_t>(j)]);
  return unit;
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
  KernelMixture mixture(region.candidates, gather(rows));
  return {std::move(rows), std::move(mixture)};
}

const NoisePrior& KernelModel::noise_prior(Smoothness smoothness) const {
  const std::lock_guard lock(noise_mutex_);
  auto& prior = noise_[smoothness];
  if (prior) return *prior;
  Random random = Random(problem_.options.seed).split(uint64_t{1} << 62);
  Metric within = search_.standard_metric();
  within.penalty.assign(within.penalty.size(), std::numeric_limits<double>::infinity());
  std::vector<KernelBlock> blocks;
  std::set<int64_t> seen;
  for (int64_t tries = 0; tries < 10 * kNoiseBlocks && std::ssize(blocks) < kNoiseBlocks; ++tries) {
    const std::vector<double> centre = problem_.row(random.below(problem_.inputs.rows));
    if (!search_.categorical().empty() && !seen.insert(search_.cell_of(centre)).second) continue;
    const auto rows = row_numbers(search_.nearest(centre, within, kNoiseRows));
    if (std::ssize(rows) >= kCellRows) blocks.push_back(gather(rows));
  }
  prior = std::make_unique<NoisePrior>(blocks, unit_lengths(), smoothness, output_variance());
  return *prior;
}

double KernelModel::output_variance() const {
  double mean = 0, square = 0;
  const int64_t rows = problem_.inputs.rows, step = 1 + rows / 100000;
  int64_t count = 0;
  for (int64_t i = 0; i < rows; i += step) {
    const double output = problem_.outputs[static_cast<size_t>(i)], apart = output - mean;
    mean += apart / static_cast<double>(++count);
    square += apart * (output - mean);
  }
  return square / static_cast<double>(count);
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
  std::vector<KernelBlock> blocks;
  const int64_t count = rows <= kBlockRows + kBlockRows / 2 ? 1 : kBlocks;
  for (int64_t b = 0; b < count; ++b) {
    const int64_t centre = row_at(random.below(rows));
    blocks.push_back(
        gather(row_numbers(search_.nearest(problem_.row(centre), metric, count == 1 ? rows : kBlockRows))));
  }
  std::vector<Smoothness> kinds = {Smoothness::gaussian, Smoothness::matern52};
  if (problem_.options.importance == ImportanceKind::difference) kinds.push_back(Smoothness::exponential);
  Kernel& kernel = region->kernel;
  kernel = most_likely_kernel(blocks, unit_lengths(), kinds, !cell);
  // A kernel too short to predict any neighbour is noise by another name.
  kernel.exact_outputs = kernel.nugget < kExactNugget && left_out_ratio(blocks, kernel) < 1;
  region->candidates = {{kernel, 0, 0}};
  if (!kernel.exact_outputs && (cell || search_.categorical().empty())) {
    region->candidates = cell_candidates(noise_prior(kernel.smoothness), blocks, unit_lengths(), kernel);
  }
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
    const int64_t index = at - fit.rows.begin();
    if (!fit.mixture.valid() || index >= KernelMixture::kScaleRows || fit.rows.size() < 4) continue;
    const KernelMixture::Scores scores = fit.mixture.scores(index);
    values.push_back(scores.value);
    pairs.push_back(scores.pair);
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
    if (!a.mixture.valid() || !b.mixture.valid()) return {0, 0};
    const Estimate up = value_of(a.mixture, point(plus)), down = value_of(b.mixture, point(minus));
    half = std::hypot(up.error * a.mixture.scale() * first.value_factor,
                      down.error * b.mixture.scale() * second.value_factor);
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
  const KernelMixture fit(shared.candidates, gather(rows));
  if (!fit.valid()) return {0, 0};
  const Estimate estimate =
      fit.estimate([&](const KernelFit& one) { return one.estimate(one.difference(point(plus), point(minus))); });
  half = estimate.error * fit.scale() * shared.pair_factor;
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
  for (size_t t = 0; t < plan.targets.size() && fit.mixture.valid(); ++t) {
    const Target& target = plan.targets[t];
    Estimate found;
    double half = 0;
    if (problem_.features[static_cast<size_t>(target.feature)].kind == ColumnKind::categorical) {
      found = across_cells(plan.points[static_cast<size_t>(target.plus)],
                           plan.points[static_cast<size_t>(target.minus)], exclude, half);
    } else {
      const auto& continuous = search_.continuous();
      const int64_t c = std::find(continuous.begin(), continuous.end(), target.feature) - continuous.begin();
      found = fit.mixture.estimate([&](const KernelFit& one) {
        return one.estimate(target.minus < 0 ? one.slope_at(centre, c)
                                             : one.difference(point(plan.points[static_cast<size_t>(target.plus)]),
                                                              point(plan.points[static_cast<size_t>(target.minus)])));
      });
      half = found.error * fit.mixture.scale() * std::max(here.pair_factor, here.value_factor);
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
  if (fit.mixture.valid()) {
    result.prediction = value_of(fit.mixture, centre).value;
    if (problem_.options.classification) result.prediction = std::clamp(result.prediction, 0.0, 1.0);
    double left = 0, total = 0, mean = 0;
    const auto count = std::min<int64_t>(KernelMixture::kScaleRows * 2, diagnostics.rows_used);
    for (int64_t i = 0; i < count; ++i)
      mean += problem_.outputs[static_cast<size_t>(fit.rows[static_cast<size_t>(i)])] / static_cast<double>(count);
    for (int64_t i = 0; i < count; ++i) {
      const double output = problem_.outputs[static_cast<size_t>(fit.rows[static_cast<size_t>(i)])];
      const double error = fit.mixture.estimate([&](const KernelFit& one) { return one.left_out(i); }).value;
      left += error * error;
      total += (output - mean) * (output - mean);
    }
    diagnostics.local_r2 = total > 1e-300 ? 1 - left / total : std::numeric_limits<double>::quiet_NaN();
    const Functional value = fit.mixture.likeliest().value_at(centre);
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
  for (const auto& at : points) values.push_back(fit.mixture.valid() ? value_of(fit.mixture, point(at)).value : 0);
  return values;
}

double KernelModel::held_out_error(std::span<const int64_t> records) const {
  double sum = 0;
  for (const int64_t record : records) {
    const std::vector<double> query = problem_.row(record);
    const Local fit = local(region(query), query, record);
    const double error = problem_.outputs[static_cast<size_t>(record)] -
                         (fit.mixture.valid() ? value_of(fit.mixture, point(query)).value : 0);
    sum += error * error;
  }
  return sum / static_cast<double>(std::max<size_t>(1, records.size()));
}

}  // namespace tessera::explain
