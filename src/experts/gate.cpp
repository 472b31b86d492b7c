#include "tessera/experts/gate.h"

#include <algorithm>
#include <cmath>

#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

constexpr double kPriorVariance = 100;
constexpr int kNewtonSteps = 50;
constexpr double kOpen = 40;  // offset of a gate that is open whatever the evidence

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

struct Curve {
  double slope = 0, offset = 0;
};

// x: standardised evidence; y: whether the expert knows the class. Newton with halved steps; the objective is convex.
Curve fit_curve(const std::vector<double>& x, const std::vector<bool>& y) {
  const auto loss = [&](const Curve& c) {
    double sum = (c.slope * c.slope + c.offset * c.offset) / (2 * kPriorVariance);
    for (size_t i = 0; i < x.size(); ++i) {
      const double z = (y[i] ? -1 : 1) * (c.slope * x[i] + c.offset);
      sum += z > 30 ? z : std::log1p(std::exp(z));
    }
    return sum;
  };
  Curve curve;
  double current = loss(curve);
  for (int step = 0; step < kNewtonSteps; ++step) {
    double g1 = curve.slope / kPriorVariance, g0 = curve.offset / kPriorVariance;
    double h11 = 1 / kPriorVariance, h00 = 1 / kPriorVariance, h10 = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double p = logistic(curve.slope * x[i] + curve.offset), w = p * (1 - p), gap = p - (y[i] ? 1 : 0);
      g1 += gap * x[i], g0 += gap, h11 += w * x[i] * x[i], h10 += w * x[i], h00 += w;
    }
    const double determinant = h11 * h00 - h10 * h10;
    const double d1 = (h00 * g1 - h10 * g0) / determinant, d0 = (h11 * g0 - h10 * g1) / determinant;
    double size = 1;
    Curve next = curve;
    double value = current;
    for (; size > 1e-6; size /= 2) {
      next = {curve.slope - size * d1, curve.offset - size * d0};
      if ((value = loss(next)) <= current) break;
    }
    const bool settled = current - value < 1e-10 * (1 + current);
    if (value <= current) curve = next, current = value;
    if (settled) break;
  }
  return curve;
}

}  // namespace

Gate fit_gate(const Design& design, const Answers& answers, std::span<const int32_t> truth) {
  const size_t experts = design.sets.size(), inputs = truth.size();
  if (inputs == 0 || answers.evidence.size() != inputs * experts) {
    throw Error(
        ErrorCode::invalid_argument,
        "a gate needs evidence of {} experts and the class of at least one held-out input; found {} numbers and "
        "{} classes",
        experts, answers.evidence.size(), inputs);
  }
  Gate gate;
  for (size_t j = 0; j < experts; ++j) {
    std::vector<double> x(inputs);
    std::vector<bool> y(inputs);
    double mean = 0, square = 0;
    for (size_t i = 0; i < inputs; ++i) {
      x[i] = static_cast<double>(answers.evidence[i * experts + j]);
      y[i] = std::binary_search(design.sets[j].begin(), design.sets[j].end(), truth[i]);
      mean += x[i] / static_cast<double>(inputs);
    }
    for (const double value : x) square += (value - mean) * (value - mean) / static_cast<double>(inputs);
    const double scale = square > 1e-20 ? 1 / std::sqrt(square) : 0;
    const auto known = static_cast<size_t>(std::count(y.begin(), y.end(), true));
    if (known == 0 || known == inputs) {
      gate.slope.push_back(0), gate.offset.push_back(kOpen);
      continue;
    }
    for (double& value : x) value = (value - mean) * scale;
    const Curve curve = fit_curve(x, y);
    gate.slope.push_back(curve.slope * scale);
    gate.offset.push_back(curve.offset - curve.slope * scale * mean);
  }
  return gate;
}

std::vector<float> open_gate(const Gate& gate, const Answers& answers) {
  const size_t experts = gate.slope.size();
  if (answers.evidence.size() != static_cast<size_t>(answers.inputs) * experts) {
    throw Error(ErrorCode::invalid_argument, "a gate of {} experts needs as much evidence per input; found {} numbers",
                experts, answers.evidence.size());
  }
  std::vector<float> result(answers.evidence.size());
  for (size_t k = 0; k < result.size(); ++k) {
    const size_t j = k % experts;
    result[k] = static_cast<float>(logistic(gate.slope[j] * static_cast<double>(answers.evidence[k]) + gate.offset[j]));
  }
  return result;
}

}  // namespace tessera::experts
