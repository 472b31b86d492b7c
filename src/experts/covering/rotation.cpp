#include "experts/covering/rotation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

namespace tessera::experts {
namespace {

constexpr int64_t kMostShort = 4;  // base sets with few images in one plan

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t pairs_of(int64_t n) { return n * (n - 1) / 2; }

std::vector<std::vector<int>> single_points(int count) {
  std::vector<std::vector<int>> units(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) units[static_cast<size_t>(i)] = {i};
  return units;
}

// Orbits of the rotating points of one cycle under the subgroup of order s.
void add_orbits(int cycle, int turn, int s, std::vector<std::vector<int>>& units) {
  for (int x = 0; x < turn / s; ++x) {
    units.emplace_back();
    for (int i = 0; i < s; ++i) units.back().push_back(cycle * turn + x + i * (turn / s));
  }
}

// The least order s > 1 of a subgroup whose orbits make sets with a fixed point that meet every rotating point once;
// size or more: there is none.
int order_with_fixed_point(const Rotation& rotation, int size) {
  const int others = size - 1;
  int s = 2;
  while (s <= others && (others % s != 0 || rotation.turn % s != 0 || rotation.cycles * s % others != 0)) ++s;
  return s;
}

// The base sets that meet the hole. Empty when a fixed point cannot meet every rotating point just once.
std::vector<Kind> hole_kinds(const Rotation& rotation, int size) {
  const int others = size - 1;
  std::vector<Kind> kinds;
  int first = rotation.moving() + rotation.centre;
  bool short_used = false;
  for (const int length : rotation.hole) {
    Kind kind{.images = rotation.turn, .longer = others, .shorter = 1, .short_units = {{first}}};
    first += length;
    if (rotation.cycles * length % others == 0) {
      kind.count = rotation.cycles * length / others;
      kind.long_units = single_points(rotation.moving());
      kinds.push_back(std::move(kind));
      continue;
    }
    // A fixed point with orbits of a subgroup: turn / s images each.
    const int s = order_with_fixed_point(rotation, size);
    if (length > 1 || short_used || s > others) return {};
    short_used = true;
    kind.images = rotation.turn / s;
    kind.longer = others / s;
    kind.count = rotation.cycles * s / others;
    for (int c = 0; c < rotation.cycles; ++c) {
      if (kind.longer == 1) kind.long_units.clear();  // one set for each cycle
      add_orbits(c, rotation.turn, s, kind.long_units);
      if (kind.longer > 1) continue;
      kind.long_units.resize(1);  // all others are its images
      kind.count = 1;
      kinds.push_back(kind);
    }
    if (kind.longer > 1) kinds.push_back(std::move(kind));
  }
  return kinds;
}

// Under a single cycle, a difference that every cycle of the hole maps to 0 must come from sets without the hole.
bool differences_fit(const Rotation& rotation, int size, int64_t pure_sets) {
  if (rotation.cycles > 1 || rotation.hole.empty()) return true;
  const int s = order_with_fixed_point(rotation, size);
  const auto meets = [&](int length, int x) {
    if (length > 1) return x % length != 0;
    return s < size - 1 || x % (rotation.turn / s) == 0;  // sets of a fixed point: of one orbit, or of several
  };
  int64_t differences = 0;
  for (int x = 1; x < rotation.turn; ++x) {
    const bool in_group = rotation.groups > 1 && x % rotation.groups == 0;
    const bool outside =
        std::any_of(rotation.hole.begin(), rotation.hole.end(), [&](int length) { return meets(length, x); });
    differences += in_group || outside ? 0 : 1;
  }
  return differences * rotation.turn <= pure_sets * size * (size - 1);
}

}  // namespace

int Rotation::hole_points() const { return std::accumulate(hole.begin(), hole.end(), 0); }

bool Rotation::left_open(int a, int b) const {
  const int first = moving() + centre;
  if (a >= moving() || b >= moving()) return a >= first && b >= first;
  if (cycles_are_groups) return a / turn == b / turn;
  return groups > 1 && a % turn % groups == b % turn % groups;
}

int64_t Rotation::pairs() const {
  const int64_t within = groups > 1 ? groups * pairs_of(moving() / groups) : 0;
  return pairs_of(points()) - pairs_of(hole_points()) - within;
}

PermutationGroup Rotation::group() const {
  Permutation p(static_cast<size_t>(points()));
  std::iota(p.begin(), p.end(), 0);
  const auto rotate = [&](int first, int length) {
    for (int x = 0; x < length; ++x) p[static_cast<size_t>(first + x)] = first + (x + 1) % length;
  };
  for (int c = 0; c < cycles; ++c) rotate(c * turn, turn);
  int first = moving() + centre;
  for (const int length : hole) {
    rotate(first, length);
    first += length;
  }
  std::string name = fmt::format("rotation of {} cycles of {}", cycles, turn);
  if (groups > 1) name += fmt::format(" in {} groups", groups);
  if (centre > 0) name += fmt::format(" and {} fixed", centre);
  if (!hole.empty()) name += fmt::format(", a hole in cycles of {}", fmt::join(hole, " "));
  return {points(), {p}, std::move(name)};
}

std::vector<Plan> rotation_plans(const Rotation& rotation, const PermutationGroup& group, int size, int64_t sets) {
  if (rotation.free_form || rotation.centre > 0) {
    std::vector<Plan> plans;
    add_plans(group, {.classes = rotation.points(), .size = size}, {.low = sets, .high = sets}, plans);
    return plans;
  }
  std::vector<Kind> kinds = hole_kinds(rotation, size);
  if (kinds.empty() && !rotation.hole.empty()) return {};
  int64_t used = 0;
  for (const Kind& kind : kinds) used += kind.count * kind.images;
  const int64_t left = sets - used, turn = rotation.turn;
  if (left < 0 || !differences_fit(rotation, size, left)) return {};
  std::vector<Plan> plans;
  const auto add = [&](int64_t full, const Kind* rest) {
    Plan plan{.group = &group, .kinds = kinds, .sets = used + full * turn};
    if (full > 0) {
      plan.kinds.push_back({.count = static_cast<int>(full), .images = rotation.turn, .longer = size});
      plan.kinds.back().long_units = single_points(rotation.moving());
    }
    if (rest != nullptr) {
      plan.kinds.push_back(*rest);
      plan.sets += static_cast<int64_t>(rest->count) * rest->images;
    }
    if (plan.sets * pairs_of(size) >= rotation.pairs() && !plan.kinds.empty()) plans.push_back(std::move(plan));
  };
  add(left / turn, nullptr);
  for (int s = 2; s <= size; ++s) {
    if (size % s != 0 || turn % s != 0) continue;
    const int64_t images = turn / s;
    Kind kind{.images = static_cast<int>(images), .longer = size / s};
    for (int c = 0; c < rotation.cycles; ++c) add_orbits(c, rotation.turn, s, kind.long_units);
    for (int64_t full = left / turn; full >= std::max<int64_t>(0, left / turn - 1); --full) {
      kind.count = static_cast<int>((left - full * turn) / images);
      if (kind.count >= 1 && kind.count <= kMostShort) add(full, &kind);
    }
  }
  return plans;
}

std::vector<std::vector<int>> hole_cycles(int points, int cycles, int turn, int size) {
  const int others = size - 1;
  std::vector<std::vector<int>> found;
  const int most_fixed = cycles % others == 0 ? std::min(points, 2 * size) : std::min(points, 1);
  std::vector<int> lengths;
  for (int length = turn; length >= 2; --length) {
    if (turn % length == 0 && cycles * length % others == 0) lengths.push_back(length);
  }
  for (int fixed = 0; fixed <= most_fixed; ++fixed) {
    const auto finish = [&](std::vector<int> hole) {
      hole.insert(hole.end(), static_cast<size_t>(fixed), 1);
      found.push_back(std::move(hole));
    };
    const int rest = points - fixed;
    if (rest == 0) finish({});
    for (const int length : lengths) {
      if (rest == 0 || length > rest) continue;
      std::vector<int> hole(static_cast<size_t>(rest / length), length);
      if (rest % length == 0) finish(hole);
      for (const int second : lengths) {
        if (second >= length || rest % length == 0 || rest % length % second != 0) continue;
        std::vector<int> both = hole;
        both.insert(both.end(), static_cast<size_t>(rest % length / second), second);
        finish(std::move(both));
      }
    }
  }
  return found;
}

int64_t hole_bound(int classes, int hole, int size) {
  if (hole <= 1) return classes <= 1 ? 0 : lower_bound(classes, size, 1).sets;
  const int64_t outside = classes - hole;
  const int64_t places = outside * ceil_div(classes - 1, size - 1) + hole * ceil_div(outside, size - 1);
  const int64_t counted =
      std::max(ceil_div(places, size), ceil_div(pairs_of(classes) - pairs_of(hole), pairs_of(size)));
  // One set more covers a hole of `size` classes or fewer.
  return hole > size || classes <= size ? counted : std::max(counted, lower_bound(classes, size, 1).sets - 1);
}

}  // namespace tessera::experts
