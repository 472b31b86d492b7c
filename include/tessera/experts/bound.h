// Lower bounds on the number of sets: with R classes a set, no design that holds every pair lambda times has fewer.
//
//   Bound bound = lower_bound(15, 5, 1);   // {13, "Bose-type (Bryant et al.)"}
#pragma once

#include <cstdint>
#include <string>

namespace tessera::experts {

struct Bound {
  int64_t sets = 0;
  std::string source;  // which bound it is
};

// The best of the bounds in src/experts/bound.cpp (Schoenheim, Hanani, Bose-type, few sets, sets of four), O(1). Needs
// classes >= 1, size >= 2 (or classes = 1), lambda >= 1.
Bound lower_bound(int classes, int size, int lambda);

}  // namespace tessera::experts
