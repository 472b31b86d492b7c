// Theory one can run: how many experts a target needs, and what simulated experts do to a design.
//
//   ExpertBounds bounds = expert_bounds({.classes = 26, .size = 5, .target_error = 0.01});
//   bounds.lines[0];      // {"zero error, adversarial", 37, "ceil(K/R ceil((K-1)/(R-1)))"}
//
//   Simulation result = simulate(design, {.outsiders = Outsiders::adversarial, .in_set_error = 0});
//   result.rules[0].errors;   // 0 for the deficit rule when every pair is covered
//
// Source: the adversarial and the stochastic model are those of Ahn, Ozgur, Pilanci (IEEE JSAIT 2020); the formulas are
// derived in docs/experts-design.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/experts/design.h"

namespace tessera::experts {

struct BoundQuestion {
  int classes = 0;             // K >= 2
  int size = 0;                // R, 2..K
  double target_error = 0.01;  // delta, in (0, 1): chance of a wrong class under the uniform model
  int in_set_errors = 0;       // e >= 0: in-set experts that may err per input under the adversarial model
};

struct BoundLine {
  std::string model;       // under what assumption
  int64_t experts = 0;     // how many are needed or suffice
  bool necessary = false;  // true: no design has fewer; false: so many suffice
  std::string formula;
};

// Throws Error(invalid_argument) for values out of range. O(K).
std::vector<BoundLine> expert_bounds(const BoundQuestion& question);

enum class Outsiders {
  adversarial,  // experts whose set lacks the true class push the rival that they can help most
  uniform,      // they answer uniformly within their set, independently
};

struct SimulateOptions {
  Outsiders outsiders = Outsiders::adversarial;
  // In-set mistakes: each in-set expert errs with this chance, uniformly among its other classes (uniform model).
  double in_set_error = 0;  // in [0, 1)
  // Adversarial model: exactly so many in-set experts err per input, those that help the rival most.
  int in_set_mistakes = 0;  // >= 0
  int64_t trials = 10000;   // inputs drawn (uniform model); the adversarial model tries every truth and rival instead
  uint64_t seed = 0;
};

struct RuleErrors {
  std::string rule;  // "deficit", "plurality", "maximum likelihood"
  int64_t errors = 0;
  double rate = 0, lower = 0, upper = 0;  // with a 95 % Wilson interval
};

struct Simulation {
  int64_t trials = 0;
  std::vector<RuleErrors> rules;
  double error_bound = 0;  // of the maximum-likelihood rule, from the formula; 1 when it says nothing
  std::string formula;     // of error_bound
};

// The design must be well-formed. O(trials m R) or, adversarial, O(K^2 m).
Simulation simulate(const Design& design, const SimulateOptions& options);

}  // namespace tessera::experts
