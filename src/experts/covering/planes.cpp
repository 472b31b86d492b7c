#include "experts/covering/planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "experts/covering/galois_field.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr int kMaxOrder = 256;  // of a plane: 65,793 points
constexpr int kOrdersTried = 4;

Design lines(int q, bool projective) {
  const GaloisField field(q);
  Design plane{.classes = projective ? q * q + q + 1 : q * q, .sets = {}};
  for (int slope = 0; slope < q; ++slope) {
    for (int offset = 0; offset < q; ++offset) {
      std::vector<int> line;
      for (int x = 0; x < q; ++x) line.push_back(x * q + field.add(field.multiply(slope, x), offset));
      if (projective) line.push_back(q * q + slope);
      plane.sets.push_back(std::move(line));
    }
  }
  for (int x = 0; x < q; ++x) {
    std::vector<int> line(static_cast<size_t>(q));
    std::iota(line.begin(), line.end(), x * q);
    if (projective) line.push_back(q * q + q);
    plane.sets.push_back(std::move(line));
  }
  if (projective) {
    std::vector<int> line(static_cast<size_t>(q) + 1);
    std::iota(line.begin(), line.end(), q * q);
    plane.sets.push_back(std::move(line));
  }
  return plane;
}

// Weights for the points of one plane, with the weight of each line kept.
class Weights {
 public:
  Weights(const Design& plane, int weight)
      : through_(static_cast<size_t>(plane.classes)),
        point_(static_cast<size_t>(plane.classes), weight) {
    for (size_t j = 0; j < plane.sets.size(); ++j) {
      for (const int i : plane.sets[j]) through_[static_cast<size_t>(i)].push_back(j);
      line_.push_back(static_cast<int>(plane.sets[j].size()) * weight);
    }
    total_ = static_cast<int64_t>(plane.classes) * weight;
  }

  void add(int point, int weight) {
    point_[static_cast<size_t>(point)] += weight;
    total_ += weight;
    for (const size_t j : through_[static_cast<size_t>(point)]) line_[j] += weight;
  }
  int heaviest_line(int point) const {
    int heaviest = 0;
    for (const size_t j : through_[static_cast<size_t>(point)]) heaviest = std::max(heaviest, line_[j]);
    return heaviest;
  }
  int point(int i) const { return point_[static_cast<size_t>(i)]; }
  const std::vector<int>& points() const { return point_; }
  int line(size_t j) const { return line_[j]; }
  int64_t total() const { return total_; }

 private:
  std::vector<std::vector<size_t>> through_;
  std::vector<int> point_, line_;
  int64_t total_ = 0;
};

// One more class at points whose lines all have room, in random order.
void fill(Weights& weights, const Design& plane, int size, Random& random) {
  std::vector<int> order(static_cast<size_t>(plane.classes));
  std::iota(order.begin(), order.end(), 0);
  random.shuffle(order);
  for (const int i : order) {
    if (weights.heaviest_line(i) < size) weights.add(i, 1);
  }
}

// Which whole lines are emptied first.
enum class Emptied {
  fullest,  // through points that are empty already: few points are lost
  general,  // no three through a point: every other line loses most
};

// Empties points until no line exceeds `size`: whole lines first, then single points on the most overfull lines.
void empty_overfull(Weights& weights, const Design& plane, int size, Emptied emptied, Random& random) {
  std::vector<size_t> order(plane.sets.size());
  std::iota(order.begin(), order.end(), size_t{0});
  random.shuffle(order);
  const int excess = static_cast<int>(plane.sets[0].size()) - size;
  for (int removed = 0; removed < 2 * excess - 1; ++removed) {
    const auto fuller = [&](size_t a, size_t b) { return weights.line(a) < weights.line(b); };
    const auto thinner = [&](size_t a, size_t b) {
      return weights.line(b) > 0 && (weights.line(a) == 0 || weights.line(a) > weights.line(b));
    };
    const size_t fullest = *std::max_element(order.begin(), order.end(), fuller);
    if (weights.line(fullest) <= size) break;
    const size_t line = emptied == Emptied::fullest ? fullest : *std::max_element(order.begin(), order.end(), thinner);
    for (const int i : plane.sets[line]) weights.add(i, -weights.point(i));
  }
  for (size_t j = 0; j < plane.sets.size(); ++j) {
    for (const int i : plane.sets[j]) {
      if (weights.line(j) <= size) break;
      weights.add(i, -weights.point(i));
    }
  }
}

// Takes classes away until exactly `classes` are left, emptying one line after the other.
void take_surplus(Weights& weights, const Design& plane, int64_t classes) {
  while (weights.total() > classes) {
    size_t lightest = plane.sets.size();
    for (size_t j = 0; j < plane.sets.size(); ++j) {
      if (weights.line(j) > 1 && (lightest == plane.sets.size() || weights.line(j) < weights.line(lightest))) {
        lightest = j;
      }
    }
    if (lightest == plane.sets.size()) return;
    for (const int i : plane.sets[lightest]) {
      while (weights.total() > classes && weights.point(i) > 0 && weights.line(lightest) > 1) weights.add(i, -1);
    }
  }
}

}  // namespace

Design projective_plane(int q) { return lines(q, true); }
Design affine_plane(int q) { return lines(q, false); }

Design blow_up(const Design& base, const std::vector<int>& weights) {
  std::vector<int> first(weights.size() + 1, 0);
  std::partial_sum(weights.begin(), weights.end(), first.begin() + 1);
  Design design{.classes = first.back(), .sets = {}};
  for (const std::vector<int>& line : base.sets) {
    std::vector<int> set;
    for (const int i : line) {
      for (int item = first[static_cast<size_t>(i)]; item < first[static_cast<size_t>(i) + 1]; ++item)
        set.push_back(item);
    }
    if (set.size() > 1) design.sets.push_back(std::move(set));
  }
  return design;
}

std::vector<NamedDesign> plane_coverings(const CoveringProblem& problem, uint64_t seed) {
  std::vector<NamedDesign> found;
  int tried = 0;
  for (int q = 2; q <= kMaxOrder && tried < kOrdersTried; ++q) {
    if (prime_of_power(q) == 0) continue;
    // A line of q + 1 points holds `size` classes, so the plane at most about this many.
    const double share = static_cast<double>(problem.size) / (q + 1);
    if (share * (q * q + q + 1) < problem.classes) continue;
    ++tried;
    const Design plane = projective_plane(q);
    for (const Emptied emptied : {Emptied::fullest, Emptied::general}) {
      Random random(seed ^ static_cast<uint64_t>(q));
      Weights weights(plane, std::max(1, problem.size / (q + 1)));
      if (q + 1 > problem.size) empty_overfull(weights, plane, problem.size, emptied, random);
      fill(weights, plane, problem.size, random);
      if (weights.total() >= problem.classes) take_surplus(weights, plane, problem.classes);
      if (weights.total() == problem.classes) {
        found.push_back({blow_up(plane, weights.points()), fmt::format("plane PG(2,{}) with weighted points", q)});
      }
      if (q + 1 <= problem.size) break;  // nothing was emptied
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const NamedDesign& a, const NamedDesign& b) {
    return a.design.sets.size() < b.design.sets.size();
  });
  return found;
}

}  // namespace tessera::experts
