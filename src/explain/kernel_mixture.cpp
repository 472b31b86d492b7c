#include "explain/kernel_mixture.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessera::explain {
namespace {

constexpr double kScalePrior = 1;      // as many pseudo rows predicted exactly as well as average
constexpr int64_t kNearRows = 60;      // that weigh the candidates
constexpr double kSignalSpread = 1;    // standard deviation of the log signal variance within a cell
constexpr double kOwnShare = 0.1;      // prior weight of the cell's own kernel
constexpr double kLeastShare = 1e-3;   // candidates that start below this share of the likeliest are not tried
constexpr double kLeastWeight = 0.03;  // nor kept, below this share, once the nearest rows have been seen

double local_scale(const std::vector<double>& left_out, size_t skip) {
  double sum = kScalePrior, count = kScalePrior;
  for (size_t i = skip; i < left_out.size(); ++i) {
    sum += left_out[i] * left_out[i];
    count += 1;
  }
  return std::sqrt(sum / count);
}

double log_likelihood(const Kernel& kernel, double signal_variance, const std::vector<KernelBlock>& blocks) {
  double sum = 0;
  for (const KernelBlock& block : blocks) {
    const KernelFit fit(kernel, block.points, block.output, signal_variance);
    if (!fit.valid()) return -std::numeric_limits<double>::infinity();
    sum -= fit.deviance();
  }
  return sum;
}

// One length with every signal: posterior in the cell, then spread.
std::vector<Candidate> along_signals(const Kernel& like, const Eigen::VectorXd& prior, double noise,
                                     const std::vector<KernelBlock>& blocks) {
  const auto& signals = SmoothingGrid::signals();
  std::vector<double> posterior;
  std::vector<Candidate> result;
  for (size_t s = 0; s < signals.size(); ++s) {
    Candidate candidate{like, noise * signals[s], 0};
    candidate.kernel.nugget = 1 / signals[s];
    posterior.push_back(std::log(prior[static_cast<int64_t>(s)]) +
                        log_likelihood(candidate.kernel, candidate.signal_variance, blocks));
    result.push_back(candidate);
  }
  const double best = *std::max_element(posterior.begin(), posterior.end());
  for (size_t to = 0; to < signals.size(); ++to) {
    double sum = 0;
    for (size_t from = 0; from < signals.size(); ++from) {
      double total = 0;
      const auto kernel = [&](size_t other) {
        return std::exp(-0.5 * std::pow(std::log(signals[other] / signals[from]) / kSignalSpread, 2));
      };
      for (size_t other = 0; other < signals.size(); ++other) total += kernel(other);
      sum += std::exp(posterior[from] - best) * kernel(to) / total;
    }
    result[to].log_weight = best + std::log(std::max(sum, 1e-300));
  }
  return result;
}

}  // namespace

std::vector<Candidate> cell_candidates(const NoisePrior& prior, const std::vector<KernelBlock>& blocks,
                                       const std::vector<double>& unit, const Kernel& own) {
  const auto& lengths = SmoothingGrid::lengths();
  const double noise = prior.noise_variance();
  if (prior.linear()) {
    const double signal = SmoothingGrid::signals()[0];
    return {{SmoothingGrid::kernel(own, unit, lengths.back(), signal), noise * signal, 0}};
  }
  std::vector<Candidate> all =
      along_signals(own, kOwnShare * prior.weight().colwise().sum().transpose(), noise, blocks);
  for (size_t l = 0; l < lengths.size(); ++l) {
    const Kernel like = SmoothingGrid::kernel(own, unit, lengths[l], 1);
    const auto more =
        along_signals(like, (1 - kOwnShare) * prior.weight().row(static_cast<int64_t>(l)).transpose(), noise, blocks);
    all.insert(all.end(), more.begin(), more.end());
  }
  double best = -std::numeric_limits<double>::infinity();
  for (const Candidate& candidate : all) best = std::max(best, candidate.log_weight);
  std::erase_if(all,
                [&](const Candidate& candidate) { return !(candidate.log_weight >= best + std::log(kLeastShare)); });
  return all;
}

KernelMixture::KernelMixture(const std::vector<Candidate>& candidates, const KernelBlock& rows) {
  std::vector<std::pair<double, const Candidate*>> ranked;
  const int64_t count = std::min<int64_t>(kNearRows, rows.output.size());
  const std::vector<KernelBlock> near = {
      {{rows.points.continuous, rows.points.categorical, rows.points.values.leftCols(count)}, rows.output.head(count)}};
  for (const Candidate& candidate : candidates) {
    const double seen = candidates.size() > 1 ? log_likelihood(candidate.kernel, candidate.signal_variance, near) : 0.0;
    ranked.push_back({candidate.log_weight + seen, &candidate});
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  double sum = 0;
  for (const auto& [log_weight, candidate] : ranked) {
    const double weight = std::exp(log_weight - ranked[0].first);
    if (!(weight >= kLeastWeight)) break;
    KernelFit fit(candidate->kernel, rows.points, rows.output, candidate->signal_variance);
    if (!fit.valid()) continue;
    fits_.push_back(std::move(fit));
    weight_.push_back(weight);
    sum += weight;
  }
  for (double& weight : weight_) weight /= sum;
  if (valid()) scale_ = local_scale(standardised(std::min<int64_t>(kScaleRows, rows.output.size())), 0);
}

std::vector<double> KernelMixture::standardised(int64_t count) const {
  std::vector<double> result;
  for (int64_t i = 0; i < count; ++i) {
    const Estimate left = estimate([&](const KernelFit& fit) { return fit.left_out(i); });
    result.push_back(left.error > 0 ? left.value / left.error : 0);
  }
  return result;
}

KernelMixture::Scores KernelMixture::scores(int64_t index) const {
  const auto at = static_cast<size_t>(index);
  std::vector<double> left = standardised(std::min(kScaleRows + 1, fits_[0].rows()));
  std::swap(left[0], left[at]);
  Scores result;
  result.value = std::abs(left[0]) / local_scale(left, 1);
  const size_t partner = at == 0 ? 1 : 0;
  std::swap(left[1], left[partner == 0 ? at : 1]);
  const Estimate pair =
      estimate([&](const KernelFit& fit) { return fit.pair_left_out(index, static_cast<int64_t>(partner)); });
  result.pair = (pair.error > 0 ? std::abs(pair.value) / pair.error : 0) / local_scale(left, 2);
  return result;
}

}  // namespace tessera::explain
