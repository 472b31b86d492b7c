// Finite planes and what follows from them: every two points lie on exactly one line.
//
//   projective_plane(5)                     31 points, 31 lines of 6
//   affine_plane(5)                         25 points, 30 lines of 5
//   weighted_plane(problem, seed)           a plane whose points stand for several classes or none
//
// Source: blow-up and induced coverings, Gordon, Kuperberg and Patashnik, "New constructions for covering designs"
// (J. Combin. Designs 3, 1995).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/experts/covering.h"

namespace tessera::experts {

// q a prime power. Points of the affine part come first: (x, y) at x q + y, then the q + 1 points at infinity.
Design projective_plane(int q);
Design affine_plane(int q);

struct NamedDesign {
  Design design;
  std::string name;
};

// Every point of `base` stands for weights[i] >= 0 classes (numbered in the order of the points); sets with fewer than
// two classes vanish. The sets may be larger than wanted.
Design blow_up(const Design& base, const std::vector<int>& weights);

// Coverings of the problem (lambda = 1) from planes of suitable orders: weights as large as lines allow, surplus
// classes taken away line by line so that whole lines vanish. Several candidates, the smallest first. O(q^3) each.
std::vector<NamedDesign> plane_coverings(const CoveringProblem& problem, uint64_t seed);

}  // namespace tessera::experts
