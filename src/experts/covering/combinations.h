// Coverings combined from smaller ones, the dynamic programming of Gordon, Kuperberg and Patashnik (1995) for pairs
// with transversal designs for all cross pairs at once:
//
//   groups      v = n_1 + ... + n_g + w: a transversal design whose points stand for several classes or none covers
//               the pairs of different groups; each group with the w further classes is a smaller problem with a hole
//               of w, the last one without. 94 = 4 * 21 + 10 in sets of four: 441 sets, three (31, hole 10), one 31
//   weights     every point of a transversal design stands for R - 1 classes, and each of its sets for the lines of an
//               affine plane that avoid a point, or of a smaller transversal design (Wilson's construction)
//   blow-up     every class of a covering by sets of floor(R / t) stands for t classes
//   deletion    a covering of a few more classes
//   one more    a covering of one class less, and sets that hold the new class
//
// The parts are found by the program itself (parts.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "experts/covering/incumbent.h"
#include "experts/covering/parts.h"

namespace tessera::experts {

struct Combination {
  int64_t sets = 0;                         // at the bounds of its parts, or as these were found
  std::function<Design(int effort)> build;  // classes of a set in any order; no sets: a part is missing
  std::string name;
};

// Those of the problem (lambda = 1, sets of 3 or more) with at most `most` sets, fewest first. `parts` must outlive
// them.
std::vector<Combination> combinations(const CoveringProblem& problem, Parts& parts, int64_t most);

// Tries combinations that would beat the best so far, in turns: each call goes on where the last one stopped, and after
// the last combination the parts are searched for longer.
class CombinationSearch {
 public:
  CombinationSearch(Incumbent& incumbent, Parts& parts) : incumbent_(incumbent), parts_(parts) {}
  // Ends after `seconds`, when the incumbent stops, or after the last combination.
  void run(double seconds);

 private:
  Incumbent& incumbent_;
  Parts& parts_;
  std::vector<Combination> left_;
  size_t next_ = 0;
  int effort_ = 0;
};

}  // namespace tessera::experts
