#include "tessera/experts/metrics.h"

#include <algorithm>
#include <cmath>

namespace tessera::experts {

Scores score(std::span<const float> probabilities, std::span<const int32_t> labels, std::span<const int32_t> truth,
             int classes) {
  constexpr int kBins = 15;
  constexpr double kLeast = 1e-7;
  const auto width = static_cast<size_t>(classes);
  Scores result;
  result.inputs = static_cast<int64_t>(truth.size());
  result.bins.resize(kBins);
  result.confusion.assign(width * width, 0);
  for (size_t i = 0; i < truth.size(); ++i) {
    const auto row = probabilities.subspan(i * width, width);
    const auto right = static_cast<size_t>(truth[i]);
    const bool hit = labels[i] == truth[i];
    const auto top = static_cast<double>(*std::max_element(row.begin(), row.end()));
    result.accuracy += hit;
    result.negative_log_likelihood -= std::log(std::max(static_cast<double>(row[right]), kLeast));
    ++result.confusion[right * width + static_cast<size_t>(labels[i])];
    CalibrationBin& bin = result.bins[static_cast<size_t>(std::clamp(static_cast<int>(top * kBins), 0, kBins - 1))];
    ++bin.count;
    bin.confidence += top;
    bin.accuracy += hit;
  }
  const double count = std::max<double>(1, static_cast<double>(truth.size()));
  result.accuracy /= count;
  result.negative_log_likelihood /= count;
  for (CalibrationBin& bin : result.bins) {
    if (bin.count == 0) continue;
    result.calibration_error += std::abs(bin.accuracy - bin.confidence) / count;
    bin.confidence /= static_cast<double>(bin.count);
    bin.accuracy /= static_cast<double>(bin.count);
  }
  return result;
}

}  // namespace tessera::experts
