#include <algorithm>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/experts/bound.h"
#include "tessera/experts/theory.h"

namespace tessera::experts {
namespace {

void check(const BoundQuestion& question) {
  if (question.classes < 2 || question.classes > kMaxClasses) {
    throw Error(ErrorCode::invalid_argument, "--classes: expected 2 to {}, found {}", kMaxClasses, question.classes);
  }
  if (question.size < 2 || question.size > question.classes) {
    throw Error(ErrorCode::invalid_argument, "--size: expected 2 to {} (the number of classes), found {}",
                question.classes, question.size);
  }
  if (!(question.target_error > 0 && question.target_error < 1)) {
    throw Error(ErrorCode::invalid_argument, "--error: expected a number between 0 and 1, found {}",
                question.target_error);
  }
  if (question.in_set_errors < 0 || question.in_set_errors > 100) {
    throw Error(ErrorCode::invalid_argument, "--mistakes: expected 0 to 100, found {}", question.in_set_errors);
  }
}

int64_t up(double value) { return static_cast<int64_t>(std::ceil(value - 1e-9)); }

}  // namespace

std::vector<BoundLine> expert_bounds(const BoundQuestion& question) {
  check(question);
  const double classes = question.classes, size = question.size, delta = question.target_error;
  const int lambda = 2 * question.in_set_errors + 1;
  std::vector<BoundLine> lines;
  const Bound bound = lower_bound(question.classes, question.size, lambda);
  lines.push_back({"zero error, adversarial", bound.sets, true,
                   "C_lambda(K, R, 2) >= " + bound.source + " bound, lambda = 2 e + 1"});
  const auto groups = static_cast<int64_t>(std::ceil(classes / std::floor(size / 2)));
  const int64_t halves = question.size == question.classes ? 1 : groups * (groups - 1) / 2;
  lines.push_back({"zero error, adversarial", lambda * halves, false,
                   "two halves: (2 e + 1) g (g - 1) / 2, g = ceil(K / floor(R / 2))"});
  lines.push_back({"any error below 1/2, uniform", up((classes - 1) / size), true,
                   "at most one class in no set: ceil((K - 1) / R)"});
  if (question.size == question.classes) return lines;
  lines.push_back(
      {"error <= delta, uniform, random sets",
       std::max<int64_t>(1, up(std::log((classes - 1) / delta) / std::log((classes - 1) / (classes - size)))), false,
       "(K - 1) ((K - R) / (K - 1))^m <= delta"});
  const int64_t degree = std::max<int64_t>(1, up(std::log(classes / delta) / std::log(size)));
  lines.push_back({"error <= delta, uniform, every class in d sets", up(classes * static_cast<double>(degree) / size),
                   false, "K R^-d <= delta, d = " + std::to_string(degree) + ", m = ceil(K d / R)"});
  return lines;
}

}  // namespace tessera::experts
