#include "tessera/experts/bound.h"

#include <algorithm>

namespace tessera::experts {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

Bound lower_bound(int classes, int size, int lambda) {
  const int64_t v = classes, k = std::min(classes, size);
  if (k >= v) return {lambda, "one set of all classes per fold"};
  return {ceil_div(v * ceil_div(lambda * (v - 1), k - 1), k), "Schoenheim"};
}

}  // namespace tessera::experts
