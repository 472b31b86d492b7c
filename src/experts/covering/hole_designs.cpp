#include "experts/covering/hole_designs.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>

#include "experts/covering/orbit_annealer.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr int64_t kFirstMoves = 40'000, kMostMoves = 4'000'000;
constexpr int64_t kMostBases = 30;
constexpr size_t kFirstPlans = 4;     // that are tried first; twice as many in every pass
constexpr double kHoleSeconds = 0.3;  // for the covering of a hole larger than a set

// The classes: cycles of length `turn` first, then the hole in cycles of `small` and fixed points.
struct Layout {
  int cycles = 1, turn = 1;
  int small = 1, small_cycles = 0, fixed = 0;
  int hole() const { return small * small_cycles + fixed; }
  int moving() const { return cycles * turn; }
  int classes() const { return moving() + hole(); }
  PermutationGroup group() const {
    Permutation p(static_cast<size_t>(classes()));
    std::iota(p.begin(), p.end(), 0);
    const auto rotate = [&](int first, int length) {
      for (int x = 0; x < length; ++x) p[static_cast<size_t>(first + x)] = first + (x + 1) % length;
    };
    for (int c = 0; c < cycles; ++c) rotate(c * turn, turn);
    for (int c = 0; c < small_cycles; ++c) rotate(moving() + c * small, small);
    return {classes(),
            {p},
            fmt::format("rotation of {} cycles of {}, a hole of {} cycles of {} and {} fixed", cycles, turn,
                        small_cycles, small, fixed)};
  }
};

std::vector<Layout> layouts(const CoveringProblem& problem) {
  const int v = problem.classes, d = problem.size - 1;
  std::vector<Layout> found;
  for (int hole = 0; d * hole + 1 <= v - hole + d; ++hole) {
    const int moving = v - hole, fixed = hole % d;
    if (fixed <= 1 && (hole <= 1 || moving % d == 0)) {
      found.push_back({.turn = moving, .small = d, .small_cycles = hole / d, .fixed = fixed});
    }
    for (const int cycles : {d, 2, d + 1}) {
      if (cycles < 2 || moving % cycles != 0 || moving / cycles < 2 || hole > problem.size + 1) continue;
      found.push_back({.cycles = cycles, .turn = moving / cycles, .fixed = hole});
    }
  }
  return found;
}

// Sets that a hole needs at least.
int64_t hole_sets(int hole, int size) {
  if (hole <= 1) return 0;
  return lower_bound(hole, size, 1).sets;
}

// The covering of the hole, its points numbered from `first`.
std::vector<std::vector<int>> fill(int hole, int first, const CoveringProblem& problem, uint64_t seed) {
  std::vector<std::vector<int>> sets;
  if (hole <= 1) return sets;
  sets = find_covering({.classes = hole, .size = problem.size}, {.seconds = kHoleSeconds, .seed = seed}).design.sets;
  for (std::vector<int>& set : sets) {
    for (int& item : set) item += first;
  }
  return sets;
}

}  // namespace

void search_holes(Incumbent& incumbent, double seconds, uint64_t round) {
  const CoveringProblem& problem = incumbent.problem();
  if (problem.lambda != 1 || problem.size < 3) return;
  const double until = incumbent.seconds() + seconds;
  const auto stop = [&] { return incumbent.stop() || incumbent.seconds() >= until; };
  Random random = Random(incumbent.seed()).split(round + 1'000'003);
  const int64_t bound = incumbent.best().bound.sets;
  std::deque<PermutationGroup> groups;  // the plans point to them
  std::vector<std::pair<Layout, Plan>> plans;
  for (const Layout& layout : layouts(problem)) {
    if (stop()) return;
    const int64_t exact = bound - hole_sets(layout.hole(), problem.size);
    if (exact / layout.turn > kMostBases || exact <= 0) continue;
    groups.push_back(layout.group());
    if (groups.back().order() == 0) continue;
    std::vector<Plan> ways;
    add_plans(groups.back(), problem, exact, exact, ways);
    for (Plan& plan : ways) {
      if (plan.bases() <= kMostBases) plans.emplace_back(layout, std::move(plan));
    }
  }
  // Few base sets are few unknowns; short ones fit in few ways.
  const auto burden = [](const Plan& plan) {
    int64_t burden = 0;
    for (const Kind& kind : plan.kinds) burden += kind.images == plan.group->order() ? kind.count : 3 * kind.count;
    return burden;
  };
  std::stable_sort(plans.begin(), plans.end(),
                   [&](const auto& a, const auto& b) { return burden(a.second) < burden(b.second); });
  size_t wide = kFirstPlans;
  for (int64_t moves = kFirstMoves; !plans.empty() && !stop(); moves = std::min(moves * 3 / 2, kMostMoves), wide *= 2) {
    for (size_t i = 0; i < std::min(wide, plans.size()); ++i) {
      if (stop()) return;
      const auto& [layout, plan] = plans[i];
      const int moving = layout.moving();
      const auto in_hole = [moving](int a, int b) { return a >= moving && b >= moving; };
      OrbitResult result =
          anneal_orbits(problem, plan, {.moves = moves, .seed = random.bits(), .exempt = in_hole, .stop = stop});
      if (result.cost != 0) continue;
      for (std::vector<int>& set : fill(layout.hole(), moving, problem, random.bits())) {
        result.design.sets.push_back(std::move(set));
      }
      incumbent.offer(std::move(result.design), "differences: " + plan.name());
    }
  }
}

}  // namespace tessera::experts
