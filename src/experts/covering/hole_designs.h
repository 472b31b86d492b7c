// Coverings with a hole: exact decompositions under a rotation of all pairs but those inside a small hole or inside
// groups (rotation.h), which are then filled by smaller coverings.
//
//   19 classes in sets of four = 15 + a hole of four; 27 = 24 points that rotate + a hole of three
//   70 = 48 that rotate in four groups + a hole of 18, and four more classes that join every group and the hole
#pragma once

#include <cstdint>

#include "experts/covering/incumbent.h"
#include "experts/covering/parts.h"

namespace tessera::experts {

// Tries holes and groups, those with fewest base sets first. Of three rounds the first tries only what meets the
// lower bound, the second what is one percent above it, the third all that has fewer sets than the best so far. lambda
// = 1 only; ends after `seconds` or when the incumbent stops. `round` varies the random numbers too.
void search_holes(Incumbent& incumbent, Parts& parts, double seconds, uint64_t round);

struct HoleOptions {
  int64_t sets = 0;
  double seconds = 1;
  uint64_t seed = 0;
};

// Sets of `size` that hold every pair but those among the last `hole` (>= 2) classes, at most options.sets of them;
// without sets when none was found.
Design decompose_around_hole(int classes, int hole, int size, const HoleOptions& options);

}  // namespace tessera::experts
