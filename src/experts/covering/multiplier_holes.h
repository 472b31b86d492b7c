// Coverings with a hole under a rotation and a multiplier: cycles of n points rotate together, x -> m x of order R - 1
// takes every cycle to the next one of R - 1 cycles, maps cycles of the hole to themselves and turns the other points
// of the hole, which the rotation leaves alone, in cycles of R - 1. The orbits that hold everything but the hole once
// are an exact cover of few orbits; the hole is filled by a smaller covering.
//
//   79 classes in sets of four = 3 * 19 that rotate + a hole of 19 + 3, m = 7: nine base sets for 475
#pragma once

#include <memory>
#include <vector>

#include "experts/covering/exact_cover.h"
#include "experts/covering/incumbent.h"
#include "experts/covering/orbit_options.h"
#include "experts/covering/parts.h"
#include "tessera/base/random.h"

namespace tessera::experts {

struct MultiplierLayout {
  int size = 4;     // R
  int turn = 0;     // n
  int cycles = 0;   // that rotate, a multiple of R - 1
  int in_hole = 0;  // further cycles, in the hole
  int fixed = 0;    // points of the hole that the rotation leaves alone
  int multiplier = 1;

  int hole_points() const { return in_hole * turn + fixed; }
  int points() const { return cycles * turn + hole_points(); }
  PermutationGroup group() const;
};

// Those of `classes` points whose degrees and number of pairs allow it, fewest base sets first.
std::vector<MultiplierLayout> multiplier_layouts(int classes, int size);

class MultiplierSearch {
 public:
  MultiplierSearch(Incumbent& incumbent, Parts& parts)
      : incumbent_(incumbent), parts_(parts), random_(Random(incumbent.seed()).split(2'000'003)) {}
  // Goes on where the last call stopped. lambda = 1 only; what would meet the bound.
  void run(double seconds);

 private:
  struct Attempt {
    MultiplierLayout layout;
    std::unique_ptr<PermutationGroup> group = {};
    OrbitCover orbits = {};
    std::unique_ptr<ExactCover> cover = {};
    bool done = false;  // there is none
  };
  void prepare();
  void go_on(Attempt& attempt, int64_t nodes, const std::function<bool()>& stop);

  Incumbent& incumbent_;
  Parts& parts_;
  Random random_;
  std::vector<Attempt> attempts_;
  size_t next_ = 0;
  int64_t round_ = 0;  // 0: not prepared
};

}  // namespace tessera::experts
