// Importance by a mimic forest with a conformal layer. The forest is of the kind, extremely randomised or best splits,
// that predicts held-out rows better. The score of a record is the error of a held-out predicted
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

  // row: of the query in the table, or -1.
  Explanation explain(std::span<const double> query, int64_t row) const;
  double predict(std::span<const double> point) const { return forest_.predict(point); }
  // Mean squared held-out error of the values of these records.
  double held_out_error(std::span<const int64_t> records) const;

 private:
  struct Spread {
    double mean = 0;
    double deviation = 0;  // over trees
    int64_t trees = 0;
  };
  struct Calibration {
    double factor = 2;  // multiplies spread + floor
    double floor = 0;   // output units
    int64_t records = 0;
  };
  // From scores whose record was in the forest's sight, as a query's own row is, or held out.
  Calibration calibrate(bool record_known) const;
  // Difference of predictions over the trees that have not seen rows a and b (-1: no row).
  Spread difference(std::span<const double> plus, std::span<const double> minus, int64_t a, int64_t b) const;

  const Problem& problem_;
  const RowSearch& search_;
  Forest forest_;
  Calibration known_;    // for queries that are rows whose output is used
  Calibration unknown_;  // for the others
};

}  // namespace tessera::explain
