// Annealing under prescribed automorphisms: the sets are the images of a few base sets under a permutation group, so a
// search over 50 sets becomes one over 10 or fewer. Sets fixed by a subgroup have fewer images and fill the remainder.
//
// Source: the method of prescribed automorphism groups (Kramer and Mesner, 1976), with annealing in place of exact
// search over the orbit matrix.
#pragma once

#include <cstdint>

#include "experts/covering/incumbent.h"

namespace tessera::experts {

// Tries groups and numbers of base sets in turn, the promising ones longer (successive halving), until `seconds` are
// gone or the incumbent stops. Every end state is completed greedily and offered. `round` varies the random numbers.
void anneal_symmetric(Incumbent& incumbent, double seconds, uint64_t round);

}  // namespace tessera::experts
