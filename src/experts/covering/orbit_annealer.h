// Annealing over base sets: a plan says how many orbits of sets of which kind under a permutation group; the annealer
// chooses the base sets so that few pairs stay uncovered.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "experts/covering/permutation_group.h"
#include "tessera/experts/covering.h"

namespace tessera::experts {

// Base sets of one kind: `count` of them, each the union of `orbits` orbits of full length and `points` fixed points of
// a subgroup. The trivial subgroup has points as orbits.
struct Kind {
  int count = 0;
  int images = 1;  // of each base set under the group
  int orbits = 0;  // of full length in each base set
  int points = 0;  // fixed points of the subgroup in each
  std::vector<std::vector<int>> long_units, short_units;
};

struct Plan {
  const PermutationGroup* group = nullptr;
  std::vector<Kind> kinds;
  int64_t sets = 0;
  double merit = 1e9;  // of the best attempt, less is better
  int64_t bases() const;
  std::string name() const;
};

// Ways to make between `low` and `high` sets: as many full orbits as fit or one less, the rest from one or two kinds of
// short ones.
void add_plans(const PermutationGroup& group, const CoveringProblem& problem, int64_t low, int64_t high,
               std::vector<Plan>& plans);

struct OrbitOptions {
  int64_t moves = 50'000;  // proposals in one cooling
  double hot = 0.9;         // first temperature; uncovering the usual class of pairs costs 1
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
