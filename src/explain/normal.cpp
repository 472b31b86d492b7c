#include "explain/normal.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tessera::explain {

double normal_probability(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

double normal_quantile(double p) {
  // Newton on the tail with the better sign; starts from Hastings' approximation (Abramowitz and Stegun 26.2.23).
  const double tail = p < 0.5 ? p : 1 - p;
  const double t = std::sqrt(-2 * std::log(tail));
  double z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
  for (int step = 0; step < 4; ++step) {
    const double density = std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi);
    const double error = 0.5 * std::erfc(z / std::numbers::sqrt2) - tail;
    if (density <= 0) break;
    z += error / density;
  }
  return p < 0.5 ? -z : z;
}

double student_quantile(double p, double freedom) {
  if (freedom < 1.5) return std::tan(std::numbers::pi * (p - 0.5));
  if (freedom < 2.5) {
    const double a = 2 * p - 1;
    return a * std::sqrt(2 / (1 - a * a));
  }
  // Cornish and Fisher's expansion.
  const double z = normal_quantile(p);
  const double z2 = z * z;
  const double g1 = z * (z2 + 1) / 4;
  const double g2 = z * (5 * z2 * z2 + 16 * z2 + 3) / 96;
  const double g3 = z * (3 * z2 * z2 * z2 + 19 * z2 * z2 + 17 * z2 - 15) / 384;
  return z + g1 / freedom + g2 / (freedom * freedom) + g3 / (freedom * freedom * freedom);
}

double conformal_quantile(std::vector<double> scores, double level) {
  const double normal = normal_quantile((1 + level) / 2);
  if (scores.empty()) return normal;
  std::sort(scores.begin(), scores.end());
  const auto count = static_cast<double>(scores.size());
  const double rank = std::ceil(level * (count + 1));
  if (rank <= count) return scores[static_cast<size_t>(rank) - 1];
  return scores.back() * std::max(1.0, normal / normal_quantile((1 + count / (count + 1)) / 2));
}

int64_t records_for(double level) { return static_cast<int64_t>(std::ceil(level / (1 - level) - 1e-9)); }

}  // namespace tessera::explain
