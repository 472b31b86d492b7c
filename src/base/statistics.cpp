#include "tessera/base/statistics.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "tessera/base/error.h"
#include "tessera/base/random.h"

namespace tessera {
namespace {

struct Group {
  double sum = 0;
  double count = 0;
};

std::vector<Group> group_by_cluster(std::span<const double> values, std::span<const int64_t> clusters) {
  if (values.empty()) throw Error(ErrorCode::invalid_argument, "bootstrap: expected at least one value, found none");
  if (!clusters.empty() && clusters.size() != values.size()) {
    throw Error(ErrorCode::invalid_argument, "bootstrap: {} values but {} cluster names", values.size(), clusters.size());
  }
  std::map<int64_t, Group> groups;
  for (size_t i = 0; i < values.size(); ++i) {
    Group& group = groups[clusters.empty() ? static_cast<int64_t>(i) : clusters[i]];
    group.sum += values[i];
    group.count += 1;
  }
  std::vector<Group> result;
  for (const auto& [name, group] : groups) result.push_back(group);
  return result;
}

}  // namespace

double quantile(std::span<const double> values, double q) {
  TESSERA_ASSERT(!values.empty() && q >= 0 && q <= 1);
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Interval bootstrap_mean(std::span<const double> values, const BootstrapOptions& options,
                        std::span<const int64_t> clusters) {
  if (options.replicates < 1 || !(options.level > 0 && options.level < 1)) {
    throw Error(ErrorCode::invalid_argument, "bootstrap: expected replicates >= 1 and 0 < level < 1, found {} and {}",
                options.replicates, options.level);
  }
  const std::vector<Group> groups = group_by_cluster(values, clusters);
  Random random(options.seed);
  std::vector<double> means(static_cast<size_t>(options.replicates));
  for (double& mean : means) {
    Group total;
    for (size_t i = 0; i < groups.size(); ++i) {
      const Group& drawn = groups[static_cast<size_t>(random.below(static_cast<int64_t>(groups.size())))];
      total.sum += drawn.sum;
      total.count += drawn.count;
    }
    mean = total.sum / total.count;
  }
  const double tail = (1 - options.level) / 2;
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  return {mean, quantile(means, tail), quantile(means, 1 - tail)};
}

Interval bootstrap_paired_difference(std::span<const double> a, std::span<const double> b,
                                     const BootstrapOptions& options, std::span<const int64_t> clusters) {
  if (a.size() != b.size()) {
    throw Error(ErrorCode::invalid_argument, "paired difference: expected equal counts, found {} and {}", a.size(), b.size());
  }
  std::vector<double> differences(a.size());
  std::transform(a.begin(), a.end(), b.begin(), differences.begin(), std::minus<>());
  return bootstrap_mean(differences, options, clusters);
}

}  // namespace tessera
