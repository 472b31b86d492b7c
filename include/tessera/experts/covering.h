// Finding coverings: few sets of at most R classes such that every two of K classes share lambda sets.
//
//   Covering covering = find_covering({.classes = 31, .size = 5}, {.seconds = 10});
//   covering.design.sets.size();          // sets found
//   covering.bound.sets;                  // no design has fewer
//
// In this order, until the lower bound or options.stop_at is met: pairs of half-sized groups, optimal coverings by
// triples (R = 3), projective planes with weighted or left-out points, greedy sets, then in turns until the time is up:
// difference families around a hole, exact covers of orbits, plain annealing, annealing under symmetries
// (docs/experts-design.md). Above 5,000 classes nothing is searched.
//
// Every answer has passed count_pairs(), which shares no code with the constructions.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tessera/experts/bound.h"
#include "tessera/experts/design.h"

namespace tessera::experts {

struct CoveringProblem {
  int classes = 0;  // K >= 1
  int size = 0;     // R: most classes of one set, 2 <= R (R = 1 only for K = 1); R >= K gives the one full set
  int lambda = 1;   // sets that every pair must share, >= 1; 2 e + 1 survives e in-set mistakes
};

struct CoveringOptions {
  double seconds = 10;  // time for the search; at the lower bound it ends at once
  uint64_t seed = 0;    // of everything random
  int64_t stop_at = 0;  // stop as soon as a design has this many sets or fewer; 0: only at the lower bound
  // Called from time to time with the sets of the best design and the seconds gone; false stops the search.
  std::function<bool(int64_t sets, double seconds, const std::string& method)> progress = {};
};

struct Covering {
  Design design;
  Bound bound;         // the best lower bound known to this program
  std::string method;  // how the design was found, for example "plane PG(2,5) with weighted points"
  double seconds = 0;  // wall time until it was found
  bool optimal() const { return static_cast<int64_t>(design.sets.size()) <= bound.sets; }
};

// Throws Error(invalid_argument) for values out of range. Stops early, with the best design so far, when the user asks
// to (Ctrl-C). Same seed and enough time for every stage: same design; the clock decides when annealing ends.
Covering find_covering(const CoveringProblem& problem, const CoveringOptions& options = {});

}  // namespace tessera::experts
