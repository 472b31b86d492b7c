// Rules on hard labels.
#pragma once

#include <span>

#include "tessera/experts/combine.h"

namespace tessera::experts {

// Fills result.labels and result.probabilities (normalised scores). labels: [inputs, experts], -1: not asked. Soft
// answers in `answers`, when there, break the ties of deficit; the gate weights naive_bayes.
void combine_hard(const Design& design, const Answers& answers, std::span<const int32_t> labels,
                  const CombineOptions& options, Combination& result);

}  // namespace tessera::experts
