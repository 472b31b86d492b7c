// Importance by a mimic forest with a conformal layer. The forest is of the kind, extremely randomised or best splits,
// that predicts held-out rows better. Half widths are a factor times the spread of a difference over trees, plus a
// share of the typical error. The factor is the conformal quantile of held-out predicted differences between records
// and their nearest neighbours, transferred to the targets: a record's neighbour is farther than a step or one swapped
// category. How much smaller the scores of targets are than those of neighbours is known exactly where the mimic is the
// truth, so a second forest is trained on the mimic's outputs and both are scored there (a bootstrap of the
// calibration; Beran 1987).
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
    std::vector<double> factor;  // per feature: multiplies spread + floor
    double floor = 0;            // output units
    int64_t records = 0;
    bool reached = false;  // enough of them for the level; otherwise no factor is known
  };
  // A forest and the outputs that it was trained on.
  struct World {
    const Forest& forest;
    const ColumnView& outputs;
  };
  struct Scores {
    std::vector<double> ratio;  // error over spread + floor
    double floor = 0;
  };
  // known: scores whose record was in the forest's sight, as a query's own row is; otherwise held out.
  Calibration calibrate(const World& logged, const World& mimic, bool known) const;
  Scores neighbour_scores(const World& world, bool known) const;
  // Per feature, of its targets at random records, where the logged forest is the truth of `world`.
  std::vector<std::vector<double>> target_scores(const World& world, double floor, bool known) const;
  // Difference of predictions over the trees that have not seen rows a and b (-1: no row).
  static Spread difference(const Forest& forest, std::span<const double> plus, std::span<const double> minus, int64_t a,
                           int64_t b);
  Problem stepped() const;

  // Largest difference of two outputs: all that can be said where no factor is known.
  double whole_range() const;

  const Problem& problem_;
  const RowSearch& search_;
  ForestOptions kind_;
  Forest forest_;
  Calibration known_;    // for queries that are rows whose output is used
  Calibration unknown_;  // for the others
};

}  // namespace tessera::explain
