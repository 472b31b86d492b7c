// Annealing over base sets: a plan says how many orbits of sets of which kind under a permutation group; the annealer
// chooses the base sets so that few pairs stay uncovered.
#pragma once

#include <cstdint>
#include <functional>

#include "experts/covering/orbit_plans.h"
#include "tessera/experts/covering.h"

namespace tessera::experts {

struct OrbitOptions {
  int64_t moves = 50'000;  // proposals in one cooling
  double hot = 0.9;        // first temperature; uncovering the usual class of pairs costs 1
  uint64_t seed = 0;
  std::function<bool(int, int)> exempt = {};  // pairs that need not be covered; the group must map them to such pairs
  std::function<bool()> stop = {};            // asked every few thousand moves; true ends the attempt
};

struct OrbitResult {
  Design design;     // all images of the base sets
  int64_t cost = 0;  // times that pairs lack of lambda; 0: everything but exempt pairs is covered
};

// Cools once. `plan` must have a group on problem.classes points and base sets of at most problem.size.
OrbitResult anneal_orbits(const CoveringProblem& problem, const Plan& plan, const OrbitOptions& options);

}  // namespace tessera::experts
