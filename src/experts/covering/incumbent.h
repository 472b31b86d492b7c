// The best covering found so far, the time and the target of one search; every stage offers designs to it and asks
// whether to go on.
#pragma once

#include <string>

#include "tessera/base/clock.h"
#include "tessera/experts/covering.h"

namespace tessera::experts {

class Incumbent {
 public:
  Incumbent(const CoveringProblem& problem, const CoveringOptions& options);

  // Keeps the design when it covers the problem with fewer sets than the best so far. Sets that are too large make it
  // refuse the design; sets that are not needed are dropped first. Returns whether it is the new best.
  bool offer(Design design, const std::string& method);

  // No design has fewer than `sets`, as `source` shows.
  void prove(int64_t sets, const std::string& source);

  const CoveringProblem& problem() const { return problem_; }
  const Covering& best() const { return best_; }
  Covering& best() { return best_; }
  int64_t sets() const { return static_cast<int64_t>(best_.design.sets.size()); }
  // Sets at which nothing more is wanted.
  int64_t target() const { return target_; }
  bool reached() const { return !best_.design.sets.empty() && sets() <= target_; }
  double seconds() const { return watch_.elapsed().wall_ms / 1000; }
  double seconds_left() const { return options_.seconds - seconds(); }
  // The target is reached, the time is up, or the user asked to stop. Reports progress.
  bool stop();
  uint64_t seed() const { return options_.seed; }

 private:
  const CoveringProblem& problem_;
  const CoveringOptions& options_;
  Stopwatch watch_;
  Covering best_;
  int64_t target_;
  bool cancelled_ = false;
  double next_report_ = 0;
};

// Drops sets whose pairs are all covered lambda times without them, smallest gain first, and sets inside others.
void drop_redundant(Design& design, int lambda);

}  // namespace tessera::experts
