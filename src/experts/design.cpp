#include "tessera/experts/design.h"

#include <algorithm>

#include "tessera/base/error.h"

namespace tessera::experts {

void check_design(const Design& design) {
  if (design.classes < 1 || design.classes > kMaxClasses) {
    throw Error(ErrorCode::invalid_argument, "a design needs 1 to {} classes, found {}", kMaxClasses, design.classes);
  }
  for (size_t j = 0; j < design.sets.size(); ++j) {
    int previous = -1;
    for (const int item : design.sets[j]) {
      if (item <= previous || item >= design.classes) {
        throw Error(ErrorCode::invalid_argument,
                    "set {} of the design: expected ascending classes in 0..{}, found {} after {}", j,
                    design.classes - 1, item, previous);
      }
      previous = item;
    }
    if (previous < 0) throw Error(ErrorCode::invalid_argument, "set {} of the design holds no class", j);
  }
}

PairCoverage count_pairs(const Design& design, int64_t max_listed) {
  const auto classes = static_cast<size_t>(design.classes);
  std::vector<int> degree(classes, 0);
  std::vector<int> pairs(classes * (classes - 1) / 2, 0);  // (a, b), a < b, at b (b - 1) / 2 + a
  PairCoverage coverage;
  coverage.size_min = design.sets.empty() ? 0 : design.classes;
  for (const std::vector<int>& set : design.sets) {
    const auto size = static_cast<int>(set.size());
    coverage.size_min = std::min(coverage.size_min, size);
    coverage.size_max = std::max(coverage.size_max, size);
    coverage.incidences += size;
    for (size_t high = 0; high < set.size(); ++high) {
      const auto b = static_cast<size_t>(set[high]);
      ++degree[b];
      for (size_t low = 0; low < high; ++low) ++pairs[b * (b - 1) / 2 + static_cast<size_t>(set[low])];
    }
  }
  if (classes > 0) {
    const auto [low, high] = std::minmax_element(degree.begin(), degree.end());
    coverage.degree_min = *low;
    coverage.degree_max = *high;
  }
  if (pairs.empty()) return coverage;
  const auto [low, high] = std::minmax_element(pairs.begin(), pairs.end());
  coverage.lambda_min = *low;
  coverage.lambda_max = *high;
  coverage.uncovered = std::count(pairs.begin(), pairs.end(), 0);
  for (int a = 0; a < design.classes && coverage.uncovered > 0; ++a) {
    for (int b = a + 1; b < design.classes; ++b) {
      if (static_cast<int64_t>(coverage.uncovered_pairs.size()) >= max_listed) return coverage;
      const auto at = static_cast<size_t>(b) * static_cast<size_t>(b - 1) / 2 + static_cast<size_t>(a);
      if (pairs[at] == 0) coverage.uncovered_pairs.emplace_back(a, b);
    }
  }
  return coverage;
}

}  // namespace tessera::experts
