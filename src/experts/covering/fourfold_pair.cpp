#include "experts/covering/fourfold_pair.h"

#include <algorithm>
#include <array>
#include <map>

#include "experts/covering/restarts.h"
#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

constexpr int kSmallest = 22;
constexpr int64_t kMostBases = 50;               // orbits of sets that an attempt chooses, at most
constexpr int64_t kShortNodes = 8000;            // of the shortest attempt
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

class Orbits {
 public:
  explicit Orbits(FourfoldPlan& plan)
      : plan_(plan), points_(plan.group.points()), pairs_(plan.group.pair_classes()), open_(pairs_.size.size(), 0) {
    for (const std::vector<int>& set : plan.given) {
      for (size_t i = 0; i < set.size(); ++i) {
        for (size_t j = 0; j < i; ++j) open_[pair_class(set[j], set[i])] = -1;
      }
    }
    for (int& number : open_) {
      if (number == 0) number = plan.open_classes++;
    }
  }

  // Every orbit has one set that holds the first pair of its first class of pairs.
  void collect() {
    std::vector<char> seen(open_.size(), 0);
    for (int a = 0; a < points_; ++a) {
      for (int b = a + 1; b < points_; ++b) {
        const size_t first = pair_class(a, b);
        if (open_[first] < 0 || seen[first] != 0) continue;
        seen[first] = 1;
        add_sets_with(a, b, first);
      }
    }
  }

 private:
  size_t pair_class(int a, int b) const {
    return static_cast<size_t>(
        pairs_.of[static_cast<size_t>(a) * static_cast<size_t>(points_) + static_cast<size_t>(b)]);
  }

  void add_sets_with(int a, int b, size_t first) {
    std::vector<int> partners;
    const auto fits = [&](int x, int y) { return open_[pair_class(x, y)] >= 0 && pair_class(x, y) >= first; };
    for (int x = 0; x < points_; ++x) {
      if (x != a && x != b && fits(a, x) && fits(b, x)) partners.push_back(x);
    }
    for (size_t i = 0; i < partners.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (fits(partners[j], partners[i])) add({a, b, partners[j], partners[i]});
      }
    }
  }

  // Unless its images cover some pair twice.
  void add(const std::array<int, 4>& set) {
    std::map<size_t, int> held;
    for (size_t i = 0; i < set.size(); ++i) {
      for (size_t j = 0; j < i; ++j) ++held[pair_class(set[i], set[j])];
    }
    const std::vector<int> base(set.begin(), set.end());
    int images = plan_.group.order();
    const auto once = [&] {
      return std::all_of(held.begin(), held.end(),
                         [&](const auto& item) { return item.second * images == pairs_.size[item.first]; });
    };
    if (!once()) {  // a set that some of the group leaves alone has fewer images
      images = static_cast<int>(plan_.group.images(base).size());
      if (images == plan_.group.order() || !once()) return;
    }
    plan_.bases.push_back(base);
    plan_.classes.emplace_back();
    for (const auto& [number, count] : held) plan_.classes.back().push_back(open_[number]);
  }

  FourfoldPlan& plan_;
  int points_;
  PermutationGroup::PairClasses pairs_;
  std::vector<int> open_;  // [pair classes]: number among those to be covered; -1: the given sets cover it
};

}  // namespace

FourfoldPlan fourfold_plan(int classes, int turn, bool exchange) {
  TESSERA_ASSERT(has_fourfold_pair({.classes = classes, .size = 4}) && (turn == 2 || turn == 6));
  FourfoldPlan plan{.group = PermutationGroup(classes, {generator(classes, turn, exchange)}, "rotation")};
  for (int pair = kFirstPair; pair < kFirstOther; pair += 2) plan.given.push_back({0, 1, pair, pair + 1});
  Orbits(plan).collect();
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
    ExactCover cover(plan.open_classes, plan.classes);
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
      for (const size_t base : attempt.cover.chosen()) {
        for (std::vector<int>& image : attempt.plan.group.images(attempt.plan.bases[base])) {
          design.sets.push_back(std::move(image));
        }
      }
      incumbent_.offer(std::move(design), "one pair in four sets, the others under a " + attempt.plan.group.name());
    }
    std::erase_if(attempts_, [](const Attempt& a) { return a.done; });
  }
}

}  // namespace tessera::experts
