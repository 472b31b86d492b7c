// Scores of class probabilities against true labels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tessera::experts {

struct CalibrationBin {
  int64_t count = 0;
  double confidence = 0, accuracy = 0;  // means over the bin
};

struct Scores {
  int64_t inputs = 0;
  double accuracy = 0;                 // share of labels that are right
  double negative_log_likelihood = 0;  // mean -log of the true class's probability, held above 1e-7
  double calibration_error =
      0;  // expected calibration error over 15 equal bins of the top probability (Guo et al. 2017)
  std::vector<CalibrationBin> bins;  // [15]
  std::vector<int64_t> confusion;    // [classes, classes]: true class, label
};

// probabilities: [inputs, classes]; labels, truth: [inputs]. `labels` are the rule's own (hard rules break ties by more
// than their scores). O(inputs * classes).
Scores score(std::span<const float> probabilities, std::span<const int32_t> labels, std::span<const int32_t> truth,
             int classes);

}  // namespace tessera::experts
