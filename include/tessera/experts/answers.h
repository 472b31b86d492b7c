// What experts said about inputs: hard labels or probabilities, for a whole batch of inputs.
//
//   Answers answers;                         // three inputs, the design's experts
//   answers.inputs = 3;
//   answers.probabilities = ...;             // [3, answer_columns(design)]: expert 0's classes, then expert 1's, ...
//   check_answers(design, answers, "answers.npy");
//
// Columns of probabilities follow the design: expert j's columns are the classes of design.sets[j] in their order, and
// the experts follow each other, so there are sum_j R_j columns.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tessera/experts/design.h"

namespace tessera::experts {

struct Answers {
  int64_t inputs = 0;
  std::vector<float>
      probabilities;            // [inputs, sum_j R_j]; each expert's block sums to 1; empty when there are labels only
  std::vector<int32_t> labels;  // [inputs, experts]: a class of the expert's set, or -1: not asked; may be empty
  std::vector<float> gate;      // [inputs, experts] in [0, 1]: how far the input looks in-set; empty: 1 everywhere
  std::vector<float> evidence;  // [inputs, experts]: log-sum-exp of each expert's outputs, see gate.h; may be empty
};

// sum_j R_j.
int64_t answer_columns(const Design& design);

// First column of each expert, and the total at the end: [experts + 1].
std::vector<int32_t> answer_offsets(const Design& design);

// Number of sets that hold each class: [classes].
std::vector<int32_t> class_degrees(const Design& design);

// Throws Error(bad_file) naming `name`, the input and the expert of the first value that is no answer: a wrong number
// of values, NaN, a negative probability, a block whose sum is further than 1e-3 from 1, a label outside the expert's
// set.
void check_answers(const Design& design, const Answers& answers, std::string_view name);

// Each expert's most probable class, the earlier one in its set on a tie: [inputs, experts].
// Expects probabilities; O(inputs * sum_j R_j).
std::vector<int32_t> most_probable(const Design& design, const Answers& answers);

}  // namespace tessera::experts
