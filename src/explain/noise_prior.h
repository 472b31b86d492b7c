// What all cells of a noisy table know together: the noise, and which lengths and signals are common.
//
// A cell of a few hundred noisy rows has a likelihood with two tops, one that takes all variation for noise and one
// that takes all of it for signal; its most likely kernel is then arbitrary. Here the noise variance is shared: it
// maximises the sum over blocks of their likelihoods, each at its own best point of a grid of lengths and signal
// variances. The weights of the grid's points are then learned from the same blocks by expectation-maximisation
// (empirical Bayes, Robbins 1956). When no departure from a linear trend is in evidence, that trend is all that is
// fitted.
#pragma once

#include <vector>

#include "explain/kernel_likelihood.h"

namespace tessera::explain {

// Lengths in units of `unit` x sqrt(continuous features); signal variances in units of the noise.
struct SmoothingGrid {
  static const std::vector<double>& lengths();
  static const std::vector<double>& signals();
  // A kernel of the grid.
  static Kernel kernel(const Kernel& like, const std::vector<double>& unit, double length, double signal);
};

class NoisePrior {
 public:
  // blocks: rows that share their categories. output_variance: of the whole table.
  NoisePrior(const std::vector<KernelBlock>& blocks, const std::vector<double>& unit, Smoothness smoothness,
             double output_variance);

  double noise_variance() const { return noise_; }
  bool linear() const { return linear_; }
  // [lengths, signals], sums to one.
  const Eigen::MatrixXd& weight() const { return weight_; }

 private:
  double noise_ = 0;
  bool linear_ = false;
  Eigen::MatrixXd weight_;
};

}  // namespace tessera::explain
