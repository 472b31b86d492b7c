#include "experts/greedy_covering.h"

#include <algorithm>

#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

class Greedy {
 public:
  Greedy(const CoveringProblem& problem, uint64_t seed)
      : problem_(problem),
        classes_(static_cast<size_t>(problem.classes)),
        random_(seed),
        need_(classes_ * classes_, static_cast<uint16_t>(problem.lambda)),
        open_(classes_, static_cast<int64_t>(problem.classes - 1) * problem.lambda),
        total_(static_cast<int64_t>(problem.classes) * (problem.classes - 1) * problem.lambda) {}

  Design run() {
    Design design{.classes = problem_.classes, .sets = {}};
    while (total_ > 0) design.sets.push_back(next_set());
    return design;
  }

 private:
  // The class of largest value, ties at random.
  template <typename Value>
  int best(const Value& value) {
    int chosen = -1;
    int64_t most = 0, ties = 0;
    for (int i = 0; i < problem_.classes; ++i) {
      const int64_t v = value(static_cast<size_t>(i));
      if (v <= 0 || v < most) continue;
      ties = v == most ? ties + 1 : 1;
      most = v;
      if (ties == 1 || random_.below(ties) == 0) chosen = i;
    }
    return chosen;  // -1: no class has a positive value
  }

  std::vector<int> next_set() {
    std::vector<int> set;
    std::vector<int64_t> gain(classes_, 0);  // members of the set with which a class has an open pair; -1 for members
    int next = best([&](size_t i) { return open_[i]; });
    while (next >= 0) {
      const auto added = static_cast<size_t>(next);
      set.push_back(next);
      gain[added] = -1;
      for (size_t i = 0; i < classes_; ++i) {
        if (gain[i] >= 0 && need_[added * classes_ + i] > 0) ++gain[i];
      }
      next = set.size() < static_cast<size_t>(problem_.size) ? best([&](size_t i) { return gain[i]; }) : -1;
    }
    std::sort(set.begin(), set.end());
    cover(set);
    return set;
  }

  void cover(const std::vector<int>& set) {
    for (const int a : set) {
      for (const int b : set) {
        uint16_t& need = need_[static_cast<size_t>(a) * classes_ + static_cast<size_t>(b)];
        if (a == b || need == 0) continue;
        --need;
        --open_[static_cast<size_t>(a)];
        --total_;
      }
    }
  }

  const CoveringProblem& problem_;
  size_t classes_;
  Random random_;
  std::vector<uint16_t> need_;  // [class][class]: how often the pair must still be covered; the diagonal is not used
  std::vector<int64_t> open_;   // [class]: sum of its row of need_ without the diagonal
  int64_t total_;               // sum of open_
};

}  // namespace

Design greedy_covering(const CoveringProblem& problem, uint64_t seed) { return Greedy(problem, seed).run(); }

}  // namespace tessera::experts
