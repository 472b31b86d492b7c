#include "experts/covering/symmetric_anneal.h"

#include <algorithm>
#include <cmath>

#include "experts/covering/greedy.h"
#include "experts/covering/orbit_annealer.h"

namespace tessera::experts {
namespace {

constexpr int64_t kFirstMoves = 20'000, kMostMoves = 400'000;  // of one attempt
constexpr size_t kFewestLeft = 12;                             // that go on to the end of a race
constexpr double kHot = 0.35;                                  // above it nothing is gained
constexpr int64_t kLevels = 4;                                 // numbers of sets that race at a time

// The images, and greedy sets for the pairs that they lack.
Design completed(const CoveringProblem& problem, Design design, uint64_t seed) {
  Design rest = greedy_completion(problem, design, seed);
  for (std::vector<int>& set : rest.sets) design.sets.push_back(std::move(set));
  return design;
}

}  // namespace

SymmetricSearch::SymmetricSearch(Incumbent& incumbent)
    : incumbent_(incumbent), random_(Random(incumbent.seed()).split(3'000'017)) {}

// The number of sets whose race is next: one less than the best so far gets half of the time, each one below half of
// what is left; 0: no group has plans for any of them.
int64_t SymmetricSearch::level() const {
  const int64_t high = incumbent_.sets() - 1;
  const int64_t low = std::max(incumbent_.best().bound.sets, high - kLevels + 1);
  int64_t chosen = 0;
  double least = std::numeric_limits<double>::max(), weight = 1;
  for (int64_t sets = high; sets >= low; --sets, weight /= 2) {
    const auto race = races_.find(sets);
    if (race != races_.end() && race->second.groups == groups_.size() && race->second.entrants.empty()) continue;
    const double used = race == races_.end() ? 0 : race->second.seconds / weight;
    if (used < least) chosen = sets;
    least = std::min(least, used);
  }
  return chosen;
}

// The plans of one more group.
void SymmetricSearch::enter(int64_t sets, Race& race) {
  std::vector<Plan> plans;
  add_plans(groups_[race.groups++], incumbent_.problem(), {.low = sets, .high = sets, .wide = true}, plans);
  for (Plan& plan : plans) race.entrants.push_back({std::move(plan)});
}

// The better third goes on with attempts of twice the length; when it cannot become smaller, a few times more, then all
// start again.
void SymmetricSearch::next_lap(Race& race) {
  const auto end = race.entrants.begin() + static_cast<int64_t>(race.left);
  std::stable_sort(race.entrants.begin(), end, [](const Entrant& a, const Entrant& b) { return a.cost < b.cost; });
  race.next = 0;
  const bool last = race.left <= kFewestLeft && race.moves >= kMostMoves;
  if (race.left > 0 && (!last || ++race.laps < int64_t{1} << std::min<int64_t>(race.races, 10))) {
    race.left = std::min(race.left, std::max(kFewestLeft, race.left / 3));
    race.moves = std::min(2 * race.moves, kMostMoves);
    return;
  }
  race.races += race.left > 0 ? 1 : 0;
  race.laps = 0;
  race.left = race.entrants.size();
  race.moves = kFirstMoves;
  random_.shuffle(race.entrants);
  for (Entrant& entrant : race.entrants) entrant.cost = std::numeric_limits<int64_t>::max();
}

void SymmetricSearch::attempt(Entrant& entrant, int64_t moves) {
  const CoveringProblem& problem = incumbent_.problem();
  const auto stop = [&] { return incumbent_.stop(); };
  OrbitResult result =
      anneal_orbits(problem, entrant.plan, {.moves = moves, .hot = kHot, .seed = random_.bits(), .stop = stop});
  entrant.cost = std::min(entrant.cost, result.cost);
  const int64_t pairs = static_cast<int64_t>(problem.size) * (problem.size - 1) / 2;
  if (entrant.plan.sets + (result.cost + pairs - 1) / pairs >= incumbent_.sets()) return;
  incumbent_.offer(completed(problem, std::move(result.design), random_.bits()),
                   "annealing under " + entrant.plan.name());
}

void SymmetricSearch::run(double seconds) {
  const double until = incumbent_.seconds() + seconds;
  const auto stop = [&] { return incumbent_.stop() || incumbent_.seconds() >= until; };
  if (stop()) return;
  if (groups_.empty()) groups_ = groups_to_try(incumbent_.problem().classes, incumbent_.problem().size);
  while (!stop()) {
    const int64_t sets = level();
    if (sets == 0) return;
    Race& race = races_[sets];
    const double start = incumbent_.seconds();
    if (race.groups < groups_.size()) {
      enter(sets, race);
    } else if (race.next >= race.left) {
      next_lap(race);
    } else {
      attempt(race.entrants[race.next++], race.moves);
    }
    race.seconds += incumbent_.seconds() - start;
    races_.erase(races_.lower_bound(incumbent_.sets()), races_.end());
  }
}

}  // namespace tessera::experts
