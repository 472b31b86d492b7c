// Labels from labelers (people or programs without probabilities) who each know only some classes and answer with one
// of them whatever they see: their habits and the true classes are estimated together.
//
//   const LabelerFit fit = fit_labelers(design, answers, {.model = LabelerModel::dawid_skene});
//   fit.combination.labels[0];                  // class of the first item
//   fit.in_set_error[3];                        // how often labeler 3 errs on classes of its set
//
// Both models: the item's class y is drawn from a prior over K classes; given y the labelers answer independently.
//   one-coin      labeler j is right with probability 1 - eps_j when y is in its set, its errors are uniform over the
//                 R_j - 1 other classes; out of set it answers uniformly over the R_j classes.
//   dawid-skene   labeler j has a K x R_j confusion matrix, row y its distribution of answers for class y.
// Fitted by expectation maximisation of the posterior density (Dawid, Skene 1979, equations 2.3 to 2.5) under Dirichlet
// priors: `prior_weight` pseudo answers per row, in-set rows with mean (1 - eps) on the class itself and eps / (R_j -
// 1) elsewhere, out-of-set rows uniform; one pseudo item per class. Without the prior, rows of out-of-set classes can
// take over the in-set ones and classes change names. The density never falls from step to step; Dawid-Skene's steps
// are lengthened while it grows (Salakhutdinov, Roweis 2003, adaptive over-relaxation).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tessera/base/thread_pool.h"
#include "tessera/experts/answers.h"
#include "tessera/experts/combine.h"
#include "tessera/experts/design.h"

namespace tessera::experts {

enum class LabelerModel { one_coin, dawid_skene };

// "one-coin", "dawid-skene".
const char* to_string(LabelerModel model);

struct LabelerOptions {
  LabelerModel model = LabelerModel::dawid_skene;
  double in_set_error = 0.1;   // eps of the start and of the prior, in (0, 1)
  double prior_weight = 5;     // pseudo answers behind each row of a confusion matrix, > 0
  int steps = 100;             // most steps, >= 1
  double tolerance = 1e-5;     // stops when the log density per item grows by less
  ThreadPool* pool = nullptr;  // null: ThreadPool::shared(); the result does not depend on it
};

struct LabelerFit {
  Combination combination;           // most probable classes and their posterior probabilities
  std::vector<double> class_share;   // [classes], sums to 1
  std::vector<double> confusion;     // dawid-skene: labeler after labeler [classes, R_j], rows sum to 1; else empty
  std::vector<double> in_set_error;  // [experts]: over classes of the set, weighted by class_share
  std::vector<double> log_density;   // after each step, per item; never falls
};

// Answers: labels, -1 where a labeler was not asked; probabilities are reduced to most probable classes. O(items *
// labelers * classes) per step. Throws Error(invalid_argument) for an option out of range or no item. Answers must have
// passed check_answers.
LabelerFit fit_labelers(const Design& design, const Answers& answers, const LabelerOptions& options = {});

}  // namespace tessera::experts
