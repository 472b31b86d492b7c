// Sets of three: a covering with Schoenheim's number of sets for every number of classes.
//
// Sources: Bose (1939) for 6 t + 3 classes; Skolem (1958) for 6 t + 1; the pairwise balanced design with one set of
// five for 6 t + 5 (Lindner and Rodger, "Design Theory", 1.4); hill climbing (Stinson, 1985) on the complete graph with
// the excess edges that an even number of classes needs (Fort and Hedlund, 1958).
#pragma once

#include <cstdint>

#include "tessera/experts/design.h"

namespace tessera::experts {

// classes >= 3. O(classes^2) sets and time; even numbers of classes are found by a short search that depends on the
// seed.
Design triple_covering(int classes, uint64_t seed);

}  // namespace tessera::experts
