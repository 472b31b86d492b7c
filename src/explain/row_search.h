// Nearest rows in a mixed metric: sum_j weight_j (x_j - q_j)^2 over continuous features plus penalty_j per category
// that differs. Rows are grouped by cell (the rows that share all categories), so that a search skips cells whose
// penalty alone exceeds what it has found; large cells of few dimensions have a k-d tree, others are scanned in blocks
// (TableIndex).
//
// Distances are compared in float32 and then ranked again in float64, ties by row number, so the answer is exact and
// does not depend on the path taken.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "explain/index_content.h"
#include "tessera/explain/explain.h"

namespace tessera::explain {

struct Neighbour {
  double distance2 = 0;  // squared
  int64_t row = 0;
};

// weight: per continuous feature, in units of 1 / feature unit squared; penalty: per categorical feature; infinity
// keeps the search within the query's cell for that feature.
struct Metric {
  std::vector<double> weight;
  std::vector<double> penalty;
};

class RowSearch {
 public:
  RowSearch(TableView table, std::shared_ptr<const TableIndex> index);

  // The `count` nearest rows, nearest first; fewer when fewer have a finite distance. exclude: a row number or -1.
  std::vector<Neighbour> nearest(std::span<const double> query, const Metric& metric, int64_t count,
                                 int64_t exclude = -1) const;

  // All rows of the query's cell, in the index's order (empty: no row has these categories).
  std::span<const uint32_t> cell_rows(std::span<const double> query) const;
  int64_t cells() const { return static_cast<int64_t>(content_.cells.size()); }
  // Index of the query's cell, or -1.
  int64_t cell_of(std::span<const double> query) const;

  // Mean and population standard deviation per feature (0, 1 for categorical ones).
  const std::vector<double>& mean() const { return mean_; }
  const std::vector<double>& deviation() const { return deviation_; }
  const std::vector<int64_t>& continuous() const { return content_.continuous; }
  const std::vector<int64_t>& categorical() const { return content_.categorical; }
  // Smallest and largest value of a continuous feature; rows per level of a categorical one.
  std::pair<double, double> range(int64_t feature) const;
  const std::vector<int64_t>& level_count(int64_t feature) const;

  // Distance to the nearest other row of the same cell, in deviations, that 99 of 100 rows do not exceed; from a sample
  // of rows on first use. Infinite when more than one of 100 rows is alone in its cell.
  double usual_gap() const;

  // Standardised by the whole table: weight 1 / variance, no penalty for categories.
  Metric standard_metric() const;

 private:
  class Collector;
  struct Centre;

  void scan(int64_t first, int64_t count, const Centre& centre, float penalty, Collector& found) const;
  void visit(int64_t node, float bound, Centre& centre, float penalty, Collector& found) const;
  double exact_distance(std::span<const double> query, const Metric& metric, int64_t row) const;

  TableView table_;
  std::shared_ptr<const TableIndex> index_;
  const TableIndex::Content& content_;
  std::vector<double> mean_;
  std::vector<double> deviation_;
  mutable std::once_flag gap_once_;
  mutable double gap_ = 0;
};

}  // namespace tessera::explain
