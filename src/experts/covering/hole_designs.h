// Coverings with a hole: exact decompositions under a cyclic group of large order of all pairs but those inside a small
// hole (and a few more, when the bound leaves room), then the best covering of the hole itself.
//
//   19 classes in sets of four = 15 + a hole of four; 27 = 24 points that rotate + a hole of three
//
// With N rotating points and the hole in cycles of R - 1 points, {hole point, R - 1 rotating points of different
// residues} is the only kind of set that meets the hole, so nearly everything is a difference family with N / (R (R -
// 1)) base sets and is found in milliseconds where a search over all sets would not end.
//
// Sources: differences and infinite points, Bose (1939); incomplete designs with holes, Mills and Mullin (1992), and
// Beth, Jungnickel, Lenz, "Design Theory", chapter VII.
#pragma once

#include <cstdint>

#include "experts/covering/incumbent.h"

namespace tessera::experts {

// Tries holes and groups, those with fewest base sets first, for coverings that meet the lower bound. lambda = 1 only;
// ends after `seconds` or when the incumbent stops. `round` varies the random numbers and lengthens the attempts.
void search_holes(Incumbent& incumbent, double seconds, uint64_t round);

}  // namespace tessera::experts
