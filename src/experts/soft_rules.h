// Rules on probabilities, SIMD over inputs: each lane of a vector is one input.
#pragma once

#include <cstdint>
#include <vector>

#include "tessera/experts/combine.h"

namespace tessera::experts {

// Added to the diagonal of the quadratic form, which is singular when the answers agree perfectly.
inline constexpr double kQuadraticRidge = 1e-9;

struct SoftProblem {
  Rule rule = Rule::quadratic;
  int32_t classes = 0, experts = 0, columns = 0;
  int steps = 50;
  const int32_t* offset = nullptr;       // [experts + 1]
  const int32_t* member = nullptr;       // [columns]: the class of each column
  const float* degree = nullptr;         // [classes]
  const float* inverse = nullptr;        // [classes, classes]: pseudo-inverse of the Laplacian; log_linear only
  const float* probabilities = nullptr;  // [inputs, columns]
  const float* gate = nullptr;           // [inputs, experts] or null
  float* result = nullptr;               // [inputs, classes]
};

// Inputs begin..end - 1.
void soft_rule(const SoftProblem& problem, int64_t begin, int64_t end);

// Pseudo-inverse of L = sum_j (R_j I - 1 1')_{S_j} of a connected design: [classes, classes].
std::vector<float> laplacian_inverse(const Design& design);

}  // namespace tessera::experts
