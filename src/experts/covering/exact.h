// Exhaustive search for a covering by a given number of sets: finds one or proves that there is none.
//
// The incidence matrix is filled class by class. Of all matrices that differ only in the order of classes of equal
// degree and of sets, the lexicographically largest is looked for: degrees ascend, rows of equal degree descend, and a
// row takes the first of any sets that no earlier row tells apart (Flener and others, "Breaking row and column
// symmetries in matrix models", 2002).
#pragma once

#include <cstdint>
#include <functional>

#include "tessera/experts/covering.h"

namespace tessera::experts {

enum class ExactOutcome { found, none, stopped };

struct ExactResult {
  ExactOutcome outcome = ExactOutcome::stopped;
  Design design;  // when found
};

inline constexpr int kMostExactSets = 32;
inline constexpr int kMostExactClasses = 32;

// Needs 2 <= problem.size < problem.classes <= kMostExactClasses and 1 <= sets <= kMostExactSets. `stop` is asked every
// few thousand steps. Exponential time.
ExactResult search_exactly(const CoveringProblem& problem, int sets, const std::function<bool()>& stop);

}  // namespace tessera::experts
