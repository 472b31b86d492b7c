#include "experts/covering/symmetric_anneal.h"

#include <fmt/format.h>

#include <algorithm>

#include "experts/covering/greedy.h"
#include "experts/covering/orbit_annealer.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr int64_t kFirstMoves = 50'000, kMostMoves = 800'000;  // of one attempt
constexpr size_t kFewestPlans = 12;                            // that go on for good

// The images, and greedy sets for the pairs that they lack.
Design completed(const CoveringProblem& problem, Design design, uint64_t seed) {
  Design rest = greedy_completion(problem, design, seed);
  for (std::vector<int>& set : rest.sets) design.sets.push_back(std::move(set));
  return design;
}

}  // namespace

void anneal_symmetric(Incumbent& incumbent, double seconds, uint64_t round) {
  const CoveringProblem& problem = incumbent.problem();
  const double until = incumbent.seconds() + seconds;
  const auto stop = [&] { return incumbent.stop() || incumbent.seconds() >= until; };
  const std::vector<PermutationGroup> groups = groups_to_try(problem.classes, problem.size);
  Random random = Random(incumbent.seed()).split(round);
  std::vector<Plan> plans;
  for (const PermutationGroup& group : groups) {
    if (stop()) return;
    add_plans(group, problem, incumbent.best().bound.sets, incumbent.sets() - 1, plans);
  }
  random.shuffle(plans);
  int64_t moves = kFirstMoves;
  while (!plans.empty() && !stop()) {
    for (Plan& plan : plans) {
      if (stop()) return;
      if (plan.sets >= incumbent.sets()) continue;
      const OrbitResult result = anneal_orbits(problem, plan, {.moves = moves, .seed = random.bits(), .stop = stop});
      // An uncovered pair is worth a fraction of a set.
      const double pairs = static_cast<double>(problem.size) * (problem.size - 1) / 2;
      plan.merit = std::min(plan.merit, static_cast<double>(plan.sets) + 4 * static_cast<double>(result.cost) / pairs);
      incumbent.offer(completed(problem, result.design, random.bits()), "annealing under " + plan.name());
    }
    std::erase_if(plans, [&](const Plan& plan) { return plan.sets >= incumbent.sets(); });
    std::stable_sort(plans.begin(), plans.end(), [](const Plan& a, const Plan& b) { return a.merit < b.merit; });
    plans.resize(std::min(plans.size(), std::max(kFewestPlans, plans.size() / 3)));
    moves = std::min(2 * moves, kMostMoves);
  }
}

}  // namespace tessera::experts
