// The published explanation: category-balanced neighbours, polynomial fit, bootstrap intervals.
#pragma once

#include <span>
#include <vector>

#include "explain/baselines.h"
#include "explain/row_search.h"

namespace tessera::explain {

// The reference's choice of rows: per categorical feature the nearest rows with the query's level and with the
// baseline, up to a quota of neighbours / (2 x categorical features) each, then the nearest of the rest. In selection
// order.
std::vector<Neighbour> balanced_neighbours(const Problem& problem, const RowSearch& search,
                                           std::span<const double> query, std::span<const int64_t> baselines,
                                           int64_t exclude);

// exclude: row that must not take part, or -1.
Explanation explain_published(const Problem& problem, const RowSearch& search, std::span<const double> query,
                              int64_t exclude, uint64_t stream);

// The fit along one feature.
std::vector<double> predict_published(const Problem& problem, const RowSearch& search, std::span<const double> query,
                                      const std::vector<std::vector<double>>& points);

// Log-odds of a probability under the options' clipping, and back.
double to_log_odds(double probability, double clip);
double from_log_odds(double value);

}  // namespace tessera::explain
