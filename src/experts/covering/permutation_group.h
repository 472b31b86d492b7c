// Small permutation groups on the classes, given by generators, with what a search under prescribed automorphisms
// needs: orbits of pairs, and the orbits of points under a subgroup.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera::experts {

using Permutation = std::vector<int>;

class PermutationGroup {
 public:
  // All elements, by closure. `most` bounds their number; a larger group is left empty.
  PermutationGroup(int points, const std::vector<Permutation>& generators, std::string name, size_t most = 512);

  int points() const { return points_; }
  const std::string& name() const { return name_; }
  const std::vector<Permutation>& elements() const { return elements_; }
  int order() const { return static_cast<int>(elements_.size()); }

  // pair_class[a * points + b]: number of the orbit of {a, b}; class_size[c]: pairs in it.
  struct PairClasses {
    std::vector<int> of;
    std::vector<int> size;
  };
  PairClasses pair_classes() const;

  // One cyclic subgroup for each cycle type of the elements except the identity.
  struct Subgroup {
    int order = 1;
    std::vector<std::vector<int>> orbits;  // of points
  };
  std::vector<Subgroup> cyclic_subgroups() const;

  // [points]: 1 for those that no element but the identity fixes.
  const std::vector<char>& regular_points() const { return regular_points_; }

  // The distinct images of a set of points.
  std::vector<std::vector<int>> images(const std::vector<int>& set) const;

 private:
  int points_;
  std::string name_;
  std::vector<Permutation> elements_;
  std::vector<char> regular_points_;
};

// Groups worth trying on `points` classes with sets of `size`: rotations of c cycles of length n whose remaining points
// are fixed or in cycles of divisors of n; those that fix them with a multiplier x -> m x on every cycle; translations
// of elementary abelian groups. At most size + 3 points remain, for a rotation alone, or size + 1.
std::vector<PermutationGroup> groups_to_try(int points, int size);

}  // namespace tessera::experts
