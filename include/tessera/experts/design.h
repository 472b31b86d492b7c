// Designs: which classes each small classifier (expert) knows.
//
//   Design design{.classes = 7, .sets = {{0, 1, 2}, {0, 3, 4}, {0, 5, 6}, {1, 3, 5}, {1, 4, 6}, {2, 3, 6}, {2, 4, 5}}};
//   check_design(design);                // the Fano plane: every pair of classes is in one set
//
// Source: Ahn, Ozgur, Pilanci, "Global Multiclass Classification and Dataset Construction via Heterogeneous Local
// Experts" (IEEE JSAIT 2020): under perfect in-set and adversarial out-of-set answers some decoder is always right if
// and only if every pair of classes lies in some set.
#pragma once

#include <vector>

namespace tessera::experts {

struct Design {
  int classes = 0;                     // K
  std::vector<std::vector<int>> sets;  // one per expert: its classes, ascending, each in [0, classes)
};

// Throws Error(invalid_argument) that names the first set which is empty, unsorted, has a class twice or one out of
// range. Whether every pair is covered is another question.
void check_design(const Design& design);

}  // namespace tessera::experts
