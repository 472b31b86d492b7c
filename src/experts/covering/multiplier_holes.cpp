#include "experts/covering/multiplier_holes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "experts/covering/restarts.h"

namespace tessera::experts {
namespace {

constexpr double kMostBases = 15;        // orbits of sets, about
constexpr int64_t kShortNodes = 1000;    // of the shortest attempt
constexpr size_t kMostOptions = 60'000;  // of one layout
constexpr double kMostSets = 1e6;        // looked at to find the options
constexpr int kSmallestTurn = 5;

int64_t pairs_of(int64_t n) { return n * (n - 1) / 2; }

// The least m of exactly this multiplicative order; 0: there is none.
int element_of_order(int order, int n) {
  for (int m = 2; m < n; ++m) {
    int64_t power = m;
    int steps = 1;
    for (; power != 1 && steps < order; ++steps) power = power * m % n;
    if (steps == order && power == 1) return m;
  }
  return 0;
}

// Sets outside the hole when every pair but those of the hole is in one; 0: numbers do not allow it.
int64_t exact_sets(const MultiplierLayout& layout) {
  const int v = layout.points(), h = layout.hole_points(), others = layout.size - 1;
  if ((v - 1) % others != 0 || (h > 0 && (v - h) % others != 0) || h * others + 1 > v) return 0;
  const int64_t pairs = pairs_of(v) - pairs_of(h);
  return pairs % pairs_of(layout.size) == 0 ? pairs / pairs_of(layout.size) : 0;
}

double base_sets(const MultiplierLayout& layout) {
  return static_cast<double>(exact_sets(layout)) / (layout.turn * (layout.size - 1));
}

}  // namespace

PermutationGroup MultiplierLayout::group() const {
  const auto points_count = static_cast<size_t>(points());
  Permutation rotation(points_count), multiplied(points_count);
  const int others = size - 1;
  for (int c = 0; c < cycles + in_hole; ++c) {
    const int to = c < cycles ? c / others * others + (c % others + 1) % others : c;
    for (int x = 0; x < turn; ++x) {
      const auto at = static_cast<size_t>(c * turn + x);
      rotation[at] = c * turn + (x + 1) % turn;
      multiplied[at] = to * turn + multiplier * x % turn;
    }
  }
  const int first = (cycles + in_hole) * turn;
  for (int i = 0; i < fixed; ++i) {
    const bool turns = i < fixed / others * others;
    rotation[static_cast<size_t>(first + i)] = first + i;
    multiplied[static_cast<size_t>(first + i)] = first + (turns ? i / others * others + (i + 1) % others : i);
  }
  return {points(),
          {rotation, multiplied},
          fmt::format("rotation of {} cycles of {} with multiplier {}", cycles, turn, multiplier)};
}

std::vector<MultiplierLayout> multiplier_layouts(int classes, int size) {
  std::vector<MultiplierLayout> layouts;
  const int others = size - 1;
  if (others < 2) return layouts;
  for (int turn = kSmallestTurn; turn * others <= classes; ++turn) {
    const int multiplier = element_of_order(others, turn);
    if (multiplier == 0) continue;
    for (int cycles = others; cycles * turn <= classes; cycles += others) {
      const int hole = classes - cycles * turn;
      for (int in_hole = 0; in_hole * turn <= hole; ++in_hole) {
        const MultiplierLayout layout{.size = size,
                                      .turn = turn,
                                      .cycles = cycles,
                                      .in_hole = in_hole,
                                      .fixed = hole - in_hole * turn,
                                      .multiplier = multiplier};
        if (layout.fixed % others > 1 || exact_sets(layout) == 0 || base_sets(layout) > kMostBases) continue;
        // A point that stands still meets each cycle of the others once, in a set with one point of each.
        if (layout.fixed > turn * cycles / others) continue;
        const double orbits_of_pairs = static_cast<double>(pairs_of(classes)) / (turn * others);
        const double third = size > 3 ? std::pow(classes, size - 2) / std::tgamma(size - 1) : classes;
        if (orbits_of_pairs * third / pairs_of(size) <= kMostSets) layouts.push_back(layout);
      }
    }
  }
  std::stable_sort(layouts.begin(), layouts.end(),
                   [](const MultiplierLayout& a, const MultiplierLayout& b) { return base_sets(a) < base_sets(b); });
  return layouts;
}

void MultiplierSearch::prepare() {
  round_ = 1;
  const CoveringProblem& problem = incumbent_.problem();
  if (problem.lambda != 1) return;
  for (const MultiplierLayout& layout : multiplier_layouts(problem.classes, problem.size)) {
    const int hole = layout.hole_points();
    const int64_t filling = hole <= 1 ? 0 : parts_.covering_sets(hole, problem.size);
    if (exact_sets(layout) + filling <= incumbent_.target()) attempts_.push_back({.layout = layout});
  }
}

void MultiplierSearch::go_on(Attempt& attempt, int64_t nodes, const std::function<bool()>& stop) {
  const MultiplierLayout& layout = attempt.layout;
  const int first = layout.cycles * layout.turn, hole = layout.hole_points();
  if (attempt.cover == nullptr) {
    attempt.group = std::make_unique<PermutationGroup>(layout.group());
    attempt.orbits = orbit_options(
        *attempt.group, layout.size, [&](int a, int b) { return a >= first && b >= first; }, kMostOptions);
    attempt.cover = std::make_unique<ExactCover>(attempt.orbits.open_classes, attempt.orbits.items());
  }
  const CoverOutcome outcome = attempt.cover->attempt(nodes, random_, stop);
  attempt.done = outcome == CoverOutcome::none;
  if (outcome != CoverOutcome::found) return;
  Design design{.classes = layout.points(), .sets = {}};
  append_orbits(*attempt.group, attempt.orbits, attempt.cover->chosen(), design);
  if (hole > 1) {
    for (std::vector<int> set : parts_.covering(hole, layout.size, static_cast<int>(round_)).sets) {
      for (int& item : set) item += first;
      design.sets.push_back(std::move(set));
    }
  }
  incumbent_.offer(std::move(design), fmt::format("{} around a hole of {}", attempt.group->name(), hole));
}

void MultiplierSearch::run(double seconds) {
  const double until = incumbent_.seconds() + seconds;
  const auto stop = [&] { return incumbent_.stop() || incumbent_.seconds() >= until; };
  if (round_ == 0) prepare();
  while (!attempts_.empty() && !stop()) {
    if (next_ >= attempts_.size()) {
      next_ = 0;
      ++round_;
    }
    Attempt& attempt = attempts_[next_];
    go_on(attempt, kShortNodes * restart_length(round_), stop);
    if (attempt.done) {
      attempts_.erase(attempts_.begin() + static_cast<int64_t>(next_));
    } else {
      ++next_;
    }
  }
}

}  // namespace tessera::experts
