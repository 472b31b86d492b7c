// Choosing among experts that exist: the fewest, or the cheapest, whose sets hold every pair of classes.
//
//   SelectProblem problem{.candidates = design, .costs = {}};          // every candidate costs 1
//   Selection chosen = select_experts(problem, {.seconds = 10});
//   chosen.experts;          // indices into candidates.sets, ascending
//   chosen.lower_bound;      // no choice is cheaper
//   chosen.uncovered;        // pairs that no candidate holds: nothing can tell these classes apart for certain
//
// The problem is set cover with one row per pair of classes (Ahn, Ozgur, Pilanci, 2020). Method: reductions, greedy
// with reverse deletion (Chvatal, 1979), local search with row weights (after Gao, Weise, Li, "An efficient local
// search heuristic with row weighting for the unicost set covering problem", 2015), linear relaxation with degree cuts,
// depth-first tree search on the pair with fewest holders (whole costs), and branch and cut by COIN-OR CBC.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tessera/experts/design.h"

namespace tessera::experts {

struct SelectProblem {
  Design candidates;
  std::vector<double> costs;  // one per candidate, > 0; empty: every candidate costs 1
};

enum class Effort {
  heuristic,  // greedy and local search; the bound comes from the linear relaxation
  exact,      // then branch and cut for the time that is left
};

struct SelectOptions {
  double seconds = 60;  // in all: 20 % at most for the local search, the rest for the bound and branch and cut
  Effort effort = Effort::exact;
  uint64_t seed = 0;
  // Called from time to time with the best cost and the seconds gone; false stops the local search.
  std::function<bool(double cost, double seconds)> progress = {};
};

struct Selection {
  std::vector<int> experts;  // indices of the chosen candidates, ascending
  double cost = 0;
  double lp_bound = 0;     // value of the linear relaxation; 0 when it was not solved in time
  double lower_bound = 0;  // best proved bound: the relaxation with cuts (rounded up for whole costs) or branch and cut
  std::string bound_source;
  bool optimal = false;                        // cost meets the bound
  std::string method;                          // what found the choice
  std::vector<std::pair<int, int>> uncovered;  // every pair in no candidate, ascending
  int64_t forced = 0;                          // candidates that alone hold some pair
  int64_t dominated = 0;  // candidates left out because another holds all of theirs at no more cost
};

// The choice covers every pair that some candidate holds. Throws Error(invalid_argument) for a design that is not
// well-formed, no candidates, or costs of the wrong number or not positive and finite. Stops early on Ctrl-C with the
// best choice so far.
Selection select_experts(const SelectProblem& problem, const SelectOptions& options = {});

}  // namespace tessera::experts
