// Orbits of sets under a group as the options of an exact cover: each orbit holds some orbits of pairs, every pair
// once.
#pragma once

#include <functional>
#include <vector>

#include "experts/covering/permutation_group.h"
#include "tessera/experts/design.h"

namespace tessera::experts {

struct OrbitOption {
  std::vector<int> base;     // one set of the orbit
  std::vector<int> classes;  // the open orbits of pairs that it covers
};

struct OrbitCover {
  std::vector<OrbitOption> options;
  int open_classes = 0;

  std::vector<std::vector<int>> items() const;  // of each option
};

// Orbits of sets of `size` (2 or more) without a pair that is `done` and whose images hold no pair twice. `done` must
// say the same of all images of a pair. Takes time in proportion to the sets that hold one pair of each class; more
// than `most` options: none are given.
OrbitCover orbit_options(const PermutationGroup& group, int size, const std::function<bool(int, int)>& done,
                         size_t most);

// All images of the chosen options.
void append_orbits(const PermutationGroup& group, const OrbitCover& cover, const std::vector<size_t>& chosen,
                   Design& design);

}  // namespace tessera::experts
