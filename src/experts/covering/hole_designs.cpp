#include "experts/covering/hole_designs.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <numeric>

#include "experts/covering/orbit_annealer.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr int64_t kFirstMoves = 40'000, kMostMoves = 4'000'000;
constexpr double kHot = 0.5;  // exact designs freeze below the temperature at which coverings do
constexpr int64_t kMostBases = 30;
constexpr size_t kFirstPlans = 4;  // that are tried first; twice as many in every pass
constexpr int kMostCycles = 8;
constexpr double kPartSeconds = 0.3;  // for the covering of a hole or a group
constexpr uint64_t kHoleAttempts = 4;

// The classes: cycles of length `turn` first, then the hole in cycles of `small` and fixed points.
struct Layout {
  int cycles = 1, turn = 1;
  int small = 1, small_cycles = 0, fixed = 0;
  bool open = true;  // the pairs inside the hole are left to a covering of their own
  int groups = 1;  // above 1: pairs of points of equal residue modulo `groups` and all pairs of the hole are left open
  int hole() const { return small * small_cycles + fixed; }
  int moving() const { return cycles * turn; }
  int classes() const { return moving() + hole(); }
  PermutationGroup group() const {
    Permutation p(static_cast<size_t>(groups > 1 ? moving() : classes()));
    std::iota(p.begin(), p.end(), 0);
    const auto rotate = [&](int first, int length) {
      for (int x = 0; x < length; ++x) p[static_cast<size_t>(first + x)] = first + (x + 1) % length;
    };
    for (int c = 0; c < cycles; ++c) rotate(c * turn, turn);
    if (groups > 1) {
      return {turn, {p}, fmt::format("rotation of {} in {} groups with a hole of {}", turn, groups, hole())};
    }
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
  // A moving point meets every point of the hole in a set with R - 2 other moving points.
  for (int hole = 0; (d - 1) * hole + 1 <= v - hole; ++hole) {
    const int moving = v - hole, fixed = hole % d;
    if (fixed <= 1 && (hole <= 1 || moving % d == 0)) {
      found.push_back({.turn = moving, .small = d, .small_cycles = hole / d, .fixed = fixed});
    }
    for (int cycles = 2; cycles <= kMostCycles && hole <= problem.size + 1; ++cycles) {
      if (moving % cycles != 0 || moving / cycles < 2) continue;
      found.push_back({.cycles = cycles, .turn = moving / cycles, .fixed = hole});
      if (hole >= 2) found.push_back({.cycles = cycles, .turn = moving / cycles, .fixed = hole, .open = false});
    }
    for (int groups = problem.size; groups <= moving / 2 && hole <= problem.size; ++groups) {
      if (moving % groups == 0) found.push_back({.turn = moving, .fixed = hole, .groups = groups});
    }
  }
  return found;
}

// Sets that a hole needs at least; with groups, those that all groups and the hole need.
int64_t hole_sets(int hole, int size) { return hole <= 1 ? 0 : lower_bound(hole, size, 1).sets; }
int64_t left_sets(const Layout& layout, int size) {
  if (!layout.open) return 0;
  if (layout.groups == 1) return hole_sets(layout.hole(), size);
  const int part = layout.turn / layout.groups + layout.hole();
  return layout.groups * (hole_sets(part, size) - hole_sets(layout.hole(), size)) + hole_sets(layout.hole(), size);
}

Design best_covering(int classes, int size, uint64_t seed) {
  return find_covering({.classes = classes, .size = size}, {.seconds = kPartSeconds, .seed = seed}).design;
}

// A covering of `classes` points in which one set is needed only for the last `hole` points (2 <= hole <= size); that
// set comes last. Empty when none is found.
Design covering_with_hole(int classes, int hole, int size, uint64_t seed) {
  for (uint64_t attempt = 0; attempt < kHoleAttempts && !interrupted(); ++attempt) {
    Design design = best_covering(classes, size, seed + attempt);
    if (static_cast<int64_t>(design.sets.size()) > lower_bound(classes, size, 1).sets) continue;
    const auto n = static_cast<size_t>(classes);
    std::vector<int> held(n * n, 0);
    for (const std::vector<int>& set : design.sets) {
      for (const int a : set) {
        for (const int b : set) ++held[static_cast<size_t>(a) * n + static_cast<size_t>(b)];
      }
    }
    for (size_t j = 0; j < design.sets.size(); ++j) {
      std::vector<int> order(n, 0);  // order[a]: 1 when the set alone holds some pair of a
      for (const int a : design.sets[j]) {
        for (const int b : design.sets[j]) {
          if (a != b && held[static_cast<size_t>(a) * n + static_cast<size_t>(b)] == 1)
            order[static_cast<size_t>(a)] = 1;
        }
      }
      const auto needed = std::count(order.begin(), order.end(), 1);
      if (needed > hole) continue;
      for (const int a : design.sets[j]) {  // any others of the set make the hole full
        if (std::count(order.begin(), order.end(), 1) < hole) order[static_cast<size_t>(a)] = 1;
      }
      for (int a = 0; std::count(order.begin(), order.end(), 1) < hole; ++a) {
        if (order[static_cast<size_t>(a)] == 1) continue;
        order[static_cast<size_t>(a)] = 1;
        design.sets[j].push_back(a);
      }
      std::vector<int> label(n);
      int low = 0, high = classes - hole;
      for (size_t a = 0; a < n; ++a) label[a] = order[a] == 1 ? high++ : low++;
      std::swap(design.sets[j], design.sets.back());
      for (std::vector<int>& set : design.sets) {
        for (int& item : set) item = label[static_cast<size_t>(item)];
      }
      return design;
    }
  }
  return {};
}

// Adds the sets that a decomposition leaves to the hole and the groups; false when they are not found.
bool fill(const Layout& layout, const CoveringProblem& problem, uint64_t seed, Design& design) {
  const int moving = layout.moving(), hole = layout.hole();
  if (!layout.open) return true;
  if (layout.groups == 1) {
    if (hole <= 1) return true;
    for (std::vector<int>& set : best_covering(hole, problem.size, seed).sets) {
      for (int& item : set) item += moving;
      design.sets.push_back(std::move(set));
    }
    return true;
  }
  const int group = moving / layout.groups;
  const Design part = hole <= 1 ? best_covering(group + hole, problem.size, seed)
                                : covering_with_hole(group + hole, hole, problem.size, seed);
  if (part.sets.empty()) return false;
  for (int g = 0; g < layout.groups; ++g) {
    // The last set covers the hole once for all groups.
    const size_t sets = part.sets.size() - (hole > 1 && g > 0 ? 1 : 0);
    for (size_t j = 0; j < sets; ++j) {
      std::vector<int> set = part.sets[j];
      for (int& item : set) item = item < group ? item * layout.groups + g : moving + item - group;
      design.sets.push_back(std::move(set));
    }
  }
  return true;
}

// Pairs that the decomposition need not cover.
std::function<bool(int, int)> exempt(const Layout& layout) {
  if (!layout.open) return {};
  if (layout.groups > 1) return [groups = layout.groups](int a, int b) { return a % groups == b % groups; };
  return [moving = layout.moving()](int a, int b) { return a >= moving && b >= moving; };
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
    const int64_t exact = bound - left_sets(layout, problem.size);
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
    int64_t sum = 0;
    for (const Kind& kind : plan.kinds) sum += kind.images == plan.group->order() ? kind.count : 3 * kind.count;
    return sum;
  };
  std::stable_sort(plans.begin(), plans.end(),
                   [&](const auto& a, const auto& b) { return burden(a.second) < burden(b.second); });
  size_t wide = kFirstPlans;
  for (int64_t moves = kFirstMoves; !plans.empty() && !stop(); moves = std::min(moves * 3 / 2, kMostMoves), wide *= 2) {
    for (size_t i = 0; i < std::min(wide, plans.size()); ++i) {
      if (stop()) return;
      const auto& [layout, plan] = plans[i];
      // With groups the hole comes in only when they are filled.
      const CoveringProblem inner{.classes = plan.group->points(), .size = problem.size};
      OrbitResult result = anneal_orbits(
          inner, plan, {.moves = moves, .hot = kHot, .seed = random.bits(), .exempt = exempt(layout), .stop = stop});
      if (result.cost != 0 || !fill(layout, problem, random.bits(), result.design)) continue;
      result.design.classes = problem.classes;
      incumbent.offer(std::move(result.design), "differences: " + plan.name());
    }
  }
}

}  // namespace tessera::experts
