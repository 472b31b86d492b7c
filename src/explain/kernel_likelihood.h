// The most likely kernel for blocks of rows: smoothness, a length per continuous feature, a penalty per category and
// the noise (Rasmussen and Williams 2006, chapter 5; the trend integrated out).
#pragma once

#include <vector>

#include "explain/kernel_fit.h"

namespace tessera::explain {

// Rows whose likelihood is taken together.
struct KernelBlock {
  Points points;
  Eigen::VectorXd output;
};

constexpr double kSmallestNugget = 1e-8;

// unit: a typical length per continuous feature (its standard deviation). kinds: smoothness to choose from.
// with_penalties: false when all rows share their categories. Cost: about 150 Cholesky factorisations of each block per
// kind.
Kernel most_likely_kernel(const std::vector<KernelBlock>& blocks, const std::vector<double>& unit,
                          const std::vector<Smoothness>& kinds, bool with_penalties);

// Mean squared error of left-out rows over that of a plain linear trend; about 100 rows per block.
double left_out_ratio(const std::vector<KernelBlock>& blocks, const Kernel& kernel);

}  // namespace tessera::explain
