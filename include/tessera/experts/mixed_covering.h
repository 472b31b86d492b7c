// Designs of experts of several kinds: small cheap ones and large dear ones, each perhaps in limited number.
//
//   MixedProblem problem{.classes = 26, .kinds = {{.size = 12, .cost = 3, .most = 4}, {.size = 6, .cost = 1}}};
//   MixedCovering covering = find_mixed_covering(problem, {.seconds = 10});
//   covering.cost;           // of all sets
//   covering.lower_bound;    // no design of these kinds is cheaper
//
// An expert costs what its kind costs and, with class costs, also what each class of its set costs (gathering and
// labelling that class's data, say). lambda sets per pair survive (lambda - 1) / 2 in-set mistakes.
//
// Method: coverings by one kind where its number is not limited, greedy sets by newly covered pairs per cost, then
// large neighbourhood search: some sets are taken out and replaced greedily, and every set is given to the cheapest
// kind that holds the pairs it alone covers. The bound is Schoenheim's with prices: a class that shares sets of sizes
// R_j with all others lambda times has sum (R_j - 1) >= lambda (K - 1), and carries cost_j / R_j of each; the cheapest
// whole numbers of kinds that achieve this are a knapsack problem per class. Beside it the counting bound over all
// pairs, a fractional knapsack, which knows how many experts of a kind there may be.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/experts/covering.h"

namespace tessera::experts {

struct ExpertKind {
  int size = 0;      // most classes of such an expert, 2..kMaxClasses
  double cost = 1;   // of one expert, > 0; 0 too when every class has a cost > 0
  int64_t most = 0;  // experts of this kind at most; 0: any number
};

struct MixedProblem {
  int classes = 0;                       // K, 2..1000
  std::vector<ExpertKind> kinds;         // 1 to 100
  int lambda = 1;                        // sets that every pair must share, 1..100
  std::vector<double> class_costs = {};  // >= 0, one per class, paid once per set that holds it; empty: none
};

struct MixedCovering {
  Design design;
  std::vector<int> kind;  // of each set, an index into kinds
  double cost = 0;
  double lower_bound = 0;  // rounded up when all costs are whole
  std::string method;      // "one kind", "greedy" or "large neighbourhood search"
};

// Throws Error(invalid_argument) for values out of range, and when the limited kinds were not found to suffice. Uses
// seconds, seed and progress of the options; `sets` of progress is the number of sets of the cheapest design. Ctrl-C
// returns the best so far. Every answer is counted by count_pairs().
MixedCovering find_mixed_covering(const MixedProblem& problem, const CoveringOptions& options = {});

}  // namespace tessera::experts
