// Designs: which classes each small classifier (expert) knows.
//
//   Design design{.classes = 7, .sets = {{0, 1, 2}, {0, 3, 4}, {0, 5, 6}, {1, 3, 5}, {1, 4, 6}, {2, 3, 6}, {2, 4, 5}}};
//   check_design(design);                       // well-formed, or an Error that names the first fault
//   PairCoverage pairs = count_pairs(design);   // the Fano plane: every pair of classes is in one set
//   assert(pairs.lambda_min == 1);
//
// Source: Ahn, Ozgur, Pilanci, "Global Multiclass Classification and Dataset Construction via Heterogeneous Local
// Experts" (IEEE JSAIT 2020): under perfect in-set and adversarial out-of-set answers some decoder is always right if
// and only if every pair of classes lies in some set.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace tessera::experts {

// Largest number of classes of any design; a bound on what a hostile file can make this program allocate.
inline constexpr int kMaxClasses = 20000;

struct Design {
  int classes = 0;                     // K
  std::vector<std::vector<int>> sets;  // one per expert: its classes, ascending, each in [0, classes)
};

// Throws Error(invalid_argument) that names the first set which is empty, unsorted, has a class twice or one out of
// range. Whether every pair is covered is another question.
void check_design(const Design& design);

// What a design covers, counted set by set. This is the independent checker: it shares no code with the constructions.
struct PairCoverage {
  int lambda_min = 0;                                // fewest sets that hold the same two classes; K = 1: 0
  int lambda_max = 0;                                // most sets that do
  int64_t uncovered = 0;                             // pairs in no set
  std::vector<std::pair<int, int>> uncovered_pairs;  // the first `max_listed` of them, ascending
  int degree_min = 0, degree_max = 0;                // fewest and most sets that hold the same class
  int size_min = 0, size_max = 0;                    // classes of the smallest and of the largest set
  int64_t incidences = 0;                            // sum of the sizes, the training work in units of one class

  // In-set mistakes per input that the minimum-deficit rule survives: the largest e with lambda_min >= 2 e + 1;
  // -1 when some pair is uncovered (no guarantee at all).
  int errors_survived() const { return lambda_min > 0 ? (lambda_min - 1) / 2 : -1; }
};

// O(sum R^2 + K^2) time, K^2 / 2 counters. The design must be well-formed. `max_listed` bounds uncovered_pairs only.
PairCoverage count_pairs(const Design& design, int64_t max_listed = 100);

}  // namespace tessera::experts
