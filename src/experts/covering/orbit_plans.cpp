#include "experts/covering/orbit_plans.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>

namespace tessera::experts {
namespace {

constexpr int64_t kFewestShort = 8;  // sets of short orbits that may be in a plan, whatever the order of the group

int64_t pairs_of(int64_t n) { return n * (n - 1) / 2; }

Kind free_kind(const PermutationGroup& group, int size) {
  Kind kind{.images = group.order(), .longer = size};
  for (int i = 0; i < group.points(); ++i) kind.long_units.push_back({i});
  return kind;
}

// Kinds of sets that are unions of full orbits and fixed points of a subgroup, fullest first.
std::vector<Kind> narrow_kinds(const PermutationGroup& group, int size) {
  std::vector<Kind> kinds;
  for (const PermutationGroup::Subgroup& subgroup : group.cyclic_subgroups()) {
    Kind kind{.images = group.order() / subgroup.order};
    for (const std::vector<int>& orbit : subgroup.orbits) {
      if (static_cast<int>(orbit.size()) == subgroup.order) kind.long_units.push_back(orbit);
      if (orbit.size() == 1) kind.short_units.push_back(orbit);
    }
    const int most = std::min(size / subgroup.order, static_cast<int>(kind.long_units.size()));
    for (kind.longer = most; kind.longer >= std::max(0, most - 1); --kind.longer) {
      kind.shorter = std::min(size - kind.longer * subgroup.order, static_cast<int>(kind.short_units.size()));
      if (kind.longer * subgroup.order + kind.shorter >= std::max(2, size - 1)) kinds.push_back(kind);
    }
  }
  return kinds;
}

// Kinds of sets that are unions of orbits of one or two lengths of a subgroup.
std::vector<Kind> wide_kinds(const PermutationGroup& group, int size) {
  std::vector<Kind> kinds;
  for (const PermutationGroup::Subgroup& subgroup : group.cyclic_subgroups()) {
    std::map<int, std::vector<std::vector<int>>, std::greater<>> by_length;
    for (const std::vector<int>& orbit : subgroup.orbits) by_length[static_cast<int>(orbit.size())].push_back(orbit);
    const int images = group.order() / subgroup.order;
    for (const auto& [length, orbits] : by_length) {
      for (int longer = 1; longer <= std::min(size / length, static_cast<int>(orbits.size())); ++longer) {
        const int left = size - longer * length;
        if (left == 0 || (left == 1 && !by_length.contains(1))) {
          kinds.push_back({.images = images, .longer = longer, .long_units = orbits, .short_units = {}});
        }
        for (const auto& [other, others] : by_length) {
          const int shorter = std::min(left / other, static_cast<int>(others.size()));
          if (other >= length || shorter == 0 || shorter * other < std::max(1, left - 1)) continue;
          kinds.push_back(
              {.images = images, .longer = longer, .shorter = shorter, .long_units = orbits, .short_units = others});
        }
      }
    }
  }
  return kinds;
}

// The one set of all points with fewer images than the group has elements; no orbits: there are too few or too many.
Kind fixed_set(const PermutationGroup& group, int size) {
  Kind kind{.count = 1};
  const std::vector<char>& regular = group.regular_points();
  for (int x = 0; x < group.points(); ++x) {
    if (regular[static_cast<size_t>(x)] == 0) kind.long_units.push_back({x});
  }
  const auto count = static_cast<int>(kind.long_units.size());
  if (count >= 2 && count <= size) kind.longer = count;
  return kind;
}

// What free base sets must still bring: places and pairs of regular and other points, in units of the group's order.
struct Needs {
  int64_t places = 0, places_regular = 0, places_other = 0, pairs_regular = 0, pairs_mixed = 0;
};

// Takes away the most that the sets of a kind with few images can bring.
void subtract(const Kind& kind, const std::vector<char>& regular, Needs& needs) {
  int64_t least = 0, most = 0, all = 0;  // regular points in one set
  const auto count = [&](const std::vector<std::vector<int>>& units, int chosen) {
    if (chosen == 0) return;
    const auto length = static_cast<int64_t>(units.front().size()), total = static_cast<int64_t>(units.size());
    int64_t moved = 0;
    for (const std::vector<int>& unit : units) moved += regular[static_cast<size_t>(unit.front())];
    most += length * std::min<int64_t>(chosen, moved);
    least += length * std::max<int64_t>(0, chosen - (total - moved));
    all += length * chosen;
  };
  count(kind.long_units, kind.longer);
  count(kind.short_units, kind.shorter);
  int64_t mixed = 0;
  for (int64_t x = least; x <= most; ++x) mixed = std::max(mixed, x * (all - x));
  const int64_t sets = static_cast<int64_t>(kind.count) * kind.images;
  needs.places -= sets * all;
  needs.places_regular -= sets * most;
  needs.places_other -= sets * (all - least);
  needs.pairs_regular -= sets * pairs_of(most);
  needs.pairs_mixed -= sets * mixed;
}

// Whether `bases` sets of `size` can bring that much when each holds at most `most_other` other points. With t other
// points in all, p pairs among them and all = bases * pairs_of(size), there are all - t (size - 1) + p pairs of regular
// points and t (size - 1) - 2 p mixed ones; p is least when all sets hold alike, greatest when few hold all.
bool free_sets_fit(int64_t bases, int64_t size, int64_t most_other, const Needs& needs) {
  for (int64_t t = std::max<int64_t>(0, needs.places_other); t <= bases * most_other; ++t) {
    if (bases * size - t < needs.places_regular) break;
    const int64_t each = bases > 0 ? t / bases : 0, more = t - each * bases;
    const int64_t fewest = bases * pairs_of(each) + more * each;
    const int64_t full = most_other > 0 ? t / most_other : 0;
    const int64_t greatest = full * pairs_of(most_other) + pairs_of(t - full * most_other);
    const int64_t p = std::max(fewest, needs.pairs_regular - bases * pairs_of(size) + t * (size - 1));
    if (p <= greatest && t * (size - 1) - 2 * p >= needs.pairs_mixed) return true;
  }
  return false;
}

class Planner {
 public:
  Planner(const PermutationGroup& group, const CoveringProblem& problem, const PlanRange& range,
          std::vector<Plan>& plans)
      : group_(group),
        problem_(problem),
        range_(range),
        plans_(plans),
        shorts_(range.wide ? wide_kinds(group, problem.size) : narrow_kinds(group, problem.size)),
        fixed_set_(range.wide ? fixed_set(group, problem.size) : Kind{}) {}

  void run() {
    const int64_t order = group_.order();
    const int64_t fewer = range_.wide ? 2 : 1;
    const int64_t most_short = std::max(fewer * order, kFewestShort);
    for (int64_t full = range_.high / order; full >= std::max<int64_t>(0, range_.high / order - fewer); --full) {
      add(full, {});
      const int64_t left = std::min(range_.high - full * order, most_short);
      for (size_t a = 0; a < shorts_.size(); ++a) {
        for (int64_t count = 1; count * shorts_[a].images <= left; ++count) {
          add(full, {{a, count}});
          for (size_t b = 0; b < a; ++b) {
            for (int64_t more = 1; count * shorts_[a].images + more * shorts_[b].images <= left; ++more) {
              add(full, {{a, count}, {b, more}});
            }
          }
        }
      }
    }
  }

 private:
  // `rest`: numbers of short kinds and of base sets of each.
  void add(int64_t full, const std::vector<std::pair<size_t, int64_t>>& rest) {
    int64_t sets = full * group_.order();
    for (const auto& [kind, count] : rest) sets += count * shorts_[kind].images;
    const bool with_fixed = fixed_set_.longer > 0;
    if (sets > range_.high || sets + (with_fixed ? 1 : 0) < range_.low) return;
    Plan plan{.group = &group_, .kinds = {}, .sets = sets};
    if (full > 0) {
      plan.kinds.push_back(free_kind(group_, problem_.size));
      plan.kinds[0].count = static_cast<int>(full);
    }
    for (const auto& [kind, count] : rest) {
      plan.kinds.push_back(shorts_[kind]);
      plan.kinds.back().count = static_cast<int>(count);
    }
    if (with_fixed) {
      Plan more = plan;
      more.kinds.push_back(fixed_set_);
      ++more.sets;
      keep(std::move(more));
    }
    keep(std::move(plan));
  }

  void keep(Plan plan) {
    if (plan.sets < range_.low || plan.sets > range_.high || plan.kinds.empty()) return;
    if (range_.wide && !counts_fit(plan, problem_)) return;
    plans_.push_back(std::move(plan));
  }

  const PermutationGroup& group_;
  const CoveringProblem& problem_;
  const PlanRange& range_;
  std::vector<Plan>& plans_;
  std::vector<Kind> shorts_;
  Kind fixed_set_;
};

}  // namespace

int64_t Plan::bases() const {
  int64_t bases = 0;
  for (const Kind& kind : kinds) bases += kind.count;
  return bases;
}

std::string Plan::name() const {
  std::string text = group->name();
  for (const Kind& kind : kinds) text += fmt::format(", {} base sets with {} images", kind.count, kind.images);
  return text;
}

void add_plans(const PermutationGroup& group, const CoveringProblem& problem, const PlanRange& range,
               std::vector<Plan>& plans) {
  Planner(group, problem, range, plans).run();
}

bool counts_fit(const Plan& plan, const CoveringProblem& problem) {
  const std::vector<char>& regular = plan.group->regular_points();
  const int64_t size = problem.size, order = plan.group->order();
  const auto moved = static_cast<int64_t>(std::count(regular.begin(), regular.end(), 1));
  const int64_t others = problem.classes - moved;
  const int64_t degree = (static_cast<int64_t>(problem.classes - 1) * problem.lambda + size - 2) / (size - 1);
  Needs needs{.places = problem.classes * degree,
              .places_regular = moved * degree,
              .places_other = others * degree,
              .pairs_regular = pairs_of(moved) * problem.lambda,
              .pairs_mixed = moved * others * problem.lambda};
  int64_t bases = 0;
  for (const Kind& kind : plan.kinds) {
    if (kind.images == order) {
      bases += kind.count;
    } else {
      subtract(kind, regular, needs);
    }
  }
  for (int64_t* need :
       {&needs.places, &needs.places_regular, &needs.places_other, &needs.pairs_regular, &needs.pairs_mixed}) {
    *need = *need <= 0 ? 0 : (*need + order - 1) / order;
  }
  return needs.places <= bases * size && free_sets_fit(bases, size, std::min(size, others), needs);
}

}  // namespace tessera::experts
