#include <algorithm>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/experts/combine.h"

namespace tessera::experts {
namespace {

constexpr double kLeast = 1e-12;  // probabilities are held above this before a logarithm
constexpr double kGolden = 0.6180339887498949;

double loss_at(const std::vector<double>& logarithms, size_t classes, std::span<const int32_t> labels, double inverse) {
  double loss = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const double* row = logarithms.data() + i * classes;
    const double top = *std::max_element(row, row + classes);
    double sum = 0;
    for (size_t k = 0; k < classes; ++k) sum += std::exp(inverse * (row[k] - top));
    loss += std::log(sum) - inverse * (row[static_cast<size_t>(labels[i])] - top);
  }
  return loss;
}

}  // namespace

double fit_temperature(std::span<const float> probabilities, int classes, std::span<const int32_t> labels) {
  if (labels.empty()) throw Error(ErrorCode::invalid_argument, "a temperature needs at least one held-out input");
  std::vector<double> logarithms(probabilities.size());
  for (size_t i = 0; i < logarithms.size(); ++i) {
    logarithms[i] = std::log(std::max(static_cast<double>(probabilities[i]), kLeast));
  }
  const auto loss = [&](double log_temperature) {
    return loss_at(logarithms, static_cast<size_t>(classes), labels, std::exp(-log_temperature));
  };
  double low = std::log(0.05), high = std::log(20.0);
  double a = high - kGolden * (high - low), b = low + kGolden * (high - low);
  double loss_a = loss(a), loss_b = loss(b);
  while (high - low > 1e-4) {
    if (loss_a < loss_b) {
      high = b, b = a, loss_b = loss_a;
      a = high - kGolden * (high - low), loss_a = loss(a);
    } else {
      low = a, a = b, loss_a = loss_b;
      b = low + kGolden * (high - low), loss_b = loss(b);
    }
  }
  return std::exp((low + high) / 2);
}

void apply_temperature(std::span<float> probabilities, int classes, double temperature) {
  for (size_t begin = 0; begin < probabilities.size(); begin += static_cast<size_t>(classes)) {
    const auto row = probabilities.subspan(begin, static_cast<size_t>(classes));
    const double top = static_cast<double>(*std::max_element(row.begin(), row.end()));
    double sum = 0;
    for (float& value : row) {
      value = static_cast<float>(std::pow(static_cast<double>(value) / top, 1 / temperature));
      sum += static_cast<double>(value);
    }
    for (float& value : row) value = static_cast<float>(static_cast<double>(value) / sum);
  }
}

}  // namespace tessera::experts
