#include "experts/covering/triples.h"

#include <algorithm>

#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

// Classes (x, column): x in a quasigroup of order n, column in 0..2.
int at(int x, int column, int n) { return (column % 3) * n + x; }

// Bose: from the idempotent commutative quasigroup (a + b) / 2 of odd order n.
Design bose(int t) {
  const int n = 2 * t + 1;
  Design design{.classes = 3 * n, .sets = {}};
  for (int x = 0; x < n; ++x) {
    design.sets.push_back({at(x, 0, n), at(x, 1, n), at(x, 2, n)});
    for (int y = x + 1; y < n; ++y) {
      const int middle = (x + y) * (t + 1) % n;
      for (int c = 0; c < 3; ++c) design.sets.push_back({at(x, c, n), at(y, c, n), at(middle, c + 1, n)});
    }
  }
  return design;
}

// Skolem: from a half-idempotent commutative quasigroup of even order 2 t and one more class.
Design skolem(int t) {
  const int n = 2 * t, extra = 3 * n;
  Design design{.classes = 3 * n + 1, .sets = {}};
  const auto middle = [&](int x, int y) {
    const int sum = (x + y) % n;
    return sum % 2 == 0 ? sum / 2 : t + sum / 2;
  };
  for (int x = 0; x < t; ++x) {
    design.sets.push_back({at(x, 0, n), at(x, 1, n), at(x, 2, n)});
    for (int c = 0; c < 3; ++c) design.sets.push_back({at(t + x, c, n), at(x, c + 1, n), extra});
  }
  for (int x = 0; x < n; ++x) {
    for (int y = x + 1; y < n; ++y) {
      for (int c = 0; c < 3; ++c) design.sets.push_back({at(x, c, n), at(y, c, n), at(middle(x, y), c + 1, n)});
    }
  }
  return design;
}

// Stinson's hill climbing: decomposes the complete graph with some doubled edges into triangles.
class HillClimb {
 public:
  HillClimb(int classes, const std::vector<std::pair<int, int>>& excess, uint64_t seed)
      : n_(static_cast<size_t>(classes)), random_(seed), open_(n_ * n_, 1), degree_(n_, classes - 1) {
    for (size_t i = 0; i < n_; ++i) open_[i * n_ + i] = 0;
    left_ = static_cast<int64_t>(classes) * (classes - 1) / 2;
    for (const auto& [a, b] : excess) {
      change(a, b, 1);
    }
  }

  // Empty when `steps` do not suffice.
  std::vector<std::vector<int>> run(int64_t steps) {
    while (left_ > 0 && steps-- > 0) step();
    if (left_ > 0) return {};
    std::erase_if(sets_, [](const std::vector<int>& set) { return set.empty(); });
    return sets_;
  }

 private:
  void change(int a, int b, int by) {
    open_[static_cast<size_t>(a) * n_ + static_cast<size_t>(b)] += by;
    open_[static_cast<size_t>(b) * n_ + static_cast<size_t>(a)] += by;
    degree_[static_cast<size_t>(a)] += by;
    degree_[static_cast<size_t>(b)] += by;
    left_ += by;
  }
  int open(int a, int b) const { return open_[static_cast<size_t>(a) * n_ + static_cast<size_t>(b)]; }

  // A random class with an open edge to x other than `but`; -1 when there is none.
  int open_partner(int x, int but) {
    const auto start = static_cast<size_t>(random_.below(static_cast<int64_t>(n_)));
    for (size_t i = 0; i < n_; ++i) {
      const auto y = static_cast<int>((start + i) % n_);
      if (y != but && open(x, y) > 0) return y;
    }
    return -1;
  }

  void step() {
    auto x = static_cast<size_t>(random_.below(static_cast<int64_t>(n_)));
    while (degree_[x] == 0) x = (x + 1) % n_;
    const int a = static_cast<int>(x), b = open_partner(a, -1), c = open_partner(a, b);
    if (c < 0) {  // only a doubled edge is left here: undo a random set
      if (sets_.empty()) return;
      take(random_.below(static_cast<int64_t>(sets_.size())));
      return;
    }
    if (open(b, c) == 0) take(holder(b, c));
    put({a, b, c});
  }

  int64_t holder(int b, int c) const {
    for (size_t j = 0; j < sets_.size(); ++j) {
      const auto& set = sets_[j];
      if (std::count(set.begin(), set.end(), b) > 0 && std::count(set.begin(), set.end(), c) > 0) {
        return static_cast<int64_t>(j);
      }
    }
    return 0;
  }
  void put(std::vector<int> set) {
    for_pairs(set, -1);
    sets_.push_back(std::move(set));
  }
  void take(int64_t j) {
    for_pairs(sets_[static_cast<size_t>(j)], 1);
    std::swap(sets_[static_cast<size_t>(j)], sets_.back());
    sets_.pop_back();
  }
  void for_pairs(const std::vector<int>& set, int by) {
    change(set[0], set[1], by);
    change(set[0], set[2], by);
    change(set[1], set[2], by);
  }

  size_t n_;
  Random random_;
  std::vector<int> open_;    // [class, class]: how often the edge must still be in a triangle
  std::vector<int> degree_;  // [class]: its open edges
  int64_t left_ = 0;         // open edges in all
  std::vector<std::vector<int>> sets_;
};

// The excess edges of an optimal covering: every degree becomes even and the number of edges a multiple of three.
std::vector<std::pair<int, int>> excess_edges(int classes) {
  std::vector<std::pair<int, int>> edges;
  if (classes % 6 == 5) return {{0, 1}, {0, 1}};
  if (classes % 2 != 0) return edges;
  int first = 0;
  if (classes % 6 != 0) {  // a star of three edges in place of two of the matching
    edges = {{0, 1}, {0, 2}, {0, 3}};
    first = 4;
  }
  for (int a = first; a + 1 < classes; a += 2) edges.emplace_back(a, a + 1);
  return edges;
}

}  // namespace

Design triple_covering(int classes, uint64_t seed) {
  Design design{.classes = classes, .sets = {}};
  if (classes % 6 == 3) {
    design = bose((classes - 3) / 6);
  } else if (classes % 6 == 1) {
    design = skolem((classes - 1) / 6);
  } else {
    const int64_t steps = 40 * static_cast<int64_t>(classes) * classes + 10'000;
    for (uint64_t attempt = 0; design.sets.empty() && attempt < 100; ++attempt) {
      design.sets = HillClimb(classes, excess_edges(classes), Random(seed).split(attempt).bits()).run(steps);
    }
  }
  for (std::vector<int>& set : design.sets) std::sort(set.begin(), set.end());
  return design;
}

}  // namespace tessera::experts
