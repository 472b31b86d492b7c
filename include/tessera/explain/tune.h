// Parameters by cross-validation on held-out records.
//
//   const Tuning tuning = tune(table, outputs, features, options);
//   Explainer explainer(table, outputs, features, tuning.options);   // tuning.reason says why
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tessera/explain/explain.h"

namespace tessera::explain {

struct Candidate {
  Options options;
  double error = 0;  // root mean squared error of held-out outputs
};

struct Tuning {
  Options options;
  std::string reason;  // one sentence with the errors compared
  std::vector<Candidate> candidates;
};

// Tries neighbours 50, 100, 150, 250 (published: also degrees 1 to 3) and, for Estimator::automatic, kernel and forest;
// every candidate predicts the same 100 random records, each left out. Keeps the seed, level and importance of
// `options`.
Tuning tune(TableView inputs, ColumnView outputs, const std::vector<Feature>& features, const Options& options);

}  // namespace tessera::explain
