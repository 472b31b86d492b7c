#include "tessera/explain/tune.h"

#include <fmt/format.h>

#include <cmath>

#include "tessera/base/random.h"

namespace tessera::explain {
namespace {

constexpr int64_t kRecords = 100;

std::vector<Options> candidates_for(const Options& base, int64_t rows) {
  std::vector<Options> result;
  const bool published = base.estimator == Estimator::published;
  for (const int64_t neighbours : {50, 100, 150, 250}) {
    if (neighbours > rows - 1) continue;
    for (const int degree : published ? std::vector<int>{1, 2, 3} : std::vector<int>{base.degree}) {
      Options options = base;
      options.neighbours = neighbours;
      options.degree = degree;
      if (!published && base.estimator == Estimator::automatic) options.estimator = Estimator::kernel;
      if (options.estimator != Estimator::forest || result.empty()) result.push_back(options);
    }
  }
  if (base.estimator == Estimator::automatic) {
    result.push_back(base);
    result.back().estimator = Estimator::forest;
  }
  if (result.empty()) result.push_back(base);
  return result;
}

std::string describe(const Options& options) {
  if (options.estimator == Estimator::published)
    return fmt::format("published, {} neighbours, degree {}", options.neighbours, options.degree);
  if (options.estimator == Estimator::forest) return "forest";
  return fmt::format("kernel, {} neighbours", options.neighbours);
}

double held_out_error(TableView inputs, ColumnView outputs, const std::vector<Feature>& features, Options options) {
  options.output_known = false;  // each record is predicted without itself
  options.replicates = 1;
  if (options.estimator == Estimator::published) options.interval = IntervalKind::classical;
  const Explainer explainer(inputs, outputs, features, options);
  Random random = Random(options.seed).split(11);
  double sum = 0;
  for (int64_t i = 0; i < kRecords; ++i) {
    const int64_t row = random.below(inputs.rows);
    const double error = explainer.explain_row(row).prediction - outputs[static_cast<size_t>(row)];
    sum += error * error;
  }
  return std::sqrt(sum / static_cast<double>(kRecords));
}

}  // namespace

Tuning tune(TableView inputs, ColumnView outputs, const std::vector<Feature>& features, const Options& options) {
  Tuning tuning;
  size_t best = 0;
  for (const Options& candidate : candidates_for(options, inputs.rows)) {
    tuning.candidates.push_back({candidate, held_out_error(inputs, outputs, features, candidate)});
    if (tuning.candidates.back().error < tuning.candidates[best].error) best = tuning.candidates.size() - 1;
  }
  tuning.options = tuning.candidates[best].options;
  std::string others;
  for (size_t i = 0; i < tuning.candidates.size(); ++i) {
    if (i == best) continue;
    others += fmt::format("{}{} {:.4g}", others.empty() ? "" : "; ", describe(tuning.candidates[i].options),
                          tuning.candidates[i].error);
  }
  tuning.reason =
      fmt::format("Tuned to {}: held-out outputs are predicted with a root mean squared error of {:.4g}{}.",
                  describe(tuning.options), tuning.candidates[best].error, others.empty() ? "" : ", against " + others);
  return tuning;
}

}  // namespace tessera::explain
