#include "experts/covering/permutation_group.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "experts/covering/galois_field.h"

namespace tessera::experts {
namespace {

Permutation identity(int points) {
  Permutation p(static_cast<size_t>(points));
  std::iota(p.begin(), p.end(), 0);
  return p;
}

// first a, then b
Permutation product(const Permutation& a, const Permutation& b) {
  Permutation p(a.size());
  for (size_t i = 0; i < a.size(); ++i) p[i] = b[static_cast<size_t>(a[i])];
  return p;
}

// The map x -> image(x) on each of the first `cycles` runs of n points.
template <typename Image>
Permutation on_cycles(int points, int n, int cycles, const Image& image) {
  Permutation p = identity(points);
  for (int c = 0; c < cycles; ++c) {
    for (int x = 0; x < n; ++x) p[static_cast<size_t>(c * n + x)] = c * n + image(x);
  }
  return p;
}

int multiplicative_order(int m, int n) {
  if (std::gcd(m, n) != 1) return 0;
  int order = 1;
  for (int64_t power = m; power != 1; power = power * m % n) ++order;
  return order;
}

// Rotations of c cycles of length n whose further points are in cycles of divisors of n, not all of them fixed.
void add_mixed(int points, int n, int cycles, std::vector<PermutationGroup>& groups) {
  Permutation p = identity(points);
  const auto rotate = [&](int first, int length) {
    for (int x = 0; x < length; ++x) p[static_cast<size_t>(first + x)] = first + (x + 1) % length;
  };
  for (int c = 0; c < cycles; ++c) rotate(c * n, n);
  // Cycles of `length` or less for the points from `first` on.
  const std::function<void(int, int, const std::string&)> go_on = [&](int first, int length, const std::string& name) {
    const int left = points - first;
    if (length == 1) {
      if (first == cycles * n) return;
      groups.emplace_back(points, std::vector<Permutation>{p}, fmt::format("{}, {} fixed", name, left));
      return;
    }
    const int most = n % length == 0 ? left / length : 0;
    for (int count = most; count >= 0; --count) {
      for (int c = 0; c < count; ++c) rotate(first + c * length, length);
      go_on(first + count * length, length - 1, count > 0 ? fmt::format("{}, {} of {}", name, count, length) : name);
      for (int x = first; x < points; ++x) p[static_cast<size_t>(x)] = x;
    }
  };
  go_on(cycles * n, n - 1, fmt::format("rotation of {} cycles of {}", cycles, n));
}

}  // namespace

PermutationGroup::PermutationGroup(int points, const std::vector<Permutation>& generators, std::string name,
                                   size_t most)
    : points_(points),
      name_(std::move(name)),
      elements_{identity(points)},
      regular_points_(static_cast<size_t>(points), 1) {
  std::set<Permutation> known(elements_.begin(), elements_.end());
  for (size_t i = 0; i < elements_.size(); ++i) {
    for (const Permutation& generator : generators) {
      Permutation next = product(elements_[i], generator);
      if (!known.insert(next).second) continue;
      elements_.push_back(std::move(next));
      if (elements_.size() > most) {
        elements_.clear();
        return;
      }
    }
  }
  for (size_t g = 1; g < elements_.size(); ++g) {
    for (size_t x = 0; x < regular_points_.size(); ++x) {
      if (elements_[g][x] == static_cast<int>(x)) regular_points_[x] = 0;
    }
  }
}

PermutationGroup::PairClasses PermutationGroup::pair_classes() const {
  const auto n = static_cast<size_t>(points_);
  PairClasses classes{.of = std::vector<int>(n * n, -1), .size = {}};
  for (size_t a = 0; a < n; ++a) {
    for (size_t b = a + 1; b < n; ++b) {
      if (classes.of[a * n + b] >= 0) continue;
      const auto number = static_cast<int>(classes.size.size());
      classes.size.push_back(0);
      for (const Permutation& g : elements_) {
        const auto x = static_cast<size_t>(g[a]), y = static_cast<size_t>(g[b]);
        if (classes.of[x * n + y] >= 0) continue;
        classes.of[x * n + y] = classes.of[y * n + x] = number;
        ++classes.size.back();
      }
    }
  }
  return classes;
}

std::vector<PermutationGroup::Subgroup> PermutationGroup::cyclic_subgroups() const {
  std::map<std::vector<size_t>, Subgroup> found;  // by cycle type
  for (const Permutation& g : elements_) {
    Subgroup subgroup;
    std::vector<bool> seen(static_cast<size_t>(points_), false);
    std::vector<size_t> type;
    for (int start = 0; start < points_; ++start) {
      if (seen[static_cast<size_t>(start)]) continue;
      subgroup.orbits.emplace_back();
      for (int x = start; !seen[static_cast<size_t>(x)]; x = g[static_cast<size_t>(x)]) {
        seen[static_cast<size_t>(x)] = true;
        subgroup.orbits.back().push_back(x);
      }
      type.push_back(subgroup.orbits.back().size());
    }
    std::sort(type.begin(), type.end());
    for (const size_t length : type) subgroup.order = std::lcm(subgroup.order, static_cast<int>(length));
    if (subgroup.order > 1) found.emplace(type, std::move(subgroup));
  }
  std::vector<Subgroup> subgroups;
  for (auto& [type, subgroup] : found) subgroups.push_back(std::move(subgroup));
  return subgroups;
}

std::vector<std::vector<int>> PermutationGroup::images(const std::vector<int>& set) const {
  std::set<std::vector<int>> distinct;
  for (const Permutation& g : elements_) {
    std::vector<int> image;
    for (const int x : set) image.push_back(g[static_cast<size_t>(x)]);
    std::sort(image.begin(), image.end());
    distinct.insert(std::move(image));
  }
  return {distinct.begin(), distinct.end()};
}

std::vector<PermutationGroup> groups_to_try(int points, int size) {
  std::vector<PermutationGroup> groups;
  const int most_left = size + 3, most_fixed = std::max(3, size + 1);
  for (int n = 2; n <= points; ++n) {
    for (int cycles = points / n; cycles >= 1 && points - cycles * n <= most_left; --cycles) {
      const int fixed = points - cycles * n;
      const Permutation rotation = on_cycles(points, n, cycles, [&](int x) { return (x + 1) % n; });
      groups.emplace_back(points, std::vector<Permutation>{rotation},
                          fmt::format("rotation of {} cycles of {}, {} fixed", cycles, n, fixed));
      add_mixed(points, n, cycles, groups);
      if (fixed > most_fixed) continue;
      for (int m = 2; m < n; ++m) {
        const int order = multiplicative_order(m, n);
        // One multiplier per order is enough of a variety; larger orders leave too few sets to choose.
        bool first = order >= 2 && order <= 5;
        for (int smaller = 2; smaller < m && first; ++smaller) first = multiplicative_order(smaller, n) != order;
        if (!first) continue;
        const Permutation multiplier =
            on_cycles(points, n, cycles, [&](int x) { return static_cast<int>(static_cast<int64_t>(x) * m % n); });
        groups.emplace_back(
            points, std::vector<Permutation>{rotation, multiplier},
            fmt::format("rotation of {} cycles of {} with multiplier {}, {} fixed", cycles, n, m, fixed));
      }
      const int p = prime_of_power(n);
      if (p == 0 || p == n) continue;
      std::vector<Permutation> translations;
      for (int place = 1; place < n; place *= p) {
        translations.push_back(on_cycles(
            points, n, cycles, [&](int x) { return x / place % p == p - 1 ? x - (p - 1) * place : x + place; }));
      }
      groups.emplace_back(
          points, translations,
          fmt::format("translations of {} copies of Z_{}^{}, {} fixed", cycles, p, translations.size(), fixed));
    }
  }
  std::erase_if(groups, [](const PermutationGroup& group) { return group.order() == 0; });
  return groups;
}

}  // namespace tessera::experts
