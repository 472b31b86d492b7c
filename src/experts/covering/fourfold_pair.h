// Sets of four for K = 7 or 10 mod 12 classes. The bound leaves three pairs too many, and every class must have a
// multiple of three of them, so one pair {a, b} lies in four sets and every other pair in just one: a and b share the
// sets {a, b, x, x'} with eight classes, all others are cut into triples by a and once more by b.
//
// Such a design is looked for among those that a rotation of order six maps to themselves: its cube exchanges x and x'
// in each of the four sets, and a and b or neither, and its square leaves one of the four sets alone and turns the
// other three. The smallest (22 classes) has the exchange alone. Orbits of sets that hold every open orbit of pairs
// once are an exact cover.
#pragma once

#include <cstdint>
#include <vector>

#include "experts/covering/exact_cover.h"
#include "experts/covering/incumbent.h"
#include "experts/covering/orbit_options.h"
#include "tessera/base/random.h"

namespace tessera::experts {

// A group and the orbits of sets of four that may be chosen under it.
struct FourfoldPlan {
  PermutationGroup group;
  std::vector<std::vector<int>> given;  // the sets with the fourfold pair
  OrbitCover orbits;
};

// `turn` is 2 or 6; classes = 7 or 10 mod 12, at least 22.
FourfoldPlan fourfold_plan(int classes, int turn, bool exchange);

class FourfoldSearch {
 public:
  explicit FourfoldSearch(Incumbent& incumbent) : incumbent_(incumbent), random_(incumbent.seed()) {}
  // Goes on where the last call stopped; nothing when the problem is another one or too large.
  void run(double seconds);

 private:
  struct Attempt {
    FourfoldPlan plan;
    ExactCover cover;
    bool done = false;  // there is none
  };
  void prepare();

  Incumbent& incumbent_;
  Random random_;
  std::vector<Attempt> attempts_;
  int64_t tried_ = 0;
  bool prepared_ = false;
};

}  // namespace tessera::experts
