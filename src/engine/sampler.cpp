#include "tessera/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tessera/base/error.h"

namespace tessera::engine {
namespace {

int32_t greedy(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    throw Error(ErrorCode::invalid_argument, "temperature: expected a number of at least 0, found {}", options.temperature);
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    throw Error(ErrorCode::invalid_argument, "top_p: expected a number in (0, 1], found {}", options.top_p);
  }
}

int32_t Sampler::sample(std::span<const float> logits) {
  TESSERA_ASSERT(!logits.empty());
  if (options_.temperature == 0) return greedy(logits);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  const float top = logits[static_cast<size_t>(order[0])];
  std::vector<double> weights(logits.size());
  double total = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    weights[i] = std::exp(static_cast<double>(logits[static_cast<size_t>(order[i])] - top) / options_.temperature);
    total += weights[i];
  }
  double kept = 0;
  size_t count = 0;
  while (count < order.size() && (count == 0 || kept < options_.top_p * total)) kept += weights[count++];
  double draw = random_.uniform() * kept;
  for (size_t i = 0; i < count; ++i) {
    draw -= weights[i];
    if (draw < 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace tessera::engine
