// What each feature is compared with, and the points at which a local fit is read.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tessera/explain/explain.h"

namespace tessera::explain {

// The table with everything that all estimators share, checked.
struct Problem {
  TableView inputs;
  ColumnView outputs;
  std::vector<Feature> features;
  Options options;
  std::vector<int64_t> baseline;     // categorical: the user's, or the most frequent level
  std::vector<int64_t> alternative;  // categorical: used when the query has the baseline level
  std::vector<double> delta;         // continuous: full step of a difference

  std::vector<double> row(int64_t index) const {
    std::vector<double> values(features.size());
    for (size_t j = 0; j < values.size(); ++j) values[j] = inputs.at(index, static_cast<int64_t>(j));
    return values;
  }
  // Baseline per feature for one query: the alternative where the query has the baseline level. -1 for continuous ones.
  std::vector<int64_t> baselines_for(std::span<const double> query) const;
};

// One number to report: plus minus minus (indices of points), or a derivative at the query.
struct Target {
  int64_t feature = 0;
  int64_t level = -1;  // categorical contrast; -1: the feature's own importance is this target
  int64_t plus = 0;
  int64_t minus = -1;  // -1: derivative at point 0
};

// The query is point 0.
struct Plan {
  std::vector<std::vector<double>> points;
  std::vector<Target> targets;
};

Plan make_plan(const Problem& problem, std::span<const double> query, std::span<const int64_t> baselines);

// Targets into features; each of size targets.
void fill_features(const Problem& problem, const Plan& plan, std::span<const double> query,
                   std::span<const int64_t> baselines, Explanation& explanation, std::span<const double> estimate,
                   std::span<const double> lower, std::span<const double> upper);

}  // namespace tessera::explain
