// Intervals for scores and robust summaries for timings.
//
//   Interval mean = bootstrap_mean(scores, {.seed = 7});   // 95 % percentile interval of the mean
//   Interval gain = bootstrap_paired_difference(ours, theirs, {});
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tessera {

struct Interval {
  double estimate = 0;
  double lower = 0;
  double upper = 0;
};

struct BootstrapOptions {
  int replicates = 2000;  // >= 1
  double level = 0.95;    // coverage, in (0, 1)
  uint64_t seed = 0;
};

// Percentile bootstrap of the mean (Efron, 1979) over clusters: `clusters[i]` names the group of `values[i]` (the turns
// of one context belong together) and whole groups are resampled. An empty `clusters` makes every value its own group.
// Throws Error(invalid_argument) when values is empty or sizes differ.
Interval bootstrap_mean(std::span<const double> values, const BootstrapOptions& options,
                        std::span<const int64_t> clusters = {});

// The same for the mean of a[i] - b[i].
Interval bootstrap_paired_difference(std::span<const double> a, std::span<const double> b,
                                     const BootstrapOptions& options, std::span<const int64_t> clusters = {});

// q-quantile, 0 <= q <= 1, linear between order statistics (type 7). Values need not be sorted; must not be empty.
double quantile(std::span<const double> values, double q);
inline double median(std::span<const double> values) { return quantile(values, 0.5); }

}  // namespace tessera
