// Designs that one rotation generates: `cycles` runs of `turn` points rotate together; the points of a hole rotate in
// shorter cycles or stand still. A few base sets then stand for all, and the sets that meet the hole have a known form:
// a point of the hole and R - 1 rotating points.
//
//   Rotation{.cycles = 1, .turn = 48, .hole = {12, 6}, .groups = 4}    48 points in four groups of 12, a hole of 18
//
// Left open are the pairs inside the hole and, with groups, the pairs inside a group; everything else is covered.
//
// Sources: differences and infinite points, Bose (1939); incomplete designs with holes, Mills and Mullin (1992), and
// Beth, Jungnickel, Lenz, "Design Theory", chapter VII.
#pragma once

#include <cstdint>
#include <vector>

#include "experts/covering/orbit_plans.h"

namespace tessera::experts {

struct Rotation {
  int cycles = 1, turn = 1;        // the rotating points: (cycle c, x) is point c * turn + x
  std::vector<int> hole;           // lengths of the hole's cycles, divisors of `turn`; 1: a fixed point
  int groups = 1;                  // above 1: groups of equal size, x modulo `groups` (a divisor of turn)
  bool cycles_are_groups = false;  // or one group per cycle; `groups` equals `cycles` then
  int centre = 0;                  // fixed points that are covered with everything; they come before the hole
  bool free_form = false;          // base sets of any form, not only the known ones; always so with a centre

  int moving() const { return cycles * turn; }
  int hole_points() const;
  int points() const { return moving() + centre + hole_points(); }
  bool left_open(int a, int b) const;
  int64_t pairs() const;  // that are covered
  PermutationGroup group() const;
};

// Ways to make `sets` sets or a few less of `size` points from base sets of the known forms; `group` is
// rotation.group(). Empty when differences show that there are none. In free form base sets are just that.
std::vector<Plan> rotation_plans(const Rotation& rotation, const PermutationGroup& group, int size, int64_t sets);

// Multisets of cycle lengths that make a hole of `points` points under a rotation.
std::vector<std::vector<int>> hole_cycles(int points, int cycles, int turn, int size);

// Sets that a covering of all pairs but those among `hole` of the classes needs at least.
int64_t hole_bound(int classes, int hole, int size);

}  // namespace tessera::experts
