// Several kernel fits to the same rows, weighted by how likely they are there: estimates are weighted means, and the
// spread of the fits is part of the standard error (Hoeting et al. 1999).
#pragma once

#include <vector>

#include "explain/noise_prior.h"

namespace tessera::explain {

// A kernel with its weight before the rows near a query are seen.
struct Candidate {
  Kernel kernel;
  double signal_variance = 0;  // 0: the most likely one
  double log_weight = 0;
};

// The candidates of one cell: lengths weighted by the cell's likelihood, each with signals spread around those that are
// likely in the cell, since the size of a function's variation differs from place to place. `own`: the cell's most
// likely kernel, for its ratio of lengths.
std::vector<Candidate> cell_candidates(const NoisePrior& prior, const std::vector<KernelBlock>& blocks,
                                       const std::vector<double>& unit, const Kernel& own);

class KernelMixture {
 public:
  // rows: nearest first. One candidate costs one factorisation; with more, those that are unlikely for the nearest rows
  // are dropped first.
  KernelMixture(const std::vector<Candidate>& candidates, const KernelBlock& rows);

  bool valid() const { return !fits_.empty(); }
  const KernelFit& likeliest() const { return fits_[0]; }
  // How well rows near the query were predicted when left out: 1 when as well as the model says.
  double scale() const { return scale_; }

  // read(fit) gives one fit's Estimate of some number.
  template <typename Read>
  Estimate estimate(const Read& read) const {
    Estimate result;
    std::vector<Estimate> all;
    for (size_t k = 0; k < fits_.size(); ++k) {
      all.push_back(read(fits_[k]));
      result.value += weight_[k] * all[k].value;
    }
    double square = 0;
    for (size_t k = 0; k < fits_.size(); ++k) {
      const double apart = all[k].value - result.value;
      square += weight_[k] * (all[k].error * all[k].error + apart * apart);
    }
    result.error = std::sqrt(square);
    return result;
  }

  // Standardised conformal scores of row `index`, left out alone and together with its nearest companion among the
  // rows; the row's own error takes no part in the scale. index < kScaleRows.
  struct Scores {
    double value = 0, pair = 0;
  };
  Scores scores(int64_t index) const;

  static constexpr int64_t kScaleRows = 10;  // left-out rows behind the local scale; chosen on development seeds

 private:
  std::vector<double> standardised(int64_t count) const;

  std::vector<KernelFit> fits_;  // likeliest first
  std::vector<double> weight_;
  double scale_ = 1;
};

}  // namespace tessera::explain
