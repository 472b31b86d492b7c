// Rules that turn the answers of experts into one class and class probabilities per input.
//
//   const Combination result = combine(design, answers, {.rule = Rule::quadratic});
//   result.labels[0];                          // class of the first input
//   result.probabilities[5 * result.classes];  // of the sixth input, class 0
//
// Notation: p_j(i) expert j's probability of class i of its set S_j, a_j its hard answer, pi the wanted distribution,
// pi(S) its sum over S, deg(i) the number of sets that hold i. Soft rules rest on p_j(i) = pi_i / pi(S_j) (Luce).
//
//   rule              pi or score of class i                              per input     source
//   plurality         votes(i)                                            m             baseline, unsafe
//   deficit           votes(i) - deg(i); ties: larger deg, softer score   m + K         zero-error decoder
//   votes-per-degree  votes(i) / deg(i)                                   m + K         the same
//   naive-bayes       product of R_j (1 - eps) where expert j says i,     n             Dawid-Skene with one eps
//                     of R_j eps / (R_j - 1) where it says another
//   soft-sum          mean of p_j(i) over the sets that hold i            n             -
//   log-linear        least squares on differences of log p_j             n + K^2       product of experts
//   bradley-terry     most likely pi: sum_j sum_i p_j(i) log(pi_i/pi(S))  n per step    Huang, Weng, Lin 2006
//   balance           sum_{j has i} (p_j(i) pi(S_j) - pi_i) = 0           n R + K^3/3   Wu, Lin, Weng 2004, first
//   quadratic         least sum_j sum_i (pi_i - p_j(i) pi(S_j))^2         n R + K^3/6   Wu, Lin, Weng 2004, second
//
// with m experts, K classes, n = sum_j R_j. When every pair of classes lies in a set and the in-set experts are right
// and certain, deficit, votes-per-degree, balance and quadratic all return the true class, whatever the other experts
// say.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/thread_pool.h"
#include "tessera/experts/answers.h"
#include "tessera/experts/design.h"

namespace tessera::experts {

enum class Rule {
  plurality,
  deficit,
  votes_per_degree,
  naive_bayes,
  soft_sum,
  log_linear,
  bradley_terry,
  balance,
  quadratic,
};

// "plurality", "deficit", ..., as in the table above.
const char* to_string(Rule rule);
// Throws Error(invalid_argument) listing the names.
Rule parse_rule(std::string_view name);
std::span<const Rule> all_rules();

struct CombineOptions {
  Rule rule = Rule::quadratic;  // best labels; balance gives the best probabilities (docs/experts-rules.md)
  double in_set_error = 0.05;   // eps of naive-bayes, and the doubt put on hard labels given to a soft rule; in (0, 1)
  int steps = 50;               // of bradley-terry, >= 1
  double temperature = 1;       // probabilities become pi^(1/temperature), normalised; > 0, see fit_temperature
  ThreadPool* pool = nullptr;   // null: ThreadPool::shared(); the result does not depend on it
};

struct Combination {
  int64_t inputs = 0;
  int classes = 0;
  std::vector<int32_t> labels;        // [inputs]
  std::vector<float> probabilities;   // [inputs, classes], rows sum to 1; for plurality, deficit and votes-per-degree
                                      // normalised scores that are no calibrated probabilities
  std::vector<std::string> warnings;  // for example that plurality is unsafe on this design
};

// Applies one rule. Soft rules given labels only read them as 1 - eps on the label and eps / (R_j - 1) elsewhere; hard
// rules given probabilities use the most probable class. Where `gate` is set, naive-bayes, soft-sum, balance and
// quadratic weight expert j by it. Experts that were not asked (label -1) are left out of votes and degrees. Throws
// Error(invalid_argument) for a bad option, a design whose classes are not connected by shared sets (soft rules) or
// answers that were not asked given to log-linear, bradley-terry, balance or quadratic without probabilities.
// Answers must have passed check_answers.
Combination combine(const Design& design, const Answers& answers, const CombineOptions& options = {});

// Ordered pairs (y, l) for which an adversary can make plurality answer l while y is true: deg(y) <= deg(l) - lambda(l,
// y). Empty: plurality is safe on this design.
std::vector<std::pair<int, int>> unsafe_for_plurality(const Design& design);

// The temperature in [0.05, 20] with the least negative log-likelihood on held-out inputs, by golden-section search
// over its logarithm. probabilities: [inputs, classes]; labels: [inputs]. Throws Error(invalid_argument) when there are
// none.
double fit_temperature(std::span<const float> probabilities, int classes, std::span<const int32_t> labels);

// pi^(1/temperature), normalised per row, in place.
void apply_temperature(std::span<float> probabilities, int classes, double temperature);

}  // namespace tessera::experts
