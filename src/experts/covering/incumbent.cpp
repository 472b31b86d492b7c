#include "experts/covering/incumbent.h"

#include <algorithm>
#include <numeric>

#include "tessera/base/interrupt.h"

namespace tessera::experts {
namespace {

constexpr double kReportEvery = 0.2;  // seconds

class PairCounts {
 public:
  explicit PairCounts(int classes) : classes_(static_cast<size_t>(classes)), counts_(classes_ * classes_, 0) {}
  void add(const std::vector<int>& set, int times) {
    for (size_t high = 1; high < set.size(); ++high) {
      for (size_t low = 0; low < high; ++low) at(set[low], set[high]) += times;
    }
  }
  // Pairs of the set that stand in no more than lambda sets.
  int64_t needed(const std::vector<int>& set, int lambda) {
    int64_t needed = 0;
    for (size_t high = 1; high < set.size(); ++high) {
      for (size_t low = 0; low < high; ++low) needed += at(set[low], set[high]) <= lambda ? 1 : 0;
    }
    return needed;
  }

 private:
  int& at(int low, int high) { return counts_[static_cast<size_t>(low) * classes_ + static_cast<size_t>(high)]; }
  size_t classes_;
  std::vector<int> counts_;  // [classes, classes], the upper triangle
};

}  // namespace

void drop_redundant(Design& design, int lambda) {
  PairCounts counts(design.classes);
  for (const std::vector<int>& set : design.sets) counts.add(set, 1);
  std::vector<std::pair<int64_t, size_t>> order;
  for (size_t j = 0; j < design.sets.size(); ++j) order.emplace_back(counts.needed(design.sets[j], lambda), j);
  std::sort(order.begin(), order.end());
  for (const auto& [gain, j] : order) {
    std::vector<int>& set = design.sets[j];
    if (counts.needed(set, lambda) > 0) continue;
    counts.add(set, -1);
    set.clear();
  }
  std::erase_if(design.sets, [](const std::vector<int>& set) { return set.empty(); });
}

Incumbent::Incumbent(const CoveringProblem& problem, const CoveringOptions& options)
    : problem_(problem), options_(options) {
  best_.bound = lower_bound(problem.classes, problem.size, problem.lambda);
  target_ = std::max(best_.bound.sets, options.stop_at);
}

bool Incumbent::offer(Design design, const std::string& method) {
  for (std::vector<int>& set : design.sets) {
    if (set.size() > static_cast<size_t>(problem_.size)) return false;
    std::sort(set.begin(), set.end());
  }
  drop_redundant(design, problem_.lambda);
  if (!best_.design.sets.empty() && design.sets.size() >= best_.design.sets.size()) return false;
  check_design(design);
  if (design.classes != problem_.classes || count_pairs(design, 0).lambda_min < problem_.lambda) return false;
  best_.design = std::move(design);
  best_.method = method;
  best_.seconds = seconds();
  return true;
}

void Incumbent::prove(int64_t sets, const std::string& source) {
  if (sets <= best_.bound.sets) return;
  best_.bound = {sets, source};
  target_ = std::max(target_, sets);
}

bool Incumbent::stop() {
  const double now = seconds();
  if (options_.progress && now >= next_report_) {
    cancelled_ = cancelled_ || !options_.progress(sets(), now, best_.method);
    next_report_ = now + kReportEvery;
  }
  return cancelled_ || reached() || now >= options_.seconds || interrupted();
}

}  // namespace tessera::experts
