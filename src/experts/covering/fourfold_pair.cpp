#include "experts/covering/fourfold_pair.h"

#include <algorithm>

#include "experts/covering/restarts.h"
#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

constexpr int kSmallest = 22;
constexpr int64_t kMostBases = 50;     // orbits of sets that an attempt chooses, at most
constexpr int64_t kShortNodes = 8000;  // of the shortest attempt
constexpr size_t kMostOptions = 500'000;
constexpr int kFirstPair = 2, kFirstOther = 10;  // the fourfold pair is {0, 1}, the sets add {2, 3}, {4, 5}, ...

bool has_fourfold_pair(const CoveringProblem& problem) {
  return problem.lambda == 1 && problem.size == 4 && problem.classes >= kSmallest &&
         (problem.classes % 12 == 7 || problem.classes % 12 == 10);
}

Permutation generator(int classes, int turn, bool exchange) {
  Permutation p(static_cast<size_t>(classes));
  if (exchange) {
    p[0] = 1;
    p[1] = 0;
  } else {
    p[0] = 0;
    p[1] = 1;
  }
  for (int pair = 0; pair < 4; ++pair) {
    const int image = turn == 2 || pair == 0 ? pair : pair % 3 + 1;
    for (int i = 0; i < 2; ++i) p[static_cast<size_t>(kFirstPair + 2 * pair + i)] = kFirstPair + 2 * image + 1 - i;
  }
  int first = kFirstOther;
  const auto rotate = [&](int length) {
    for (int x = 0; x < length; ++x) p[static_cast<size_t>(first + x)] = first + (x + 1) % length;
    first += length;
  };
  // An odd number of others: three that the exchange leaves alone.
  if (classes % 2 != 0) {
    for (int i = 0; i < (turn == 2 ? 3 : 1); ++i) rotate(turn / 2);
  }
  while (first < classes) rotate(turn);
  return p;
}

}  // namespace

FourfoldPlan fourfold_plan(int classes, int turn, bool exchange) {
  TESSERA_ASSERT(has_fourfold_pair({.classes = classes, .size = 4}) && (turn == 2 || turn == 6));
  FourfoldPlan plan{.group = PermutationGroup(classes, {generator(classes, turn, exchange)}, "rotation")};
  for (int pair = kFirstPair; pair < kFirstOther; pair += 2) plan.given.push_back({0, 1, pair, pair + 1});
  const auto given = [](int a, int b) { return b < kFirstOther && (a < kFirstPair || (a % 2 == 0 && b == a + 1)); };
  plan.orbits = orbit_options(plan.group, 4, given, kMostOptions);
  return plan;
}

void FourfoldSearch::prepare() {
  prepared_ = true;
  const CoveringProblem& problem = incumbent_.problem();
  if (!has_fourfold_pair(problem)) return;
  for (const int turn : {6, 2}) {
    if (incumbent_.target() > kMostBases * turn) continue;
    // Even numbers of classes have designs of both forms, odd ones showed none that leaves a and b alone.
    FourfoldPlan plan = fourfold_plan(problem.classes, turn, problem.classes % 2 != 0);
    ExactCover cover(plan.orbits.open_classes, plan.orbits.items());
    attempts_.push_back({std::move(plan), std::move(cover)});
  }
}

void FourfoldSearch::run(double seconds) {
  const double until = incumbent_.seconds() + seconds;
  const auto stop = [&] { return incumbent_.stop() || incumbent_.seconds() >= until; };
  if (!prepared_) prepare();
  while (!attempts_.empty() && !stop()) {
    const auto count = static_cast<int64_t>(attempts_.size());
    Attempt& attempt = attempts_[static_cast<size_t>(tried_ % count)];
    const CoverOutcome outcome = attempt.cover.attempt(kShortNodes * restart_length(tried_ / count + 1), random_, stop);
    ++tried_;
    attempt.done = outcome == CoverOutcome::none;
    if (outcome == CoverOutcome::found) {
      Design design{.classes = incumbent_.problem().classes, .sets = attempt.plan.given};
      append_orbits(attempt.plan.group, attempt.plan.orbits, attempt.cover.chosen(), design);
      incumbent_.offer(std::move(design), "one pair in four sets, the others under a " + attempt.plan.group.name());
    }
    std::erase_if(attempts_, [](const Attempt& a) { return a.done; });
  }
}

}  // namespace tessera::experts
