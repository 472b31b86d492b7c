#include "explain/published.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "explain/normal.h"
#include "explain/polynomial_basis.h"
#include "explain/published_fit.h"
#include "tessera/base/error.h"

namespace tessera::explain {
namespace {

// The targets of one column of functionals.
void read_targets(const Problem& problem, const Plan& plan, const double* functional, int64_t stride, double* out) {
  const auto points = static_cast<int64_t>(plan.points.size());
  const bool classify = problem.options.classification;
  const auto at = [&](int64_t index) { return functional[index * stride]; };
  int64_t slope = points;
  for (size_t t = 0; t < plan.targets.size(); ++t) {
    const Target& target = plan.targets[t];
    if (target.minus < 0) {
      const double probability = classify ? from_log_odds(at(0)) : 0;
      out[t] = at(slope++) * (classify ? probability * (1 - probability) : 1.0);
    } else {
      out[t] = classify ? from_log_odds(at(target.plus)) - from_log_odds(at(target.minus))
                        : at(target.plus) - at(target.minus);
    }
  }
}

// Units of the basis: raw, or for a ridge fit centred on the query and in deviations of the columns, so that the
// penalty does not depend on origin and units.
struct Units {
  std::vector<double> centre, scale;  // per feature; categorical ones stay as they are
  Units(const Problem& problem, const RowSearch& search, std::span<const double> query, int64_t rows,
        int64_t parameters)
      : centre(query.size(), 0), scale(query.size(), 1) {
    if (!ridge(problem.options, rows, parameters)) return;
    for (const int64_t j : search.continuous()) {
      const auto feature = static_cast<size_t>(j);
      centre[feature] = query[feature];
      scale[feature] = search.deviation()[feature];
    }
  }
  static bool ridge(const Options& options, int64_t rows, int64_t parameters) {
    return options.under_determined == UnderDetermined::ridge && parameters >= rows - 1;
  }
  std::vector<double> operator()(std::span<const double> row) const {
    std::vector<double> result(row.begin(), row.end());
    for (size_t j = 0; j < result.size(); ++j) result[j] = (result[j] - centre[j]) / scale[j];
    return result;
  }
};

PublishedProblem local_problem(const Problem& problem, const std::vector<Neighbour>& rows, const PolynomialBasis& basis,
                               const Units& units) {
  PublishedProblem local;
  const auto count = static_cast<int64_t>(rows.size());
  RowMatrix design(count, basis.size());
  local.output.resize(count);
  local.distance.resize(count);
  for (int64_t i = 0; i < count; ++i) {
    const Neighbour& neighbour = rows[static_cast<size_t>(i)];
    basis.evaluate(units(problem.row(neighbour.row)), design.row(i).data());
    const double output = problem.outputs[static_cast<size_t>(neighbour.row)];
    local.output[i] = problem.options.classification ? to_log_odds(output, problem.options.clip) : output;
    local.distance[i] = std::sqrt(neighbour.distance2);
  }
  local.design = design;
  local.weights = problem.options.weights;
  local.under_determined = problem.options.under_determined;
  return local;
}

Eigen::MatrixXd make_functionals(const Plan& plan, const PolynomialBasis& basis, const Units& units) {
  int64_t slopes = 0;
  for (const Target& target : plan.targets) slopes += target.minus < 0 ? 1 : 0;
  const auto points = static_cast<int64_t>(plan.points.size());
  RowMatrix functionals(points + slopes, basis.size());
  for (int64_t i = 0; i < points; ++i)
    basis.evaluate(units(plan.points[static_cast<size_t>(i)]), functionals.row(i).data());
  int64_t next = points;
  for (const Target& target : plan.targets) {
    if (target.minus >= 0) continue;
    basis.derivative(units(plan.points[0]), target.feature, functionals.row(next).data());
    functionals.row(next++) /= units.scale[static_cast<size_t>(target.feature)];
  }
  return functionals;
}

struct Intervals {
  std::vector<double> lower, upper;
};

// The order statistics of the reference: zero-based int(B/2 - level B/2) and int(B/2 + level B/2).
std::pair<int64_t, int64_t> published_ranks(int64_t replicates, double level) {
  const double half = static_cast<double>(replicates) / 2;
  const auto lower = static_cast<int64_t>(half - level * half);
  const auto upper = std::min(static_cast<int64_t>(half + level * half), replicates - 1);
  return {lower, upper};
}

double order_statistic(std::vector<double>& values, int64_t rank) {
  std::nth_element(values.begin(), values.begin() + rank, values.end());
  return values[static_cast<size_t>(rank)];
}

// Derivative of every target with respect to every functional, by central differences (exact enough: targets are
// smooth).
Eigen::MatrixXd target_jacobian(const Problem& problem, const Plan& plan, const Eigen::VectorXd& functional) {
  const auto targets = static_cast<int64_t>(plan.targets.size());
  Eigen::MatrixXd jacobian(targets, functional.size());
  Eigen::VectorXd point = functional;
  std::vector<double> up(plan.targets.size()), down(plan.targets.size());
  for (int64_t f = 0; f < functional.size(); ++f) {
    const double step = 1e-5 * std::max(1.0, std::abs(functional[f]));
    point[f] = functional[f] + step;
    read_targets(problem, plan, point.data(), 1, up.data());
    point[f] = functional[f] - step;
    read_targets(problem, plan, point.data(), 1, down.data());
    point[f] = functional[f];
    for (int64_t t = 0; t < targets; ++t)
      jacobian(t, f) = (up[static_cast<size_t>(t)] - down[static_cast<size_t>(t)]) / (2 * step);
  }
  return jacobian;
}

Intervals symmetric(const std::vector<double>& estimate, const Eigen::VectorXd& half) {
  Intervals result;
  for (size_t t = 0; t < estimate.size(); ++t) {
    result.lower.push_back(estimate[t] - half[static_cast<int64_t>(t)]);
    result.upper.push_back(estimate[t] + half[static_cast<int64_t>(t)]);
  }
  return result;
}

Intervals analytic_intervals(const Problem& problem, const Plan& plan, const PublishedFit& fit,
                             const std::vector<double>& estimate) {
  const Eigen::MatrixXd jacobian = target_jacobian(problem, plan, fit.estimate());
  const double level = problem.options.level;
  if (problem.options.interval == IntervalKind::classical) {
    const Eigen::MatrixXd covariance = jacobian * fit.covariance() * jacobian.transpose();
    return symmetric(estimate, normal_quantile((1 + level) / 2) * covariance.diagonal().cwiseMax(0).cwiseSqrt());
  }
  const Eigen::MatrixXd change = jacobian * fit.delete_one();
  const int64_t freedom = std::max<int64_t>(1, fit.effective_rows() - fit.rank());
  return symmetric(estimate, student_quantile((1 + level) / 2, static_cast<double>(freedom)) * change.rowwise().norm());
}

// BCa (Efron 1987): acceleration from the delete-one changes.
std::pair<double, double> bca_levels(const std::vector<double>& draws, double estimate, double acceleration,
                                     double level) {
  double below = 0;
  for (const double draw : draws) below += draw < estimate ? 1 : (draw == estimate ? 0.5 : 0);
  const double count = static_cast<double>(draws.size());
  const double bias = normal_quantile(std::clamp(below / count, 0.5 / count, 1 - 0.5 / count));
  const auto adjusted = [&](double tail) {
    const double z = bias + normal_quantile(tail);
    return normal_probability(bias + z / (1 - acceleration * z));
  };
  return {adjusted((1 - level) / 2), adjusted((1 + level) / 2)};
}

Intervals bootstrap_intervals(const Problem& problem, const Plan& plan, const PublishedFit& fit,
                              const std::vector<double>& estimate, uint64_t stream, int64_t rows) {
  const Options& options = problem.options;
  const auto kept = static_cast<int64_t>(options.ratio * static_cast<double>(rows));
  if (kept < 1)
    throw Error(ErrorCode::invalid_argument, "ratio: {} of {} neighbours leaves no row", options.ratio, rows);
  std::vector<double> scale;
  const bool studentise = options.interval == IntervalKind::studentised;
  const RowMatrix draws = fit.replicate(kept, options.replicates, stream, studentise ? &scale : nullptr);
  const size_t targets = plan.targets.size();
  std::vector<std::vector<double>> values(targets, std::vector<double>(static_cast<size_t>(options.replicates)));
  std::vector<double> one(targets);
  for (int64_t b = 0; b < options.replicates; ++b) {
    read_targets(problem, plan, draws.data() + b, draws.cols(), one.data());
    for (size_t t = 0; t < targets; ++t) values[t][static_cast<size_t>(b)] = one[t];
  }
  Eigen::MatrixXd change;
  if (options.interval == IntervalKind::bca) change = target_jacobian(problem, plan, fit.estimate()) * fit.delete_one();
  const auto [lower_rank, upper_rank] = published_ranks(options.replicates, options.level);
  Intervals result;
  for (size_t t = 0; t < targets; ++t) {
    auto [low, high] = std::pair{lower_rank, upper_rank};
    if (options.interval == IntervalKind::bca) {
      const Eigen::ArrayXd d = change.row(static_cast<int64_t>(t)).array();
      const double squares = d.square().sum();
      const double acceleration = squares > 0 ? d.cube().sum() / (6 * std::pow(squares, 1.5)) : 0;
      const auto [a, b] = bca_levels(values[t], estimate[t], acceleration, options.level);
      low = std::clamp(static_cast<int64_t>(a * static_cast<double>(options.replicates)), int64_t{0},
                       options.replicates - 1);
      high = std::clamp(static_cast<int64_t>(b * static_cast<double>(options.replicates)), low, options.replicates - 1);
    }
    if (studentise) {
      // Where the fit is exact both scales are rounding noise, and their ratio means nothing.
      const double least = std::max(1e-3 * fit.residual_scale(), 1e-300);
      for (size_t b = 0; b < values[t].size(); ++b)
        values[t][b] = (values[t][b] - estimate[t]) / std::max(scale[b], least);
    }
    const double lower = order_statistic(values[t], low), upper = order_statistic(values[t], high);
    if (studentise) {
      result.lower.push_back(estimate[t] - upper * fit.residual_scale());
      result.upper.push_back(estimate[t] - lower * fit.residual_scale());
    } else if (options.interval == IntervalKind::basic) {
      result.lower.push_back(2 * estimate[t] - upper);
      result.upper.push_back(2 * estimate[t] - lower);
    } else {
      result.lower.push_back(lower);
      result.upper.push_back(upper);
    }
  }
  return result;
}

std::vector<Neighbour> sorted_by_distance(std::vector<Neighbour> rows) {
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Neighbour& a, const Neighbour& b) { return a.distance2 < b.distance2; });
  return rows;
}

PolynomialBasis make_basis(const Problem& problem, std::span<const int64_t> baselines) {
  return PolynomialBasis(problem.features, problem.options.degree, baselines);
}

}  // namespace

double to_log_odds(double probability, double clip) {
  if (clip > 0) {
    probability = std::clamp(probability, clip, 1 - clip);
  } else if (probability == 0) {
    probability = 1e-8;
  } else if (probability == 1) {
    probability = 1 - 1e-8;
  }
  return std::log(probability / (1 - probability));
}

double from_log_odds(double value) {
  if (value > 50) return 1;
  if (value < -50) return 0;
  return 1 / (1 + std::exp(-value));
}

std::vector<Neighbour> balanced_neighbours(const Problem& problem, const RowSearch& search,
                                           std::span<const double> query, std::span<const int64_t> baselines,
                                           int64_t exclude) {
  const Metric metric = search.standard_metric();
  const int64_t wanted = std::min(problem.options.neighbours, problem.inputs.rows - (exclude >= 0 ? 1 : 0));
  const auto features = static_cast<int64_t>(search.categorical().size());
  const int64_t quota = features > 0 ? problem.options.neighbours / (2 * features) : 0;
  const std::vector<Neighbour> all =
      search.nearest(query, metric, std::min((features > 0 ? 4 : 1) * wanted, problem.inputs.rows), exclude);
  std::vector<Neighbour> chosen;
  std::vector<int64_t> taken;
  const auto take = [&](const Neighbour& neighbour) {
    if (static_cast<int64_t>(chosen.size()) >= wanted) return;
    const auto at = std::lower_bound(taken.begin(), taken.end(), neighbour.row);
    if (at != taken.end() && *at == neighbour.row) return;
    taken.insert(at, neighbour.row);
    chosen.push_back(neighbour);
  };
  for (size_t c = 0; c < search.categorical().size() && quota > 0; ++c) {
    const auto j = static_cast<size_t>(search.categorical()[c]);
    const auto side = [&](double level) {
      std::vector<Neighbour> found;
      for (const Neighbour& neighbour : all) {
        if (static_cast<int64_t>(found.size()) == quota) return found;
        if (problem.inputs.at(neighbour.row, search.categorical()[c]) == level) found.push_back(neighbour);
      }
      if (static_cast<int64_t>(all.size()) == problem.inputs.rows) return found;
      Metric only = metric;  // not enough nearby: search that level alone
      only.penalty[c] = std::numeric_limits<double>::infinity();
      std::vector<double> moved(query.begin(), query.end());
      moved[j] = level;
      return search.nearest(moved, only, quota, exclude);
    };
    const std::vector<Neighbour> own = side(query[j]), other = side(static_cast<double>(baselines[j]));
    for (size_t i = 0; i < static_cast<size_t>(quota); ++i) {
      if (i < own.size()) take(own[i]);
      if (i < other.size()) take(other[i]);
    }
  }
  for (const Neighbour& neighbour : all) take(neighbour);
  return chosen;
}

Explanation explain_published(const Problem& problem, const RowSearch& search, std::span<const double> query,
                              int64_t exclude, uint64_t stream) {
  const std::vector<int64_t> baselines = problem.baselines_for(query);
  const std::vector<Neighbour> rows =
      sorted_by_distance(balanced_neighbours(problem, search, query, baselines, exclude));
  const PolynomialBasis basis = make_basis(problem, baselines);
  const Plan plan = make_plan(problem, query, baselines);
  const Units units(problem, search, query, static_cast<int64_t>(rows.size()), basis.size());
  PublishedProblem local = local_problem(problem, rows, basis, units);
  local.functionals = make_functionals(plan, basis, units);
  const PublishedFit fit(std::move(local));
  std::vector<double> estimate(plan.targets.size());
  read_targets(problem, plan, fit.estimate().data(), 1, estimate.data());
  const IntervalKind kind = problem.options.interval;
  const bool analytic = kind == IntervalKind::classical || kind == IntervalKind::delete_one;
  const Intervals intervals =
      analytic ? analytic_intervals(problem, plan, fit, estimate)
               : bootstrap_intervals(problem, plan, fit, estimate, stream, static_cast<int64_t>(rows.size()));
  Explanation result;
  result.estimator = Estimator::published;
  result.prediction = problem.options.classification ? from_log_odds(fit.estimate()[0]) : fit.estimate()[0];
  fill_features(problem, plan, query, baselines, result, estimate, intervals.lower, intervals.upper);
  result.diagnostics.rows_used = static_cast<int64_t>(rows.size());
  result.diagnostics.parameters = fit.ridge() != nullptr ? fit.rank() : basis.size();
  result.diagnostics.effective_rows = fit.kish_rows();
  result.diagnostics.condition = fit.condition();
  result.diagnostics.local_r2 = fit.leave_one_out_r2();
  for (const Neighbour& neighbour : rows) result.neighbours.push_back(neighbour.row);
  return result;
}

std::vector<double> predict_published(const Problem& problem, const RowSearch& search, std::span<const double> query,
                                      const std::vector<std::vector<double>>& points) {
  const std::vector<int64_t> baselines = problem.baselines_for(query);
  const std::vector<Neighbour> rows = sorted_by_distance(balanced_neighbours(problem, search, query, baselines, -1));
  const PolynomialBasis basis = make_basis(problem, baselines);
  const Units units(problem, search, query, static_cast<int64_t>(rows.size()), basis.size());
  PublishedProblem local = local_problem(problem, rows, basis, units);
  RowMatrix functionals(static_cast<int64_t>(points.size()), basis.size());
  for (size_t i = 0; i < points.size(); ++i)
    basis.evaluate(units(points[i]), functionals.row(static_cast<int64_t>(i)).data());
  local.functionals = functionals;
  const PublishedFit fit(std::move(local));
  std::vector<double> values(fit.estimate().data(), fit.estimate().data() + fit.estimate().size());
  if (problem.options.classification) std::transform(values.begin(), values.end(), values.begin(), from_log_odds);
  return values;
}

}  // namespace tessera::explain
