#include "explain/kernel_likelihood.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessera::explain {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double deviance(const Kernel& kernel, const std::vector<KernelBlock>& blocks) {
  double sum = 0;
  for (const KernelBlock& block : blocks) {
    const KernelFit fit(kernel, block.points, block.output);
    if (!fit.valid()) return kInfinity;
    sum += fit.deviance();
  }
  return sum;
}

// The best of a few isotropic kernels; returns its deviance.
double coarse_search(Kernel& kernel, const std::vector<KernelBlock>& blocks, const std::vector<double>& unit) {
  const double root = std::sqrt(static_cast<double>(std::max<size_t>(1, unit.size())));
  double value = kInfinity;
  Kernel start = kernel;
  for (const double multiple : {0.15, 0.3, 0.6, 1.2, 3.0}) {
    for (const double nugget : {kSmallestNugget, 1e-3, 0.1}) {
      start.nugget = nugget;
      for (size_t c = 0; c < unit.size(); ++c) start.length[c] = unit[c] * multiple * root;
      const double found = deviance(start, blocks);
      if (found < value) {
        value = found;
        kernel = start;
      }
    }
  }
  return value;
}

// Coordinate search on log scale: few, robust evaluations; the likelihood is flat near its top.
double refine(Kernel& kernel, double value, const std::vector<KernelBlock>& blocks, bool with_penalties) {
  const size_t lengths = kernel.length.size(), penalties = with_penalties ? kernel.penalty.size() : 0;
  for (const double step : {2.0, 1.4, 1.15}) {
    for (size_t k = 0; k < lengths + penalties + 1; ++k) {
      const bool nugget = k == lengths + penalties;
      double& parameter = k < lengths ? kernel.length[k] : nugget ? kernel.nugget : kernel.penalty[k - lengths];
      const double factor = nugget ? step * step * step : k < lengths ? step : step * step;
      for (const double direction : {factor, 1 / factor}) {
        for (int repeat = 0; repeat < 3; ++repeat) {
          const double before = parameter;
          parameter = std::max(before * direction, nugget ? kSmallestNugget : 1e-6 * before);
          const double found = parameter == before ? value : deviance(kernel, blocks);
          if (!(found < value - 1e-3)) {
            parameter = before;
            break;
          }
          value = found;
        }
      }
    }
  }
  return value;
}

}  // namespace

Kernel most_likely_kernel(const std::vector<KernelBlock>& blocks, const std::vector<double>& unit,
                          const std::vector<Smoothness>& kinds, bool with_penalties) {
  Kernel best;
  double best_value = kInfinity;
  for (const Smoothness kind : kinds) {
    Kernel kernel;
    kernel.smoothness = kind;
    kernel.length = unit;
    kernel.penalty.assign(static_cast<size_t>(blocks[0].points.categorical), 1.0);
    const double value = refine(kernel, coarse_search(kernel, blocks, unit), blocks, with_penalties);
    if (value < best_value || best.length.empty()) {
      best_value = value;
      best = kernel;
    }
  }
  if (!std::isfinite(best_value)) {  // flat or degenerate: plain smoothing
    best.nugget = 1;
    best.length = unit;
    best.penalty.assign(best.penalty.size(), 1.0);
  }
  return best;
}

double left_out_ratio(const std::vector<KernelBlock>& blocks, const Kernel& kernel) {
  Kernel plain = kernel;
  plain.nugget = 1e4;
  double error = 0, trend = 0;
  for (const KernelBlock& block : blocks) {
    const KernelFit fit(kernel, block.points, block.output), linear(plain, block.points, block.output);
    if (!fit.valid() || !linear.valid()) continue;
    for (int64_t i = 0; i < block.output.size(); i += 1 + block.output.size() / 100) {
      error += std::pow(fit.left_out(i).value, 2);
      trend += std::pow(linear.left_out(i).value, 2);
    }
  }
  return trend > 0 ? error / trend : 1;
}

}  // namespace tessera::explain
