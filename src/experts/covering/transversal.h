// Transversal designs: groups of m points, and m^2 sets with one point of each group such that any two points of
// different groups share just one set. As many groups as orthogonal squares are known from fields and their products.
//
// Source: MacNeish, "Euler squares" (Annals of Math. 23, 1922).
#pragma once

#include "tessera/experts/design.h"

namespace tessera::experts {

// The most groups for which transversal_design() has a construction: the least prime power of m plus one; 3 at least,
// and any number for m = 1 (kMaxClasses).
int most_groups(int m);

// Point x of group g is g * m + x. groups in 2..most_groups(m).
Design transversal_design(int groups, int m);

}  // namespace tessera::experts
