// Importance by a mimic forest with a conformal layer: the score of a record is the error of a held-out predicted
// difference to its nearest neighbour, over a scale made of the spread of that difference over trees and a share of the
// typical error.
#pragma once

#include <span>
#include <vector>

#include "explain/baselines.h"
#include "explain/forest.h"
#include "explain/row_search.h"

namespace tessera::explain {

class ForestModel {
 public:
  ForestModel(const Problem& problem, const RowSearch& search);

  Explanation explain(std::span<const double> query, int64_t exclude) const;
  double predict(std::span<const double> point) const { return forest_.predict(point); }
  // Mean squared held-out error of the values of these records.
  double held_out_error(std::span<const int64_t> records) const;

 private:
  struct Spread {
    double mean = 0;
    double deviation = 0;  // over trees
    int64_t trees = 0;
  };
  // Difference of predictions over the trees that have not seen rows a and b (-1: no row).
  Spread difference(std::span<const double> plus, std::span<const double> minus, int64_t a, int64_t b) const;

  const Problem& problem_;
  const RowSearch& search_;
  Forest forest_;
  double floor_ = 0;  // of the scale, output units
  double factor_ = 2;
  int64_t records_ = 0;
};

}  // namespace tessera::explain
