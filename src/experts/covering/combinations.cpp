#include "experts/covering/combinations.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>

#include "experts/covering/galois_field.h"
#include "experts/covering/planes.h"
#include "experts/covering/transversal.h"

namespace tessera::experts {
namespace {

constexpr int kMostLarger = 3;       // classes that deletion takes away
constexpr int kMostOrdersTried = 6;  // of transversal designs with the same groups
constexpr size_t kMostTried = 60;    // combinations of one effort

// Groups and what their transversal design looks like; group g is of size sizes[g] <= order * weights[g].
struct Groups {
  int order = 0;
  std::vector<int> weights;  // classes per point, of each group
  std::vector<int> sizes;
  int joined = 0;       // further classes
  bool wilson = false;  // every set is replaced by a small design on its weighted points
};

class Combiner {
 public:
  Combiner(const CoveringProblem& problem, Parts& parts) : v_(problem.classes), k_(problem.size), parts_(parts) {}

  // Those with at most `most` sets, fewest first.
  std::vector<Combination> all(int64_t most) {
    most_ = most;
    add_neighbours();
    for (int joined = 0; joined <= v_ / k_; ++joined) {
      for (int groups = 2; groups <= k_; ++groups) add_groups(groups, joined);
      add_wilson(joined);
    }
    std::stable_sort(found_.begin(), found_.end(),
                     [](const Combination& a, const Combination& b) { return a.sets < b.sets; });
    return std::move(found_);
  }

 private:
  void add(int64_t sets, std::string name, std::function<Design(int)> build) {
    if (sets <= most_) found_.push_back({sets, std::move(build), std::move(name)});
  }

  void add_neighbours() {
    for (int t = 2; k_ / t >= 2; ++t) {
      const int base = (v_ + t - 1) / t;
      add(parts_.covering_sets(base, k_ / t), fmt::format("{} classes in sets of {}, each for {}", base, k_ / t, t),
          [this, base, t](int effort) { return blown_up(parts_.covering(base, k_ / t, effort), t); });
    }
    for (int more = 1; more <= kMostLarger; ++more) {
      add(parts_.covering_sets(v_ + more, k_), fmt::format("{} classes less {}", v_ + more, more),
          [this, more](int effort) { return first_classes(parts_.covering(v_ + more, k_, effort)); });
    }
    if (v_ - 1 > k_) {
      add(parts_.covering_sets(v_ - 1, k_) + (v_ - 1 + k_ - 2) / (k_ - 1), fmt::format("{} classes and one", v_ - 1),
          [this](int effort) { return one_more(parts_.covering(v_ - 1, k_, effort)); });
    }
  }

  Design blown_up(const Design& base, int t) const {
    std::vector<int> weights(static_cast<size_t>(base.classes), t);
    for (int i = 0; i < base.classes * t - v_; ++i) --weights[static_cast<size_t>(i)];
    return blow_up(base, weights);
  }
  Design first_classes(Design design) const {
    for (std::vector<int>& set : design.sets) std::erase_if(set, [&](int item) { return item >= v_; });
    std::erase_if(design.sets, [](const std::vector<int>& set) { return set.size() < 2; });
    design.classes = v_;
    return design;
  }
  Design one_more(Design design) const {
    for (int first = 0; first < v_ - 1; first += k_ - 1) {
      std::vector<int> set = {v_ - 1};
      for (int i = first; i < std::min(v_ - 1, first + k_ - 1); ++i) set.push_back(i);
      design.sets.push_back(std::move(set));
    }
    design.classes = v_;
    return design;
  }

  // Equal weights, the rest of R given to the first groups; full groups and a smaller last one, or nearly equal ones.
  void add_groups(int groups, int joined) {
    std::vector<int> weights(static_cast<size_t>(groups), k_ / groups);
    for (int g = 0; g < k_ % groups; ++g) ++weights[static_cast<size_t>(g)];
    int tried = 0;
    const int first = (v_ - joined + k_ - 1) / k_;
    for (int order = std::max(1, first); tried < kMostOrdersTried && order * weights.back() < v_; ++order) {
      if (groups > most_groups(order)) continue;
      ++tried;
      std::vector<int> sizes;
      int left = v_ - joined;
      for (const int weight : weights) {
        sizes.push_back(std::min(left, order * weight));
        left -= sizes.back();
      }
      if (left > 0) continue;
      add_parts({order, weights, sizes, joined});
      std::vector<int> even;
      left = v_ - joined;
      for (int g = 0; g < groups; ++g) {
        even.push_back(std::min((left + groups - g - 1) / (groups - g), order * weights[static_cast<size_t>(g)]));
        left -= even.back();
      }
      if (left == 0 && even != sizes) add_parts({order, weights, even, joined});
    }
  }

  // v = (R - 1) (R order + truncated) + joined, for R a prime power, and R - 1 one too unless the last group is full.
  void add_wilson(int joined) {
    if (prime_of_power(k_) == 0 || (v_ - joined) % (k_ - 1) != 0) return;
    const int points = (v_ - joined) / (k_ - 1);
    for (int order = 2; order * k_ <= points; ++order) {
      const int last = points - order * k_;
      if (last > order || most_groups(order) < k_ + (last > 0 ? 1 : 0)) continue;
      if (last < order && prime_of_power(k_ - 1) == 0) continue;
      Groups groups{.order = order, .joined = joined, .wilson = true};
      groups.weights.assign(static_cast<size_t>(k_ + (last > 0 ? 1 : 0)), k_ - 1);
      groups.sizes.assign(static_cast<size_t>(k_), order * (k_ - 1));
      if (last > 0) groups.sizes.push_back(last * (k_ - 1));
      add_parts(std::move(groups));
    }
  }

  // Sets of the transversal design that hold two points or more, at least; all of them where two groups are full.
  int64_t cross_sets(const Groups& groups) const {
    const int64_t order = groups.order;
    if (!groups.wilson) {
      std::vector<int64_t> points;
      for (size_t g = 0; g < groups.sizes.size(); ++g) {
        points.push_back((groups.sizes[g] + groups.weights[g] - 1) / groups.weights[g]);
      }
      std::partial_sort(points.begin(), points.begin() + 2, points.end(), std::greater<>());
      return points[0] * points[1];
    }
    const int64_t longer = groups.sizes.size() > static_cast<size_t>(k_) ? groups.sizes.back() / (k_ - 1) * order : 0;
    return longer * (k_ * k_ - 1) + (order * order - longer) * (k_ - 1) * (k_ - 1);
  }

  void add_parts(Groups groups) {
    std::erase(groups.sizes, 0);
    groups.weights.resize(groups.sizes.size());
    if (groups.sizes.size() < 2) return;
    // One group is covered with the joined classes and all: the one for which that costs least.
    int64_t sum = cross_sets(groups), least = 0;
    size_t whole = 0;
    for (size_t g = 0; g < groups.sizes.size(); ++g) {
      const int n = groups.sizes[g] + groups.joined;
      const int64_t part = n <= 1 ? 0 : parts_.hole_sets(n, groups.joined, k_);
      const int64_t more = (n <= 1 ? 0 : parts_.covering_sets(n, k_)) - part;
      if (n <= groups.joined + 1 && groups.joined == 0) continue;
      sum += part;
      if (g == 0 || more < least) {
        least = more;
        whole = g;
      }
    }
    const std::string name = fmt::format("{} groups of {} in a transversal design and {} more{}", groups.sizes.size(),
                                         groups.sizes.front(), groups.joined, groups.wilson ? ", weighted" : "");
    add(sum + least, name, [this, groups, whole](int effort) { return build(groups, whole, effort); });
  }

  // Class i of group g is offset[g] + i; the joined classes come last.
  Design build(const Groups& groups, size_t whole, int effort) {
    Design design{.classes = v_, .sets = {}};
    std::vector<int> offset = {0};
    for (const int size : groups.sizes) offset.push_back(offset.back() + size);
    for (size_t g = 0; g < groups.sizes.size(); ++g) {
      const int n = groups.sizes[g] + groups.joined;
      if (n <= 1) continue;
      const Design& part = g == whole ? parts_.covering(n, k_, effort) : parts_.with_hole(n, groups.joined, k_, effort);
      if (part.sets.empty()) return {};
      for (std::vector<int> set : part.sets) {
        for (int& item : set) item += item < groups.sizes[g] ? offset[g] : offset.back() - groups.sizes[g];
        design.sets.push_back(std::move(set));
      }
    }
    const Design cross = transversal_design(static_cast<int>(groups.sizes.size()), groups.order);
    for (const std::vector<int>& line : cross.sets) add_line(groups, offset, line, design);
    return design;
  }

  // The classes that a point stands for.
  std::vector<int> classes_of(const Groups& groups, const std::vector<int>& offset, int point) const {
    const auto g = static_cast<size_t>(point / groups.order);
    const int weight = groups.weights[g], first = point % groups.order * weight;
    std::vector<int> classes;
    for (int i = first; i < std::min(groups.sizes[g], first + weight); ++i) classes.push_back(offset[g] + i);
    return classes;
  }

  void add_line(const Groups& groups, const std::vector<int>& offset, const std::vector<int>& line, Design& design) {
    std::vector<std::vector<int>> points;
    for (const int point : line) {
      points.push_back(classes_of(groups, offset, point));
      if (points.back().empty()) points.pop_back();
    }
    if (points.size() < 2) return;
    if (!groups.wilson) {
      std::vector<int> set;
      for (const std::vector<int>& classes : points) set.insert(set.end(), classes.begin(), classes.end());
      design.sets.push_back(std::move(set));
      return;
    }
    for (const std::vector<int>& base : small_design(static_cast<int>(points.size())).sets) {
      std::vector<int> set;
      for (const int item : base) {
        set.push_back(points[static_cast<size_t>(item / (k_ - 1))][static_cast<size_t>(item % (k_ - 1))]);
      }
      design.sets.push_back(std::move(set));
    }
  }

  // Sets of R on `groups` (R or R + 1) groups of R - 1 points that hold every pair of different groups once: an affine
  // plane without a point, whose lines through the point are the groups; or a transversal design.
  const Design& small_design(int groups) {
    Design& design = small_[groups == k_ ? 0 : 1];
    if (!design.sets.empty()) return design;
    if (groups == k_) return design = transversal_design(k_, k_ - 1);
    std::vector<int> label(static_cast<size_t>(k_) * static_cast<size_t>(k_), -1);
    int next = 0;
    const Design plane = affine_plane(k_);
    for (const std::vector<int>& line : plane.sets) {
      if (std::find(line.begin(), line.end(), 0) == line.end()) continue;
      for (const int point : line) {
        if (point != 0) label[static_cast<size_t>(point)] = next++;
      }
    }
    design.classes = next;
    for (std::vector<int> line : plane.sets) {
      if (std::find(line.begin(), line.end(), 0) != line.end()) continue;
      for (int& point : line) point = label[static_cast<size_t>(point)];
      design.sets.push_back(std::move(line));
    }
    return design;
  }

  const int v_, k_;
  Parts& parts_;
  int64_t most_ = 0;
  std::array<Design, 2> small_;
  std::vector<Combination> found_;
};

}  // namespace

std::vector<Combination> combinations(const CoveringProblem& problem, Parts& parts, int64_t most) {
  if (problem.lambda != 1 || problem.size < 3) return {};
  // The combinations share the object that builds them.
  const auto combiner = std::make_shared<Combiner>(problem, parts);
  std::vector<Combination> found = combiner->all(most);
  for (Combination& combination : found) {
    combination.build = [combiner, build = std::move(combination.build)](int effort) { return build(effort); };
  }
  return found;
}

void CombinationSearch::run(double seconds) {
  const double until = incumbent_.seconds() + seconds;
  if (next_ >= left_.size()) {
    left_ = combinations(incumbent_.problem(), parts_, incumbent_.sets() - 1);
    left_.resize(std::min(left_.size(), kMostTried));
    next_ = 0;
    ++effort_;
  }
  for (; next_ < left_.size(); ++next_) {
    if (incumbent_.stop() || incumbent_.seconds() >= until) return;
    if (left_[next_].sets >= incumbent_.sets()) continue;
    Design design = left_[next_].build(effort_);
    if (!design.sets.empty()) incumbent_.offer(std::move(design), left_[next_].name);
  }
}

}  // namespace tessera::experts
