// Choosing the next token: greedy by default; temperature and top-p (nucleus, arXiv 1904.09751) on request.
#pragma once

#include <cstdint>
#include <span>

#include "tessera/base/random.h"

namespace tessera::engine {

struct SamplingOptions {
  float temperature = 0;  // 0: greedy, ties to the lower id
  float top_p = 1;        // in (0, 1]: smallest set of tokens whose probability reaches it
  uint64_t seed = 0;
};

class Sampler {
 public:
  // Throws Error(invalid_argument) on a negative temperature or top_p outside (0, 1].
  explicit Sampler(const SamplingOptions& options);
  int32_t sample(std::span<const float> logits);

 private:
  SamplingOptions options_;
  Random random_;
};

}  // namespace tessera::engine
