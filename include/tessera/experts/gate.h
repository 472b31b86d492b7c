// The out-of-set gate: how far an input looks as if an expert knew its class.
//
//   const Answers held_out = ask(ensemble, data.values, data.rows);
//   const Gate gate = fit_gate(ensemble.design, held_out, data.labels);
//   Answers answers = ask(ensemble, test.values, test.rows);
//   answers.gate = open_gate(gate, answers);        // combine() now weights every expert by it
//
// One logistic regression per expert on its evidence (log of the sum of exponentials of its outputs, the energy score
// of Liu, Wang, Owens, Li 2020), fitted on held-out inputs of ALL classes: the only place where an expert's output
// meets classes it does not know. A perfect gate needs no covering (a partition would do), a useless one changes
// nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tessera/experts/answers.h"
#include "tessera/experts/design.h"

namespace tessera::experts {

struct Gate {
  std::vector<double> slope, offset;  // [experts]: probability of in-set = 1 / (1 + exp(-(slope * evidence + offset)))
};

// The most likely logistic curves with a small Gaussian prior on both coefficients of standardised evidence (variance
// 100), by Newton's method. truth: [inputs]. An expert that knows all or none of the inputs' classes gets a gate that
// is open for every input. Throws Error(invalid_argument) for answers without evidence or no input.
Gate fit_gate(const Design& design, const Answers& answers, std::span<const int32_t> truth);

// [inputs, experts], each in [0, 1].
std::vector<float> open_gate(const Gate& gate, const Answers& answers);

}  // namespace tessera::experts
