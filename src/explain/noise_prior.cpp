#include "explain/noise_prior.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessera::explain {
namespace {

constexpr int kNoiseSteps = 61;         // from the variance of the outputs down by a tenth of a decade each
constexpr int kWeightSteps = 20;        // of expectation-maximisation
constexpr double kUniformShare = 0.02;  // of the weights: no point of the grid is ruled out
constexpr double kEvidence =
    1;  // log likelihood ratio per block that a departure from the trend must show; chance gives half

// One block at every point of the grid, its signal variance profiled out.
struct BlockTable {
  Eigen::MatrixXd deviance, variance;
  double freedom = 0;

  // With the noise, and so the signal, held fixed.
  Eigen::MatrixXd at(double noise) const {
    Eigen::MatrixXd result = deviance;
    for (int64_t s = 0; s < result.cols(); ++s) {
      const double signal = noise * SmoothingGrid::signals()[static_cast<size_t>(s)];
      const Eigen::ArrayXd ratio = signal / variance.col(s).array();
      result.col(s).array() += 0.5 * freedom * (ratio.log() + ratio.inverse() - 1);
    }
    return result;
  }
};

BlockTable tabulate(const KernelBlock& block, const std::vector<double>& unit, Smoothness smoothness) {
  const auto& lengths = SmoothingGrid::lengths();
  const auto& signals = SmoothingGrid::signals();
  BlockTable table;
  table.deviance.resize(static_cast<int64_t>(lengths.size()), static_cast<int64_t>(signals.size()));
  table.variance = table.deviance;
  Kernel like;
  like.smoothness = smoothness;
  like.penalty.assign(static_cast<size_t>(block.points.categorical), 1.0);
  for (size_t l = 0; l < lengths.size(); ++l) {
    for (size_t s = 0; s < signals.size(); ++s) {
      const KernelFit fit(SmoothingGrid::kernel(like, unit, lengths[l], signals[s]), block.points, block.output);
      const auto row = static_cast<int64_t>(l), column = static_cast<int64_t>(s);
      table.deviance(row, column) = fit.valid() ? fit.deviance() : 1e300;
      table.variance(row, column) = fit.valid() ? std::max(fit.signal_variance(), 1e-300) : 1;
      if (fit.valid()) table.freedom = fit.freedom();
    }
  }
  return table;
}

}  // namespace

const std::vector<double>& SmoothingGrid::lengths() {
  static const std::vector<double> all = {0.15, 0.3, 0.6, 1.2, 3.0};
  return all;
}

const std::vector<double>& SmoothingGrid::signals() {
  static const std::vector<double> all = {1e-4, 1e-3, 0.01, 0.06, 0.25, 1, 4, 16, 64, 256};
  return all;
}

Kernel SmoothingGrid::kernel(const Kernel& like, const std::vector<double>& unit, double length, double signal) {
  Kernel kernel = like;
  const double root = std::sqrt(static_cast<double>(std::max<size_t>(1, unit.size())));
  kernel.length = unit;
  for (double& value : kernel.length) value *= length * root;
  kernel.nugget = 1 / signal;
  return kernel;
}

NoisePrior::NoisePrior(const std::vector<KernelBlock>& blocks, const std::vector<double>& unit, Smoothness smoothness,
                       double output_variance) {
  std::vector<BlockTable> tables;
  for (const KernelBlock& block : blocks) tables.push_back(tabulate(block, unit, smoothness));
  const auto lengths = static_cast<int64_t>(SmoothingGrid::lengths().size());
  const auto signals = static_cast<int64_t>(SmoothingGrid::signals().size());
  double least = std::numeric_limits<double>::infinity();
  double least_linear = least;
  for (int step = 0; step < kNoiseSteps; ++step) {
    const double noise = output_variance * std::pow(10.0, -0.1 * step);
    double sum = 0, linear = 0;
    for (const BlockTable& table : tables) {
      const Eigen::MatrixXd deviance = table.at(noise);
      sum += deviance.minCoeff();
      linear += deviance(lengths - 1, 0);
    }
    least_linear = std::min(least_linear, linear);
    if (sum < least) {
      least = sum;
      noise_ = noise;
    }
  }
  std::vector<Eigen::MatrixXd> likelihood;
  for (const BlockTable& table : tables) {
    const Eigen::MatrixXd deviance = table.at(noise_);
    likelihood.push_back((deviance.minCoeff() - deviance.array()).exp());
  }
  const double uniform = 1 / static_cast<double>(lengths * signals);
  weight_ = Eigen::MatrixXd::Constant(lengths, signals, uniform);
  for (int step = 0; step < kWeightSteps && !likelihood.empty(); ++step) {
    Eigen::MatrixXd next = Eigen::MatrixXd::Constant(lengths, signals, kUniformShare * uniform);
    for (const Eigen::MatrixXd& block : likelihood) {
      const Eigen::MatrixXd posterior = weight_.cwiseProduct(block);
      next += (1 - kUniformShare) / static_cast<double>(likelihood.size()) / posterior.sum() * posterior;
    }
    weight_ = next;
  }
  // Every block may choose its own point of the grid, so each is allowed some gain by chance.
  linear_ = least_linear - least < kEvidence * static_cast<double>(std::max<size_t>(1, blocks.size()));
}

}  // namespace tessera::explain
