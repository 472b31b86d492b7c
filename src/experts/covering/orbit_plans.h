// Plans of a search under prescribed automorphisms: how many orbits of sets of which kind a permutation group is to
// have. Sets fixed by a subgroup have fewer images and fill what full orbits leave over.
//
//   28 classes in sets of five, a rotation of six cycles of four that fixes four classes: 8 base sets with 4 images, 5
//   with one (a cycle and a fixed class), one with 2 (two halves of cycles and a fixed class), and the fixed classes:
//   40
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experts/covering/permutation_group.h"
#include "tessera/experts/covering.h"

namespace tessera::experts {

// Base sets of one kind: `count` of them, each the union of `longer` orbits of one length and `shorter` orbits of
// another under a subgroup. The trivial subgroup has points as orbits.
struct Kind {
  int count = 0;
  int images = 1;   // of each base set under the group
  int longer = 0;   // of the orbits in long_units
  int shorter = 0;  // of those in short_units
  std::vector<std::vector<int>> long_units, short_units;
};

struct Plan {
  const PermutationGroup* group = nullptr;
  std::vector<Kind> kinds;
  int64_t sets = 0;
  int64_t bases() const;
  std::string name() const;
};

struct PlanRange {
  int64_t low = 0, high = 0;  // sets of a plan
  // Narrow: short base sets are full orbits and fixed points of a subgroup and replace one orbit of sets at most. Wide:
  // they are orbits of any two lengths, replace up to two, and beside them there may be the set of all points that some
  // element fixes; only plans that `counts_fit`.
  bool wide = false;
};

// As many full orbits as fit or some less, the rest from one or two kinds of short ones.
void add_plans(const PermutationGroup& group, const CoveringProblem& problem, const PlanRange& range,
               std::vector<Plan>& plans);

// Whether sets as planned have places enough for the degrees of all points and for the pairs of points that the group
// moves regularly, with each other and with the other points. What does not fit leaves pairs open.
bool counts_fit(const Plan& plan, const CoveringProblem& problem);

}  // namespace tessera::experts
