// What the benchmarks share: CPU time of one piece of work, and the summary of repeated measurements.
//
//   std::vector<double> seconds;
//   for (int i = 0; i < repeats; ++i) seconds.push_back(bench::cpu_seconds([&] { attend(...); }));
//   json["seconds"] = bench::spread(seconds);
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "fma_peak.h"
#include "tessera/base/statistics.h"

namespace tessera::bench {

// CPU seconds that the calling thread spends in work().
template <typename Work>
double cpu_seconds(const Work& work) {
  const double start = thread_cpu_seconds();
  work();
  return thread_cpu_seconds() - start;
}

// Median, first and last decile, and the number of measurements.
inline nlohmann::json spread(const std::vector<double>& values) {
  return {{"median", median(values)},
          {"low", quantile(values, 0.1)},
          {"high", quantile(values, 0.9)},
          {"repeats", values.size()}};
}

}  // namespace tessera::bench
