// What both questioners ask of a plan.
#pragma once

#include <vector>

#include "tessera/experts/adaptive.h"

namespace tessera::experts {

template <typename Value>
int32_t QuestionPlan::least(const std::vector<Value>& values) const {
  size_t best = 0;
  for (size_t i = 1; i < values.size(); ++i) {
    const bool better = values[i] != values[best] ? values[i] < values[best] : degrees_[i] > degrees_[best];
    if (better) best = i;
  }
  return static_cast<int32_t>(best);
}

template <typename Worth>
int QuestionPlan::best_question(const std::vector<bool>& done, int32_t must_know, Worth worth) const {
  int best = -1;
  double best_worth = -1;
  const auto consider = [&](int expert) {
    if (done[static_cast<size_t>(expert)]) return;
    double sum = 0;
    for (const int item : design_.sets[static_cast<size_t>(expert)]) sum += worth(static_cast<size_t>(item));
    if (sum > best_worth) best = expert, best_worth = sum;
  };
  if (must_know >= 0) {
    for (const int expert : sets_of_[static_cast<size_t>(must_know)]) consider(expert);
  } else {
    for (size_t j = 0; j < done.size(); ++j) consider(static_cast<int>(j));
  }
  return best;
}

}  // namespace tessera::experts
