// Coverings with a hole: exact decompositions under a rotation of all pairs but those inside a small hole or inside
// groups (rotation.h), which are then filled by smaller coverings.
//
//   19 classes in sets of four = 15 + a hole of four; 27 = 24 points that rotate + a hole of three
//   70 = 48 that rotate in four groups + a hole of 18, and four more classes that join every group and the hole
#pragma once

#include <cstdint>
#include <vector>

#include "experts/covering/incumbent.h"
#include "experts/covering/parts.h"
#include "tessera/base/random.h"

namespace tessera::experts {

struct Layout;  // what rotates, what is left open, and how base sets may look

// Where a search through layouts stands.
struct LayoutWalk {
  std::vector<Layout> layouts;
  size_t wide = 0, next = 0;  // of this pass
  int64_t moves = 0;          // of one annealing
};

// Tries holes and groups, those with fewest base sets first, more of them and for longer in every pass. lambda = 1
// only.
class HoleSearch {
 public:
  HoleSearch(Incumbent& incumbent, Parts& parts);
  ~HoleSearch();

  // What meets the lower bound; goes on where the last call stopped. Ends after `seconds` or when the incumbent stops.
  void run(double seconds);

  // What has fewer sets than the best so far: in odd rounds one percent above the bound, otherwise all.
  void run_above_bound(double seconds, uint64_t round);

 private:
  void go_on(LayoutWalk& walk, double seconds);

  Incumbent& incumbent_;
  Parts& parts_;
  Random random_;
  LayoutWalk exact_;
  int effort_ = 0;
};

struct HoleOptions {
  int64_t sets = 0;
  double seconds = 1;
  uint64_t seed = 0;
};

// Sets of `size` that hold every pair but those among the last `hole` (>= 2) classes, at most options.sets of them;
// without sets when none was found.
Design decompose_around_hole(int classes, int hole, int size, const HoleOptions& options);

}  // namespace tessera::experts
