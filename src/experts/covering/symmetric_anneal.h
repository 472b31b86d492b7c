// Annealing under prescribed automorphisms: the sets are the images of a few base sets under a permutation group, so a
// search over 50 sets becomes one over 10 or fewer.
//
// There are hundreds or thousands of plans (orbit_plans.h) and only a few of them lead anywhere, but these few need no
// long search: 52 sets of five for 32 classes come in one of four attempts of 0.5 ms once the plan is three base sets
// with 12 images, two with 6 and one with 4 under cycles of 12, 12, 6, 1 and 1. So plans race: all get a short attempt,
// the better third a longer one, and so on. Plans of more sets always look better, so there is a race for as many sets
// as the lower bound, one for one more, one for 2 or 3 more, for 4 to 7 and so on; where a race stands is kept between
// calls.
//
// Sources: the method of prescribed automorphism groups (Kramer and Mesner, 1976), with annealing in place of exact
// search over the orbit matrix; successive halving, Jamieson and Talwalkar (2016).
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "experts/covering/incumbent.h"
#include "experts/covering/orbit_plans.h"
#include "tessera/base/random.h"

namespace tessera::experts {

class SymmetricSearch {
 public:
  explicit SymmetricSearch(Incumbent& incumbent);
  // Goes on where the last call stopped, until `seconds` are gone or the incumbent stops. End states with few uncovered
  // pairs are completed greedily; what has fewer sets than the best so far is offered.
  void run(double seconds);

 private:
  struct Entrant {
    Plan plan;
    double merit = std::numeric_limits<double>::max();  // of its best attempt in this race, less is better
  };
  struct Race {
    int64_t low = 0, high = 0;      // sets
    std::vector<Entrant> entrants;  // those that are left come first
    size_t groups = 0;              // whose plans are among them
    size_t left = 0, next = 0;
    int64_t moves = 0;   // of one attempt, per base set
    int64_t laps = 0;    // among the last few entrants
    int64_t races = 0;   // over
    double seconds = 0;  // spent
    bool empty(size_t all_groups) const { return groups == all_groups && entrants.empty(); }
  };

  void open_races();
  Race* next_race();
  void enter(Race& race);
  void next_lap(Race& race);
  void attempt(Entrant& entrant, int64_t moves);

  Incumbent& incumbent_;
  Random random_;
  std::vector<PermutationGroup> groups_;
  std::vector<Race> races_;  // fewest sets first
};

}  // namespace tessera::experts
