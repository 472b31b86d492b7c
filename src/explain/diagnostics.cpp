#include "explain/diagnostics.h"

#include <fmt/format.h>

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>

#include "explain/normal.h"

namespace tessera::explain {
namespace {

constexpr double kFarRatio = 4;           // distance to the data over the typical one near it
constexpr double kBeyond = 0.2501;        // of a column's deviation, that a step may go beyond the rows used
constexpr double kPoorFit = 0.3;          // held-out R2
constexpr double kSaturated = 0.5;        // share of outputs at exactly 0 or 1
constexpr double kIllConditioned = 1e10;  // of the published basis in raw units; 1e8 is usual at degree 4
constexpr double kDependent = 100;        // of correlations: two features at 0.9998
constexpr double kFewEffectiveRows = 10;
constexpr size_t kNearby = 4;  // rows whose own distances say what is typical
constexpr size_t kNamed = 3;   // features named in one sentence

using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
};

void warn(Explanation& explanation, Warning flag, std::string text) {
  explanation.warnings.push_back({flag, std::move(text)});
}

// The first few of many, largest importance first, so that a page of 57 features still reads as one sentence.
std::string some_of(const std::vector<std::pair<double, std::string>>& found) {
  std::vector<std::pair<double, std::string>> sorted = found;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string text;
  for (size_t k = 0; k < std::min(kNamed, sorted.size()); ++k) {
    const bool last = k + 1 == sorted.size();
    text += (k == 0 ? "" : last ? " and " : ", ") + sorted[k].second;
  }
  return sorted.size() > kNamed ? text + fmt::format(" and {} more", sorted.size() - kNamed) : text;
}

// Features whose slope or step is read beyond the rows used.
void warn_of_steps(const Problem& problem, const RowSearch& search, std::span<const double> query,
                   Explanation& explanation) {
  std::vector<std::pair<double, std::string>> beyond;
  for (size_t j = 0; j < problem.features.size(); ++j) {
    if (problem.features[j].kind != ColumnKind::continuous) continue;
    Range range;
    for (const int64_t i : explanation.neighbours) {
      range.low = std::min(range.low, problem.inputs.at(i, static_cast<int64_t>(j)));
      range.high = std::max(range.high, problem.inputs.at(i, static_cast<int64_t>(j)));
    }
    const double half = problem.options.importance == ImportanceKind::difference ? problem.delta[j] / 2 : 0;
    // Half of every step at the edge of the data lies beyond it; a default step then goes a quarter of a deviation.
    const double room = half > 0 ? kBeyond * search.deviation()[j] : 0;
    if (query[j] - half >= range.low - room && query[j] + half <= range.high + room) continue;
    beyond.emplace_back(
        std::abs(explanation.features[j].importance),
        half > 0 ? fmt::format("{} from {:.4g} to {:.4g} (the rows used have {:.4g} to {:.4g})",
                               problem.features[j].name, query[j] - half, query[j] + half, range.low, range.high)
                 : fmt::format("{} at {:.4g} (the rows used have {:.4g} to {:.4g})", problem.features[j].name, query[j],
                               range.low, range.high));
  }
  if (!beyond.empty()) warn(explanation, Warning::extrapolation, "Read beyond the rows used: " + some_of(beyond) + ".");
}

void warn_of_extrapolation(const Problem& problem, const RowSearch& search, std::span<const double> query, int64_t row,
                           Explanation& explanation) {
  // The nearest other row used, against how far the rows near the query are from their own nearest one.
  const Metric metric = search.standard_metric();
  const auto& continuous = search.continuous();
  std::vector<int64_t> rows;
  for (const int64_t i : explanation.neighbours) {
    if (i != row) rows.push_back(i);
  }
  if (rows.empty()) return;
  RowMatrix values(static_cast<int64_t>(rows.size()), static_cast<int64_t>(continuous.size()));
  Eigen::RowVectorXd centre(static_cast<int64_t>(continuous.size()));
  for (size_t c = 0; c < continuous.size(); ++c) {
    const auto column = static_cast<int64_t>(c);
    const double scale = std::sqrt(metric.weight[c]);
    centre[column] = scale * query[static_cast<size_t>(continuous[c])];
    for (size_t i = 0; i < rows.size(); ++i)
      values(static_cast<int64_t>(i), column) = scale * problem.inputs.at(rows[i], continuous[c]);
  }
  Eigen::VectorXd distance = (values.rowwise() - centre).rowwise().norm();
  std::vector<int64_t> order(rows.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  const size_t near = std::min(kNearby, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(near), order.end(), [&](int64_t a, int64_t b) {
    return distance[a] != distance[b] ? distance[a] < distance[b]
                                      : rows[static_cast<size_t>(a)] < rows[static_cast<size_t>(b)];
  });
  const double nearest = distance[order[0]];
  double typical = 0;
  for (size_t k = 0; k < near && rows.size() > 1; ++k) {
    distance = (values.rowwise() - values.row(order[k])).rowwise().norm();
    distance[order[k]] = std::numeric_limits<double>::infinity();
    typical += distance.minCoeff() / static_cast<double>(near);
  }
  explanation.diagnostics.distance = typical > 0 ? nearest / typical : (nearest > 0 ? kFarRatio * 2 : 0);
  // A gap that one row in a hundred has is not far, however close the rows on its other side are.
  if (explanation.diagnostics.distance > kFarRatio && nearest > search.usual_gap()) {
    warn(explanation, Warning::extrapolation,
         fmt::format("The query lies {:.1f} times as far from the data as the records near it lie from each other.",
                     explanation.diagnostics.distance));
  }
  warn_of_steps(problem, search, query, explanation);
}

// Published: the fit sees both categories or extrapolates. Others compare cells of rows that share all categories.
void warn_of_categories(const Problem& problem, const RowSearch& search, std::span<const double> query,
                        Explanation& explanation) {
  for (size_t j = 0; j < problem.features.size(); ++j) {
    if (problem.features[j].kind != ColumnKind::categorical) continue;
    if (explanation.estimator != Estimator::published) {
      std::vector<double> other(query.begin(), query.end());
      other[j] = explanation.features[j].baseline;
      if (search.cell_of(other) >= 0) continue;
      warn(explanation, Warning::one_category,
           fmt::format("No record has {} = {} with its other categories as here, so its importance rests on rows that "
                       "differ in them.",
                       problem.features[j].name, problem.features[j].levels[static_cast<size_t>(other[j])]));
      continue;
    }
    bool own = false, other = false;
    for (const int64_t i : explanation.neighbours) {
      const double level = problem.inputs.at(i, static_cast<int64_t>(j));
      own |= level == explanation.features[j].value;
      other |= level == explanation.features[j].baseline;
    }
    if (own && other) continue;
    const auto level = static_cast<size_t>(own ? explanation.features[j].baseline : explanation.features[j].value);
    warn(explanation, Warning::one_category,
         fmt::format("No row used has {} = {}, so its importance is extrapolated.", problem.features[j].name,
                     problem.features[j].levels[level]));
  }
}

void warn_of_outputs(const Problem& problem, Explanation& explanation) {
  Range range;
  double saturated = 0;
  for (const int64_t i : explanation.neighbours) {
    const double output = problem.outputs[static_cast<size_t>(i)];
    range.low = std::min(range.low, output);
    range.high = std::max(range.high, output);
    saturated += output == 0 || output == 1 ? 1 : 0;
  }
  const auto count = static_cast<double>(explanation.neighbours.size());
  if (range.low == range.high) {
    warn(explanation, Warning::flat_output,
         fmt::format("All {:.0f} rows used have the output {:.6g}; nothing drives it here.", count, range.low));
  } else if (problem.options.classification && saturated > kSaturated * count) {
    warn(explanation, Warning::saturated_output,
         fmt::format(
             "{:.0f} of the {:.0f} rows used have an output of exactly 0 or 1, so small influences cannot be seen.",
             saturated, count));
  }
}

// How far the continuous features are from being told apart among the rows used: the condition number of their
// correlations, infinite when one of them does not vary.
void warn_of_dependence(const Problem& problem, const RowSearch& search, Explanation& explanation) {
  const auto rows = static_cast<int64_t>(explanation.neighbours.size());
  const auto features = static_cast<int64_t>(search.continuous().size());
  explanation.diagnostics.condition = 1;
  if (features == 0 || rows < 2) return;
  Eigen::MatrixXd values(rows, features);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < features; ++c)
      values(i, c) = problem.inputs.at(explanation.neighbours[static_cast<size_t>(i)],
                                       search.continuous()[static_cast<size_t>(c)]);
  }
  std::vector<int64_t> moving;
  std::vector<std::pair<double, std::string>> still;
  for (int64_t c = 0; c < features; ++c) {
    const int64_t j = search.continuous()[static_cast<size_t>(c)];
    values.col(c).array() -= values.col(c).mean();
    const double size = values.col(c).norm();
    if (size > 1e-12 * search.deviation()[static_cast<size_t>(j)] * std::sqrt(static_cast<double>(rows))) {
      values.col(c) /= size;
      moving.push_back(c);
      continue;
    }
    explanation.diagnostics.condition = std::numeric_limits<double>::infinity();
    still.emplace_back(std::abs(explanation.features[static_cast<size_t>(j)].importance),
                       problem.features[static_cast<size_t>(j)].name);
  }
  if (!still.empty()) {
    warn(explanation, Warning::ill_conditioned,
         "Without any variation among the rows used, which therefore say nothing about it: " + some_of(still) + ".");
  }
  if (moving.size() < 2) return;
  Eigen::MatrixXd chosen(rows, static_cast<int64_t>(moving.size()));
  for (size_t k = 0; k < moving.size(); ++k) chosen.col(static_cast<int64_t>(k)) = values.col(moving[k]);
  const Eigen::MatrixXd correlation = chosen.transpose() * chosen;
  const Eigen::VectorXd power =
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(correlation, Eigen::EigenvaluesOnly).eigenvalues();
  const double condition = std::sqrt(power[power.size() - 1] / std::max(power[0], 1e-30));
  explanation.diagnostics.condition = std::max(explanation.diagnostics.condition, condition);
  if (condition <= kDependent) return;
  Eigen::MatrixXd off = correlation.cwiseAbs();
  off.diagonal().setZero();
  int64_t a = 0, b = 0;
  const double closest = off.maxCoeff(&a, &b);
  const auto name = [&](int64_t k) {
    return problem
        .features[static_cast<size_t>(search.continuous()[static_cast<size_t>(moving[static_cast<size_t>(k)])])]
        .name;
  };
  warn(explanation, Warning::ill_conditioned,
       closest > 0.999 ? fmt::format("{} and {} move together among the rows used (correlation {:.5f}), so their "
                                     "influences cannot be told apart.",
                                     name(std::min(a, b)), name(std::max(a, b)), correlation(a, b))
                       : fmt::format("The continuous features are nearly dependent among the rows used (condition "
                                     "{:.2g}), so their influences cannot be told apart.",
                                     condition));
}

}  // namespace

void diagnose(const Problem& problem, const RowSearch& search, std::span<const double> query, int64_t row,
              Explanation& explanation) {
  const Diagnostics& diagnostics = explanation.diagnostics;
  warn_of_extrapolation(problem, search, query, row, explanation);
  warn_of_categories(problem, search, query, explanation);
  warn_of_outputs(problem, explanation);
  const auto used = static_cast<int64_t>(explanation.neighbours.size());
  if (used < std::min(problem.options.neighbours, problem.inputs.rows) ||
      problem.inputs.rows < problem.options.neighbours) {
    warn(explanation, Warning::few_rows,
         fmt::format("Only {} rows could be used for a neighbourhood of {}.", used, problem.options.neighbours));
  }
  if (diagnostics.parameters >= used && used > 0) {
    warn(explanation, Warning::few_rows,
         fmt::format("{} parameters are fitted to {} rows, so nothing is left to check the fit with.",
                     diagnostics.parameters, used));
  }
  const int64_t needed = records_for(problem.options.level);
  if (explanation.estimator != Estimator::published && diagnostics.calibration_records < needed) {
    warn(explanation, Warning::few_rows,
         fmt::format("{} records could be left out to calibrate the intervals and a level of {:g} needs {}, so {}.",
                     diagnostics.calibration_records, problem.options.level, needed,
                     explanation.estimator == Estimator::forest
                         ? "they span all that the outputs allow"
                         : "they are wider by a normal tail that is not checked"));
  }
  if (diagnostics.local_r2 < kPoorFit) {
    warn(explanation, Warning::poor_fit,
         fmt::format("Left-out outputs near the query are predicted poorly (R2 {:.2f}).", diagnostics.local_r2));
  }
  if (explanation.estimator != Estimator::published) {
    warn_of_dependence(problem, search, explanation);
  } else if (diagnostics.condition > kIllConditioned) {
    warn(explanation, Warning::ill_conditioned,
         fmt::format("The local design is close to singular (condition {:.1g}); importances may be arbitrary.",
                     diagnostics.condition));
  }
  if (diagnostics.effective_rows < std::min(kFewEffectiveRows, static_cast<double>(used))) {
    warn(explanation, Warning::few_effective_rows,
         fmt::format("The weights leave only {:.1f} effective rows.", diagnostics.effective_rows));
  }
}

}  // namespace tessera::explain
