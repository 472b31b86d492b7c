#include "explain/baselines.h"

#include <limits>

namespace tessera::explain {

std::vector<int64_t> Problem::baselines_for(std::span<const double> query) const {
  std::vector<int64_t> chosen(features.size(), -1);
  for (size_t j = 0; j < features.size(); ++j) {
    if (features[j].kind != ColumnKind::categorical) continue;
    chosen[j] = query[j] == static_cast<double>(baseline[j]) ? alternative[j] : baseline[j];
  }
  return chosen;
}

Plan make_plan(const Problem& problem, std::span<const double> query, std::span<const int64_t> baselines) {
  Plan plan;
  plan.points.emplace_back(query.begin(), query.end());
  const auto point_with = [&](size_t j, double value) {
    plan.points.emplace_back(query.begin(), query.end());
    plan.points.back()[j] = value;
    return static_cast<int64_t>(plan.points.size()) - 1;
  };
  for (size_t j = 0; j < problem.features.size(); ++j) {
    const Feature& feature = problem.features[j];
    const auto number = static_cast<int64_t>(j);
    if (feature.kind == ColumnKind::continuous) {
      if (problem.options.importance == ImportanceKind::gradient) {
        plan.targets.push_back({number, -1, 0, -1});
      } else {
        const int64_t plus = point_with(j, query[j] + problem.delta[j] / 2);
        plan.targets.push_back({number, -1, plus, point_with(j, query[j] - problem.delta[j] / 2)});
      }
      continue;
    }
    const int64_t minus = point_with(j, static_cast<double>(baselines[j]));
    for (int64_t level = 0; level < static_cast<int64_t>(feature.levels.size()); ++level) {
      if (level == baselines[j]) continue;
      const bool own = static_cast<double>(level) == query[j];
      plan.targets.push_back({number, level, own ? 0 : point_with(j, static_cast<double>(level)), minus});
    }
  }
  return plan;
}

void fill_features(const Problem& problem, const Plan& plan, std::span<const double> query,
                   std::span<const int64_t> baselines, Explanation& explanation, std::span<const double> estimate,
                   std::span<const double> lower, std::span<const double> upper) {
  explanation.features.assign(problem.features.size(), {});
  for (size_t j = 0; j < problem.features.size(); ++j) {
    explanation.features[j].value = query[j];
    explanation.features[j].baseline =
        baselines[j] >= 0 ? static_cast<double>(baselines[j]) : std::numeric_limits<double>::quiet_NaN();
    if (problem.features[j].kind == ColumnKind::continuous && problem.options.importance == ImportanceKind::difference)
      explanation.features[j].step = problem.delta[j];
  }
  for (size_t t = 0; t < plan.targets.size(); ++t) {
    const Target& target = plan.targets[t];
    FeatureImportance& feature = explanation.features[static_cast<size_t>(target.feature)];
    if (target.level >= 0) feature.contrasts.push_back({target.level, estimate[t], lower[t], upper[t]});
    if (target.level < 0 || static_cast<double>(target.level) == feature.value) {
      feature.importance = estimate[t];
      feature.lower = lower[t];
      feature.upper = upper[t];
    }
  }
}

}  // namespace tessera::explain
