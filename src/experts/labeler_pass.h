// The inner loop of labelers.cpp, SIMD over classes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera::experts {

// Rows of tables are padded to a multiple of this many classes.
inline constexpr size_t kLabelerStep = 16;

// A column is one (labeler, class of its set) pair.
struct LabelerPass {
  size_t stride = 0;                   // classes, rounded up to a multiple of kLabelerStep
  const int64_t* row_begin = nullptr;  // [items + 1]: where each item's answers begin
  const int32_t* answers = nullptr;    // [answers]: the column of each answer, item after item
  const float* log_table = nullptr;    // [columns, stride]: log probability of the answer given the class
  const float* log_share = nullptr;    // [stride]: log share of each class; very negative in the padding
};

// Posterior of the classes of items begin..end - 1; returns the sum of their log-likelihoods.
// counts: [columns, stride] or null: each answer's row grows by its item's posterior; share: [stride], likewise for
// every item. posterior: [end - begin, stride] or null.
double labeler_pass(const LabelerPass& pass, int64_t begin, int64_t end, float* counts, float* share, float* posterior);

}  // namespace tessera::experts
