// The default estimator: kernel regression near the query, in the query's cell of categories where that cell is rich,
// with a product kernel over categories elsewhere; smoothness, lengths, penalties and noise from the likelihood of
// blocks of rows; standard errors scaled by how well left-out rows near the query were predicted, then by a conformal
// factor. Noisy tables share what they know of the noise, and mix kernels (kernel_mixture.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <span>

#include "explain/baselines.h"
#include "explain/kernel_mixture.h"
#include "explain/row_search.h"

namespace tessera::explain {

class KernelModel {
 public:
  KernelModel(const Problem& problem, const RowSearch& search) : problem_(problem), search_(search) {}

  // exclude: row that must not take part, or -1.
  Explanation explain(std::span<const double> query, int64_t exclude) const;
  std::vector<double> predict(std::span<const double> query, const std::vector<std::vector<double>>& points) const;

  // What was learned, to and from JSON (kernel_memory.cpp): the same answers without learning again.
  nlohmann::json learned() const;
  void restore(const nlohmann::json& learned);

  // Held-out error: records left out one at a time; rows get the record numbers. Mean squared error.
  double held_out_error(std::span<const int64_t> records) const;

 private:
  struct Region {
    Kernel kernel;                      // the most likely one, whose metric finds the neighbours
    std::vector<Candidate> candidates;  // what is fitted
    bool cell = false;                  // the query's cell alone; otherwise all rows with penalties
    double value_factor = 2;            // conformal, multiplies standard errors of values and contrasts
    double pair_factor = 2;             // of gradients and differences
    int64_t records = 0;
  };
  struct Local;

  const Region& region(std::span<const double> query) const;
  const Region& pooled() const;
  std::unique_ptr<Region> train(std::span<const double> query, bool cell) const;
  void calibrate(Region& region, std::span<const int64_t> records) const;
  Metric metric(const Region& region) const;
  KernelBlock gather(std::span<const int64_t> rows) const;
  const NoisePrior& noise_prior(Smoothness smoothness) const;
  Eigen::VectorXd point(std::span<const double> values) const;
  Local local(const Region& region, std::span<const double> query, int64_t exclude) const;
  Estimate across_cells(std::span<const double> plus, std::span<const double> minus, int64_t exclude,
                        double& half) const;

  const Problem& problem_;
  const RowSearch& search_;
  std::vector<double> unit_lengths() const;
  double output_variance() const;

  mutable std::mutex mutex_;
  mutable std::map<int64_t, std::shared_ptr<std::once_flag>> once_;
  mutable std::map<int64_t, std::unique_ptr<Region>> regions_;  // by cell; -1: pooled
  mutable std::map<Smoothness, std::unique_ptr<NoisePrior>> noise_;
  mutable std::mutex noise_mutex_;
};

}  // namespace tessera::explain
