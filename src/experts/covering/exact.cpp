#include "experts/covering/exact.h"

#include <algorithm>
#include <bit>

#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

constexpr int64_t kStepsPerQuestion = 4096;

class ExactSearch {
 public:
  ExactSearch(const CoveringProblem& problem, int sets, const std::function<bool()>& stop)
      : k_(problem.classes),
        r_(problem.size),
        lambda_(problem.lambda),
        sets_(sets),
        stop_(stop),
        least_degree_((lambda_ * (k_ - 1) + r_ - 2) / (r_ - 1)),
        room_(static_cast<size_t>(sets), r_),
        rows_(static_cast<size_t>(k_), 0) {}

  ExactResult run() {
    ExactResult result;
    const bool found = place(0, least_degree_, {true});
    result.outcome = found ? ExactOutcome::found : stopped_ ? ExactOutcome::stopped : ExactOutcome::none;
    if (!found) return result;
    result.design = {.classes = k_, .sets = std::vector<std::vector<int>>(static_cast<size_t>(sets_))};
    for (int i = 0; i < k_; ++i) {
      for (int j = 0; j < sets_; ++j) {
        if (has(rows_[static_cast<size_t>(i)], j)) result.design.sets[static_cast<size_t>(j)].push_back(i);
      }
    }
    std::erase_if(result.design.sets, [](const std::vector<int>& set) { return set.empty(); });
    return result;
  }

 private:
  // Set 0 is the highest bit, so that rows compare as numbers.
  uint32_t bit(int set) const { return uint32_t{1} << (kMostExactSets - 1 - set); }
  bool has(uint32_t row, int set) const { return (row & bit(set)) != 0; }

  // Class `row` and all later ones, of degree `degree` or more. starts[j]: set j differs from set j - 1 in some row.
  bool place(int row, int degree, std::vector<bool> starts) {
    if (row == k_) return true;
    starts.resize(static_cast<size_t>(sets_), false);
    int64_t room = 0;
    for (const int left : room_) room += left;
    for (int d = degree; d <= sets_ && static_cast<int64_t>(d) * (k_ - row) <= room; ++d) {
      if (choose({row, d, starts}, 0, d, 0)) return true;
      if (stopped_) return false;
    }
    return false;
  }

  struct Row {
    int number, degree;
    const std::vector<bool>& starts;
  };

  // Sets from `first` on for the row, `left` of them.
  bool choose(const Row& row, int first, int left, uint32_t mask) {
    if (++steps_ % kStepsPerQuestion == 0) stopped_ = stopped_ || stop_();
    if (stopped_) return false;
    if (left == 0) return accept(row, mask);
    for (int j = first; j + left <= sets_; ++j) {
      // Sets that no row tells apart are taken from the first on, so a set left out closes its run.
      const bool free = row.starts[static_cast<size_t>(j)] || (j > 0 && has(mask, j - 1));
      if (!free || room_[static_cast<size_t>(j)] == 0) continue;
      if (choose(row, j + 1, left - 1, mask | bit(j))) return true;
    }
    return false;
  }

  bool accept(const Row& row, uint32_t mask) {
    const auto number = static_cast<size_t>(row.number);
    if (row.number > 0) {
      const uint32_t above = rows_[number - 1];
      if (std::popcount(above) == row.degree && mask > above) return false;
    }
    for (size_t i = 0; i < number; ++i) {
      if (std::popcount(rows_[i] & mask) < lambda_) return false;
    }
    rows_[number] = mask;
    take(mask, -1);
    bool found = false;
    if (enough_room(row.number + 1)) {
      std::vector<bool> starts = row.starts;
      for (int j = 1; j < sets_; ++j) {
        if (has(mask, j) != has(mask, j - 1)) starts[static_cast<size_t>(j)] = true;
      }
      found = place(row.number + 1, row.degree, std::move(starts));
    }
    if (!found) take(mask, 1);
    return found;
  }

  void take(uint32_t mask, int by) {
    for (int j = 0; j < sets_; ++j) {
      if (has(mask, j)) room_[static_cast<size_t>(j)] += by;
    }
  }

  // Every class placed must still meet all later ones.
  bool enough_room(int placed) const {
    const int later = k_ - placed;
    for (int i = 0; i < placed; ++i) {
      int room = 0;
      for (int j = 0; j < sets_; ++j) {
        if (has(rows_[static_cast<size_t>(i)], j)) room += std::min(room_[static_cast<size_t>(j)], later);
      }
      if (room < lambda_ * later) return false;
    }
    return true;
  }

  const int k_, r_, lambda_, sets_;
  const std::function<bool()>& stop_;
  const int least_degree_;
  std::vector<int> room_;       // [sets]: classes that still fit
  std::vector<uint32_t> rows_;  // [classes]: the sets of each
  int64_t steps_ = 0;
  bool stopped_ = false;
};

}  // namespace

ExactResult search_exactly(const CoveringProblem& problem, int sets, const std::function<bool()>& stop) {
  TESSERA_ASSERT(problem.size >= 2 && problem.size < problem.classes && problem.classes <= kMostExactClasses);
  TESSERA_ASSERT(sets >= 1 && sets <= kMostExactSets);
  return ExactSearch(problem, sets, stop).run();
}

}  // namespace tessera::experts
