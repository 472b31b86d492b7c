// Where an answer cannot be trusted, in plain sentences.
#pragma once

#include <span>

#include "explain/baselines.h"
#include "explain/row_search.h"

namespace tessera::explain {

// Completes `explanation.diagnostics` and fills its warnings.
void diagnose(const Problem& problem, const RowSearch& search, std::span<const double> query, int64_t row,
              Explanation& explanation);

}  // namespace tessera::explain
