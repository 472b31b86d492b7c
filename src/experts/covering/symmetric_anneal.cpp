#include "experts/covering/symmetric_anneal.h"

#include <algorithm>

#include "experts/covering/greedy.h"
#include "experts/covering/orbit_annealer.h"

namespace tessera::experts {
namespace {

constexpr int64_t kFirstMoves = 300, kMostMoves = 32'000;  // of one attempt, per base set
constexpr int64_t kMostBases = 40;                         // more of them are no easier than sets without automorphisms
constexpr size_t kFewestLeft = 12;                         // that go on to the end of a race
constexpr double kHot = 0.35;                              // above it nothing is gained
constexpr double kPairWorth = 4;  // uncovered pairs that a set more would have to hold cost as much as so many sets

// The images, and greedy sets for the pairs that they lack.
Design completed(const CoveringProblem& problem, Design design, uint64_t seed) {
  Design rest = greedy_completion(problem, design, seed);
  for (std::vector<int>& set : rest.sets) design.sets.push_back(std::move(set));
  return design;
}

}  // namespace

SymmetricSearch::SymmetricSearch(Incumbent& incumbent)
    : incumbent_(incumbent), random_(Random(incumbent.seed()).split(3'000'017)) {}

// Those up to one set less than the best so far; anew when the bound has risen.
void SymmetricSearch::open_races() {
  const int64_t bound = incumbent_.best().bound.sets;
  if (!races_.empty() && races_.front().low != bound) races_.clear();
  while (!races_.empty() && races_.back().low >= incumbent_.sets()) races_.pop_back();
  while (races_.empty() || races_.back().high < incumbent_.sets() - 1) {
    const int64_t low = races_.empty() ? bound : races_.back().high + 1;
    races_.push_back({.low = low, .high = std::max(low, 2 * low - bound - 1), .entrants = {}});
  }
}

// The one that had least time; none: no group has plans.
SymmetricSearch::Race* SymmetricSearch::next_race() {
  Race* chosen = nullptr;
  for (Race& race : races_) {
    if (race.empty(groups_.size()) || (chosen != nullptr && race.seconds >= chosen->seconds)) continue;
    chosen = &race;
  }
  return chosen;
}

// The plans of one more group; those for many numbers of sets would be too many, so a part of them is drawn.
void SymmetricSearch::enter(Race& race) {
  const PlanRange range{.low = race.low, .high = std::min(race.high, incumbent_.sets() - 1), .wide = true};
  std::vector<Plan> plans;
  add_plans(groups_[race.groups++], incumbent_.problem(), range, plans);
  for (Plan& plan : plans) {
    if (plan.bases() <= kMostBases && random_.below(range.high - range.low + 1) == 0)
      race.entrants.push_back({std::move(plan)});
  }
}

// The better third goes on with attempts of twice the length; when it cannot become smaller, a few times more, then all
// start again.
void SymmetricSearch::next_lap(Race& race) {
  const auto better = [](const Entrant& a, const Entrant& b) { return a.merit < b.merit; };
  std::stable_sort(race.entrants.begin(), race.entrants.begin() + static_cast<int64_t>(race.left), better);
  race.next = 0;
  const bool last = race.left <= kFewestLeft && race.moves >= kMostMoves;
  if (race.left > 0 && (!last || ++race.laps < int64_t{1} << std::min<int64_t>(race.races, 10))) {
    race.left = std::min(race.left, std::max(kFewestLeft, race.left / 3));
    race.moves = std::min(2 * race.moves, kMostMoves);
    return;
  }
  if (race.left > 0 && race.high > race.low) {
    race.entrants.clear();
    race.groups = 0;
  }
  std::erase_if(race.entrants, [&](const Entrant& entrant) { return entrant.plan.sets >= incumbent_.sets(); });
  race.races += race.left > 0 ? 1 : 0;
  race.laps = 0;
  race.left = race.entrants.size();
  race.moves = kFirstMoves;
  random_.shuffle(race.entrants);
  for (Entrant& entrant : race.entrants) entrant.merit = std::numeric_limits<double>::max();
}

void SymmetricSearch::attempt(Entrant& entrant, int64_t moves) {
  const CoveringProblem& problem = incumbent_.problem();
  const int64_t sets = entrant.plan.sets;
  if (sets >= incumbent_.sets()) return;
  const auto stop = [&] { return incumbent_.stop(); };
  OrbitResult result =
      anneal_orbits(problem, entrant.plan,
                    {.moves = moves * entrant.plan.bases(), .hot = kHot, .seed = random_.bits(), .stop = stop});
  const int64_t pairs = static_cast<int64_t>(problem.size) * (problem.size - 1) / 2;
  const double worth = kPairWorth * static_cast<double>(result.cost) / static_cast<double>(pairs);
  entrant.merit = std::min(entrant.merit, static_cast<double>(sets) + worth);
  // One or two sets too many may turn out not to be needed.
  if (sets + (result.cost + pairs - 1) / pairs > incumbent_.sets() + 1) return;
  incumbent_.offer(completed(problem, std::move(result.design), random_.bits()),
                   "annealing under " + entrant.plan.name());
}

void SymmetricSearch::run(double seconds) {
  const double until = incumbent_.seconds() + seconds;
  const auto stop = [&] { return incumbent_.stop() || incumbent_.seconds() >= until; };
  if (stop()) return;
  if (groups_.empty()) groups_ = groups_to_try(incumbent_.problem().classes, incumbent_.problem().size);
  while (!stop()) {
    open_races();
    Race* race = next_race();
    if (race == nullptr) return;
    const double start = incumbent_.seconds();
    if (race->groups < groups_.size()) {
      enter(*race);
    } else if (race->next >= race->left) {
      next_lap(*race);
    } else {
      attempt(race->entrants[race->next++], race->moves);
    }
    race->seconds += incumbent_.seconds() - start;
  }
}

}  // namespace tessera::experts
