// Vertex-greedy coverings: sets grown class by class, each time the class that covers most pairs still open.
//
// Source of the idea: greedy set cover; the exact greedy set is a densest-subgraph problem, so the set is grown vertex
// by vertex and the logarithmic guarantee does not carry over.
#pragma once

#include "tessera/experts/covering.h"

namespace tessera::experts {

// One design with ties broken at random. O(sets x K x R) time, K^2 counters of two bytes.
Design greedy_covering(const CoveringProblem& problem, uint64_t seed);

}  // namespace tessera::experts
