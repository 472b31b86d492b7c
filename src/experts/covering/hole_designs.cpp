#include "experts/covering/hole_designs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>

#include "experts/covering/orbit_annealer.h"
#include "experts/covering/rotation.h"
#include "tessera/base/clock.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/random.h"

namespace tessera::experts {

// What a decomposition covers, and what is filled in later.
struct Layout {
  Rotation rotation;
  int joined = 0;     // further classes that join every group and the hole; only with groups
  int64_t sets = 0;   // that the decomposition may have
  double burden = 0;  // base sets, about
  std::vector<Plan> plans = {};
  std::unique_ptr<PermutationGroup> group = {};  // the plans point to it

  int classes() const { return rotation.points() + joined; }
  int group_size() const { return rotation.moving() / rotation.groups; }
};

namespace {

constexpr int64_t kFirstMoves = 30'000, kMostMoves = 4'000'000;
constexpr double kHot = 0.5;  // exact designs freeze below the temperature at which coverings do
constexpr double kMostBases = 30;
constexpr size_t kFirstLayouts = 40;
constexpr size_t kMostLayouts = 300;  // kept
constexpr int kMostCycles = 8;
constexpr int64_t kVeryFewBases = 2;  // several attempts in the same time
constexpr int kAttempts = 4;

// Groups that one set fills together.
int packed(int size, int group, int joined) { return joined > 1 ? 1 : std::max(1, (size - joined) / group); }

// Sets that groups and hole need; `sets_of` gives those of a covering, `hole_of` of one with a hole.
template <typename SetsOf, typename HoleOf>
int64_t sets_to_fill(const Layout& layout, int size, const SetsOf& sets_of, const HoleOf& hole_of) {
  const int hole = layout.rotation.hole_points() + layout.joined, groups = layout.rotation.groups;
  int64_t sets = hole <= 1 ? 0 : sets_of(hole);
  if (groups == 1) return sets;
  const int together = packed(size, layout.group_size(), layout.joined);
  if (together > 1) return sets + (groups + together - 1) / together;
  return sets + groups * hole_of(layout.group_size() + layout.joined, layout.joined);
}

class Layouts {
 public:
  // `sets`: of the whole covering, at most. With `only_hole` >= 0: decompositions around just that hole.
  Layouts(int classes, int size, int64_t sets, int only_hole, const Parts* parts)
      : classes_(classes), size_(size), sets_(sets), only_hole_(only_hole), parts_(parts) {}

  std::vector<Layout> all() {
    const int others = size_ - 1;
    for (int joined = 0; joined <= (only_hole_ >= 0 ? 0 : size_); ++joined) {
      for (int hole = 0; others * hole + 1 <= classes_ - joined; ++hole) {
        if (only_hole_ >= 0 && hole != only_hole_) continue;
        const int moving = classes_ - joined - hole;
        for (int cycles = 1; cycles <= kMostCycles; ++cycles) {
          if (moving % cycles == 0 && moving / cycles >= 2) add(joined, hole, cycles, moving / cycles);
        }
      }
    }
    add_with_centre();
    if (only_hole_ < 0) add_free();
    std::stable_sort(found_.begin(), found_.end(),
                     [](const Layout& a, const Layout& b) { return a.burden < b.burden; });
    if (found_.size() > kMostLayouts) found_.erase(found_.begin() + kMostLayouts, found_.end());
    return std::move(found_);
  }

 private:
  void add(int joined, int hole, int cycles, int turn) {
    std::vector<std::vector<int>> holes;
    const auto with = [&](int groups, bool cycles_are_groups) {
      if (holes.empty()) holes = hole_cycles(hole, cycles, turn, size_);
      for (const std::vector<int>& lengths : holes) {
        keep({.rotation = {.cycles = cycles,
                           .turn = turn,
                           .hole = lengths,
                           .groups = groups,
                           .cycles_are_groups = cycles_are_groups},
              .joined = joined});
      }
    };
    if (joined == 0) with(1, false);
    if (only_hole_ >= 0) return;
    for (int groups = size_; groups <= turn; ++groups) {
      if (turn % groups == 0 && groups < cycles * turn) with(groups, false);
    }
    if (cycles >= size_) with(cycles, true);
  }

  void keep(Layout layout) {
    int64_t left = sets_;
    if (only_hole_ < 0) {
      left -= sets_to_fill(
          layout, size_, [&](int n) { return parts_->covering_sets(n, size_); },
          [&](int n, int hole) { return n <= 1 ? 0 : parts_->hole_sets(n, hole, size_); });
    }
    const int64_t per_set = static_cast<int64_t>(size_) * (size_ - 1) / 2;
    if (left < 1 || left * per_set < layout.rotation.pairs()) return;
    layout.sets = left;
    layout.burden = static_cast<double>(left) / layout.rotation.turn;
    if (layout.burden <= kMostBases) found_.push_back(std::move(layout));
  }

  // Fixed points outside the hole, for excess pairs among them; around a given hole of whole cycles and fixed points.
  void add_with_centre() {
    const int hole = std::max(0, only_hole_);
    for (int centre = hole > 0 ? 1 : 2; centre <= size_ + 1 && centre + hole < classes_; ++centre) {
      for (int cycles = hole > 0 ? 1 : 2; cycles <= kMostCycles; ++cycles) {
        const int moving = classes_ - centre - hole, turn = moving / cycles;
        if (moving % cycles != 0 || turn < 2) continue;
        std::vector<int> lengths(static_cast<size_t>(hole / turn), turn);
        if (hole % turn > 1) continue;
        lengths.insert(lengths.end(), static_cast<size_t>(hole % turn), 1);
        Layout layout{.rotation = {.cycles = cycles, .turn = turn, .hole = lengths, .centre = centre}};
        layout.sets = sets_;
        layout.burden = 1 + static_cast<double>(sets_) / turn;
        if (layout.burden <= kMostBases) found_.push_back(std::move(layout));
      }
    }
  }

  // A hole of fixed points whose number the known forms of base sets do not allow.
  void add_free() {
    for (int hole = 2; hole <= size_ + 1; ++hole) {
      for (int cycles = 2; cycles <= kMostCycles; ++cycles) {
        if ((classes_ - hole) % cycles != 0 || (classes_ - hole) / cycles < 2) continue;
        keep({.rotation = {.cycles = cycles,
                           .turn = (classes_ - hole) / cycles,
                           .hole = std::vector<int>(static_cast<size_t>(hole), 1),
                           .free_form = true}});
      }
    }
  }

  int classes_, size_;
  int64_t sets_;
  int only_hole_;
  const Parts* parts_;
  std::vector<Layout> found_;
};

void prepare(Layout& layout, int size) {
  if (layout.group != nullptr) return;
  layout.group = std::make_unique<PermutationGroup>(layout.rotation.group());
  layout.plans = rotation_plans(layout.rotation, *layout.group, size, layout.sets);
  std::erase_if(layout.plans, [](const Plan& plan) { return static_cast<double>(plan.bases()) > kMostBases; });
}

void append(Design& design, const Design& part, const std::function<int(int)>& label) {
  for (std::vector<int> set : part.sets) {
    for (int& item : set) item = label(item);
    design.sets.push_back(std::move(set));
  }
}

// Point i of group g; classes that join come after all others.
int group_point(const Layout& layout, int g, int i) {
  const Rotation& rotation = layout.rotation;
  if (i >= layout.group_size()) return rotation.points() + i - layout.group_size();
  if (rotation.cycles_are_groups) return g * rotation.turn + i;
  const int per_cycle = rotation.turn / rotation.groups;
  return i / per_cycle * rotation.turn + i % per_cycle * rotation.groups + g;
}

// Adds the sets of groups and hole; false when some of them are not found.
bool fill(const Layout& layout, int size, Parts& parts, int effort, Design& design) {
  const int moving = layout.rotation.moving(), groups = layout.rotation.groups;
  const int hole = layout.rotation.hole_points() + layout.joined;
  if (hole > 1) append(design, parts.covering(hole, size, effort), [&](int item) { return item + moving; });
  if (groups == 1) return true;
  const int part = layout.group_size() + layout.joined, together = packed(size, layout.group_size(), layout.joined);
  if (together > 1) {
    for (int first = 0; first < groups; first += together) {
      std::vector<int> set;
      for (int g = first; g < std::min(groups, first + together); ++g) {
        for (int i = 0; i < layout.group_size(); ++i) set.push_back(group_point(layout, g, i));
      }
      for (int i = 0; i < layout.joined; ++i) set.push_back(layout.rotation.points() + i);
      design.sets.push_back(std::move(set));
    }
    return true;
  }
  const Design& filling = part <= 1 ? Design{} : parts.with_hole(part, layout.joined, size, effort);
  if (part > 1 && filling.sets.empty()) return false;
  for (int g = 0; g < groups; ++g) append(design, filling, [&](int i) { return group_point(layout, g, i); });
  return true;
}

LayoutWalk start_walk(std::vector<Layout> layouts) {
  return {.layouts = std::move(layouts), .wide = kFirstLayouts, .next = 0, .moves = kFirstMoves};
}

// Goes through the layouts again and again, more of them and with longer annealing each time, and hands what covers
// to `found`, until `stop` or `found` says so.
void go_through(LayoutWalk& walk, int size, Random& random, const std::function<bool()>& stop,
                const std::function<bool(const Layout&, const Plan&, Design)>& found) {
  while (!walk.layouts.empty()) {
    for (; walk.next < std::min(walk.wide, walk.layouts.size()); ++walk.next) {
      Layout& layout = walk.layouts[walk.next];
      prepare(layout, size);
      const CoveringProblem inner{.classes = layout.group->points(), .size = size};
      const auto exempt = [&](int a, int b) { return layout.rotation.left_open(a, b); };
      for (const Plan& plan : layout.plans) {
        const int attempts = plan.bases() <= kVeryFewBases ? kAttempts : 1;
        for (int attempt = 0; attempt < attempts; ++attempt) {
          if (stop()) return;
          OrbitResult result = anneal_orbits(
              inner, plan,
              {.moves = walk.moves / attempts, .hot = kHot, .seed = random.bits(), .exempt = exempt, .stop = stop});
          if (result.cost > 0) continue;
          if (found(layout, plan, std::move(result.design))) return;
          break;
        }
      }
    }
    std::erase_if(walk.layouts, [](const Layout& layout) { return layout.group != nullptr && layout.plans.empty(); });
    walk.moves = std::min(walk.moves * 3 / 2, kMostMoves);
    walk.wide *= 2;
    walk.next = 0;
    if (stop()) return;
  }
}

}  // namespace

HoleSearch::HoleSearch(Incumbent& incumbent, Parts& parts)
    : incumbent_(incumbent), parts_(parts), random_(Random(incumbent.seed()).split(1'000'003)) {}

HoleSearch::~HoleSearch() = default;

void HoleSearch::go_on(LayoutWalk& walk, double seconds) {
  const double until = incumbent_.seconds() + seconds;
  const auto stop = [&] { return incumbent_.stop() || incumbent_.seconds() >= until; };
  const CoveringProblem& problem = incumbent_.problem();
  go_through(walk, problem.size, random_, stop, [&](const Layout& layout, const Plan& plan, Design design) {
    if (!fill(layout, problem.size, parts_, effort_, design)) return false;
    design.classes = problem.classes;
    incumbent_.offer(std::move(design), "differences: " + plan.name());
    return incumbent_.reached();
  });
}

void HoleSearch::run(double seconds) {
  const CoveringProblem& problem = incumbent_.problem();
  if (problem.lambda != 1 || problem.size < 3) return;
  if (effort_++ == 0) {
    exact_ = start_walk(Layouts(problem.classes, problem.size, incumbent_.target(), -1, &parts_).all());
  }
  go_on(exact_, seconds);
}

void HoleSearch::run_above_bound(double seconds, uint64_t round) {
  const CoveringProblem& problem = incumbent_.problem();
  if (problem.lambda != 1 || problem.size < 3 || incumbent_.reached()) return;
  const int64_t slack = round % 2 == 1 ? 1 + incumbent_.target() / 100 : incumbent_.sets();
  const int64_t sets = std::min(incumbent_.target() + slack, incumbent_.sets() - 1);
  LayoutWalk walk = start_walk(Layouts(problem.classes, problem.size, sets, -1, &parts_).all());
  walk.wide <<= std::min<uint64_t>(round, 6);
  go_on(walk, seconds);
}

Design decompose_around_hole(int classes, int hole, int size, const HoleOptions& options) {
  const Stopwatch watch;
  const auto stop = [&] { return interrupted() || watch.elapsed().wall_ms >= 1000 * options.seconds; };
  Random random(options.seed);
  LayoutWalk walk = start_walk(Layouts(classes, size, options.sets, hole, nullptr).all());
  Design best{.classes = classes, .sets = {}};
  go_through(walk, size, random, stop, [&](const Layout&, const Plan&, Design design) {
    best.sets = std::move(design.sets);
    return true;
  });
  return best;
}

}  // namespace tessera::experts
