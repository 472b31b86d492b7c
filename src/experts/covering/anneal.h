// Simulated annealing over a fixed number of sets: a move replaces one class of one set by another; the cost is the sum
// over all pairs of what they lack of lambda.
//
// Per class two bit rows are kept, the partners with which it is covered less than lambda times (`open`) and at most
// lambda times (`tight`), so that a proposal costs two AND-and-count operations per 64 classes and only accepted moves
// touch counters: about 1e8 proposals per second and core up to 64 classes.
//
// Source: Nurmela and Ostergard, "Upper bounds for covering designs by simulated annealing" (1993).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "tessera/experts/covering.h"

namespace tessera::experts {

struct AnnealOptions {
  int64_t moves = 1'000'000;  // proposals in one cooling
  double hot = 0.9;           // first temperature; one uncovered pair costs 1
  double cold = 0.18;         // last temperature, reached geometrically
  uint64_t seed = 0;
  // Asked every few thousand moves; true ends the attempt.
  std::function<bool()> stop = {};
};

struct AnnealResult {
  Design design;      // of the lowest cost seen at the end
  int64_t cost = 0;   // pairs it lacks; 0: a covering
  int64_t moves = 0;  // proposals made
  int64_t accepted = 0;
};

// `start`: sets to begin with, padded with random classes to full size; when empty, `sets` random ones. At most 1,024
// classes and 65,535 sets. problem.size must be below problem.classes.
AnnealResult anneal(const CoveringProblem& problem, int64_t sets, const AnnealOptions& options,
                    const Design* start = nullptr);

inline constexpr int kMostAnnealedClasses = 1024;

}  // namespace tessera::experts
