#include "tessera/experts/mixed_covering.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tessera/base/clock.h"
#include "tessera/base/error.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr int kMostMixedClasses = 1000;
constexpr double kOneKindShare = 0.3;               // of the time
constexpr int64_t kMostKnapsackSteps = 20'000'000;  // for the bound
constexpr int kStarts = 3;                          // sets grown per greedy step and kind; the best is taken

struct Part {
  std::vector<int> items;
  int kind = 0;
};

void check_kind(const ExpertKind& kind, bool classes_cost) {
  if (kind.size < 2 || kind.size > kMaxClasses) {
    throw Error(ErrorCode::invalid_argument, "the size of a kind must be in 2..{}, found {}", kMaxClasses, kind.size);
  }
  if (!(kind.cost > 0 || (kind.cost == 0 && classes_cost)) || !std::isfinite(kind.cost)) {
    throw Error(ErrorCode::invalid_argument,
                "the cost of a kind must be a positive number (0 only when every class has a positive cost), found {}",
                kind.cost);
  }
  if (kind.most < 0) {
    throw Error(ErrorCode::invalid_argument, "the number of a kind must be 0 (any) or more, found {}", kind.most);
  }
}

void check(const MixedProblem& problem) {
  if (problem.classes < 2 || problem.classes > kMostMixedClasses) {
    throw Error(ErrorCode::invalid_argument, "a design of several kinds needs 2 to {} classes, found {}",
                kMostMixedClasses, problem.classes);
  }
  if (problem.kinds.empty() || problem.kinds.size() > 100) {
    throw Error(ErrorCode::invalid_argument, "expected 1 to 100 kinds of experts, found {}", problem.kinds.size());
  }
  if (problem.lambda < 1 || problem.lambda > 100) {
    throw Error(ErrorCode::invalid_argument, "lambda of a design of several kinds must be in 1..100, found {}",
                problem.lambda);
  }
  const std::vector<double>& costs = problem.class_costs;
  if (!costs.empty() && costs.size() != static_cast<size_t>(problem.classes)) {
    throw Error(ErrorCode::invalid_argument, "expected {} class costs, one per class, found {}", problem.classes,
                costs.size());
  }
  for (size_t i = 0; i < costs.size(); ++i) {
    if (!(costs[i] >= 0 && std::isfinite(costs[i]))) {
      throw Error(ErrorCode::invalid_argument, "the cost of class {} must be a number of 0 or more, found {}", i,
                  costs[i]);
    }
  }
  const bool classes_cost = !costs.empty() && *std::min_element(costs.begin(), costs.end()) > 0;
  for (const ExpertKind& kind : problem.kinds) check_kind(kind, classes_cost);
}

double class_cost(const MixedProblem& problem, size_t i) {
  return problem.class_costs.empty() ? 0 : problem.class_costs[i];
}

// Fractional knapsack: pairs are bought from the kind with most pairs per cost first. Class costs are left out.
double counting_bound(const MixedProblem& problem) {
  std::vector<size_t> order(problem.kinds.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto pairs = [&](const ExpertKind& k) {
    const double size = std::min(k.size, problem.classes);
    return size * (size - 1) / 2;
  };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const ExpertKind &x = problem.kinds[a], &y = problem.kinds[b];
    return pairs(x) * y.cost > pairs(y) * x.cost;
  });
  double open = static_cast<double>(problem.lambda) * problem.classes * (problem.classes - 1) / 2, cost = 0;
  for (const size_t k : order) {
    const ExpertKind& one = problem.kinds[k];
    double number = open / pairs(one);
    if (one.most > 0) number = std::min(number, static_cast<double>(one.most));
    cost += number * one.cost;
    open -= number * pairs(one);
  }
  return cost;
}

// The least that class of cost `own` carries: whole numbers n_k of kinds with sum n_k (R_k - 1) >= lambda (K - 1) at
// cost_k / R_k + own each. Infinite when the limited kinds do not suffice.
double share_of_class(const MixedProblem& problem, double own) {
  const int need = problem.lambda * (problem.classes - 1);
  std::vector<double> least(static_cast<size_t>(need) + 1, std::numeric_limits<double>::infinity());
  least[0] = 0;  // least[n]: cost of sharing sets with others n times or more
  for (const ExpertKind& kind : problem.kinds) {
    const int size = std::min(kind.size, problem.classes), others = size - 1;
    const double price = kind.cost / size + own;
    const auto add = [&](int n, int bundle) {
      const double before = least[static_cast<size_t>(std::max(0, n - bundle * others))];
      least[static_cast<size_t>(n)] = std::min(least[static_cast<size_t>(n)], before + bundle * price);
    };
    const int enough = (need + others - 1) / others;
    if (kind.most == 0 || kind.most >= enough) {
      for (int n = 1; n <= need; ++n) add(n, 1);  // ascending: any number of times
      continue;
    }
    int left = static_cast<int>(kind.most);
    for (int bundle = 1; left > 0; left -= bundle, bundle = std::min(2 * bundle, left)) {  // binary splitting
      for (int n = need; n > 0; --n) add(n, bundle);
    }
  }
  return least[static_cast<size_t>(need)];
}

double lower_bound_of(const MixedProblem& problem) {
  std::vector<double> owns = problem.class_costs;
  owns.resize(static_cast<size_t>(problem.classes), 0);
  std::sort(owns.begin(), owns.end());
  int largest = 0;
  for (const ExpertKind& kind : problem.kinds) largest = std::max(largest, std::min(kind.size, problem.classes));
  const int need = problem.lambda * (problem.classes - 1), fewest = (need + largest - 2) / (largest - 1);
  // One knapsack per cost of a class; where that takes too long, one in all, and the fewest sets that a class needs.
  const bool separate = kMostKnapsackSteps / need / static_cast<int64_t>(problem.kinds.size()) > problem.classes;
  const double without = share_of_class(problem, 0);
  double cost = 0, last_own = 0, share = without;
  for (const double own : owns) {
    if (own != last_own) share = separate ? share_of_class(problem, own) : without + own * fewest;
    last_own = own;
    cost += share;
  }
  if (!std::isfinite(cost)) cost = 0;
  cost = std::max(cost, counting_bound(problem));
  const auto whole_number = [](double x) { return std::floor(x) == x; };
  const bool whole = std::all_of(problem.kinds.begin(), problem.kinds.end(),
                                 [&](const ExpertKind& k) { return whole_number(k.cost); }) &&
                     std::all_of(owns.begin(), owns.end(), whole_number);
  if (whole) cost = std::ceil(cost - 1e-6);
  // One kind in any number is the uniform problem.
  const ExpertKind& first = problem.kinds[0];
  if (problem.kinds.size() == 1 && first.size <= problem.classes) {
    cost =
        std::max(cost, first.cost * static_cast<double>(lower_bound(problem.classes, first.size, problem.lambda).sets));
  }
  return cost;
}

class Mixer {
 public:
  Mixer(const MixedProblem& problem, const CoveringOptions& options)
      : problem_(problem),
        options_(options),
        random_(options.seed),
        n_(static_cast<size_t>(problem.classes)),
        lambda_(problem.lambda),
        bound_(lower_bound_of(problem)) {}

  MixedCovering run() {
    start_from_one_kind();
    reset({});
    if (complete()) keep("greedy");
    while (!stop()) improve();
    if (best_.empty()) {
      throw Error(
          ErrorCode::invalid_argument,
          "no design found that holds every two of {} classes with the experts allowed; allow more of some kind",
          problem_.classes);
    }
    return result();
  }

 private:
  const ExpertKind& kind(int k) const { return problem_.kinds[static_cast<size_t>(k)]; }
  int& held(int a, int b) {
    return held_[static_cast<size_t>(std::min(a, b)) * n_ + static_cast<size_t>(std::max(a, b))];
  }
  double seconds() const { return watch_.elapsed().wall_ms / 1000; }
  bool stop() {
    if (options_.progress && !best_.empty() && seconds() >= next_report_) {
      cancelled_ = cancelled_ || !options_.progress(static_cast<int64_t>(best_.size()), seconds(), method_);
      next_report_ = seconds() + 0.2;
    }
    return cancelled_ || interrupted() || seconds() >= options_.seconds ||
           (!best_.empty() && best_cost_ <= bound_ + 1e-9);
  }

  void start_from_one_kind() {
    for (size_t k = 0; k < problem_.kinds.size() && !interrupted(); ++k) {
      const double share = options_.seconds * kOneKindShare / static_cast<double>(problem_.kinds.size());
      const Covering covering =
          find_covering({.classes = problem_.classes, .size = problem_.kinds[k].size, .lambda = lambda_},
                        {.seconds = share, .seed = options_.seed});
      const auto sets = static_cast<int64_t>(covering.design.sets.size());
      if (problem_.kinds[k].most > 0 && sets > problem_.kinds[k].most) continue;
      std::vector<Part> parts;
      for (const std::vector<int>& set : covering.design.sets) parts.push_back({set, static_cast<int>(k)});
      reset(std::move(parts));
      shrink();
      keep("one kind");
    }
  }

  void reset(std::vector<Part> parts) {
    parts_ = std::move(parts);
    held_.assign(n_ * n_, 0);
    open_ = lambda_ * static_cast<int64_t>(n_ * (n_ - 1) / 2);
    used_.assign(problem_.kinds.size(), 0);
    for (const Part& part : parts_) count(part, 1);
  }
  void count(const Part& part, int by) {
    used_[static_cast<size_t>(part.kind)] += by;
    for (size_t b = 1; b < part.items.size(); ++b) {
      for (size_t a = 0; a < b; ++a) {
        int& times = held(part.items[a], part.items[b]);
        if (by > 0 && times < lambda_) --open_;
        times += by;
        if (by < 0 && times < lambda_) ++open_;
      }
    }
  }
  bool left(int k) const { return kind(k).most == 0 || used_[static_cast<size_t>(k)] < kind(k).most; }

  // A set of kind k grown from a random open pair by the class that covers most open pairs, or most per cost where
  // classes cost something; with its gain.
  std::pair<std::vector<int>, int64_t> grow(int k) {
    std::vector<int> gain(n_, 0), set;
    std::vector<char> in(n_, 0);
    const double share = kind(k).cost / std::min(kind(k).size, problem_.classes);
    int64_t total = 0;
    for (int next = open_class(); next >= 0;) {
      set.push_back(next);
      in[static_cast<size_t>(next)] = 1;
      total += gain[static_cast<size_t>(next)];
      for (int b = 0; b < problem_.classes; ++b)
        gain[static_cast<size_t>(b)] += b != next && held(next, b) < lambda_ ? 1 : 0;
      if (static_cast<int>(set.size()) >= kind(k).size) break;
      double best = 0;
      int ties = 0;
      next = -1;
      for (int b = 0; b < problem_.classes; ++b) {
        const int g = gain[static_cast<size_t>(b)];
        if (in[static_cast<size_t>(b)] != 0 || g == 0) continue;
        const double value = g / (share + class_cost(problem_, static_cast<size_t>(b)));
        if (value < best) continue;
        ties = value > best ? 1 : ties + 1;
        best = value;
        if (random_.below(ties) == 0) next = b;
      }
    }
    std::sort(set.begin(), set.end());
    return {set, total};
  }

  // A class with an open pair, the first one from a random place on; -1: there is none.
  int open_class() {
    const auto offset = random_.below(problem_.classes);
    for (int i = 0; i < problem_.classes; ++i) {
      const int a = static_cast<int>((offset + i) % problem_.classes);
      for (int b = 0; b < problem_.classes; ++b) {
        if (b != a && held(a, b) < lambda_) return a;
      }
    }
    return -1;
  }

  // Greedy sets until every pair is covered; false when no kind is left.
  bool complete() {
    while (open_ > 0) {
      Part best;
      double merit = -1;
      for (size_t k = 0; k < problem_.kinds.size(); ++k) {
        if (!left(static_cast<int>(k))) continue;
        for (int start = 0; start < kStarts; ++start) {
          auto [set, total] = grow(static_cast<int>(k));
          if (set.size() < 2) continue;
          const double value = static_cast<double>(total) / cost_of({set, static_cast<int>(k)});
          if (value > merit) {
            merit = value;
            best = {std::move(set), static_cast<int>(k)};
          }
        }
      }
      if (merit <= 0) return false;
      count(best, 1);
      parts_.push_back(std::move(best));
    }
    shrink();
    return true;
  }

  // Every set loses the classes whose pairs others hold too and goes to the cheapest kind that has room; sets of fewer
  // than two classes vanish. Dearest first.
  void shrink() {
    std::vector<size_t> order(parts_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    random_.shuffle(order);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return kind(parts_[a].kind).cost > kind(parts_[b].kind).cost; });
    for (const size_t j : order) {
      Part& part = parts_[j];
      std::vector<int> needed;
      for (const int a : part.items) {
        const bool alone =
            std::any_of(part.items.begin(), part.items.end(), [&](int b) { return a != b && held(a, b) <= lambda_; });
        if (alone) needed.push_back(a);
      }
      count(part, -1);
      if (needed.empty()) {
        part.items.clear();
        continue;
      }
      int target = part.kind;
      for (size_t k = 0; k < problem_.kinds.size(); ++k) {
        const bool fits = static_cast<size_t>(problem_.kinds[k].size) >= needed.size();
        if (fits && left(static_cast<int>(k)) && problem_.kinds[k].cost < kind(target).cost)
          target = static_cast<int>(k);
      }
      if (target != part.kind || !problem_.class_costs.empty()) part.items = needed;
      part.kind = target;
      count(part, 1);
    }
    std::erase_if(parts_, [](const Part& part) { return part.items.empty(); });
  }

  double cost_of(const Part& part) const {
    double sum = kind(part.kind).cost;
    for (const int i : part.items) sum += class_cost(problem_, static_cast<size_t>(i));
    return sum;
  }
  double cost() const {
    double sum = 0;
    for (const Part& part : parts_) sum += cost_of(part);
    return sum;
  }

  void keep(const char* method) {
    if (!best_.empty() && cost() > best_cost_ + 1e-9) return;
    if (best_.empty() || cost() < best_cost_ - 1e-9) method_ = method;
    best_ = parts_;  // an equal design is a new place to search from
    best_cost_ = cost();
  }

  // Takes out a few sets of the best design, those that meet one random class first, and completes what is left.
  void improve() {
    std::vector<Part> parts = best_;
    random_.shuffle(parts);
    const auto centre = static_cast<int>(random_.below(problem_.classes));
    std::stable_partition(parts.begin(), parts.end(), [&](const Part& part) {
      return std::binary_search(part.items.begin(), part.items.end(), centre);
    });
    const auto out =
        static_cast<int64_t>(1 + random_.below(std::max<int64_t>(2, static_cast<int64_t>(parts.size()) / 4)));
    parts.erase(parts.begin(), parts.begin() + std::min(out, static_cast<int64_t>(parts.size())));
    reset(std::move(parts));
    if (complete()) keep("large neighbourhood search");
  }

  MixedCovering result() const {
    MixedCovering covering{.design = {.classes = problem_.classes, .sets = {}}};
    for (const Part& part : best_) {
      covering.design.sets.push_back(part.items);
      covering.kind.push_back(part.kind);
    }
    check_design(covering.design);
    if (count_pairs(covering.design, 0).lambda_min < lambda_) {
      throw Error(ErrorCode::internal, "the design of several kinds leaves a pair open");
    }
    covering.cost = best_cost_;
    covering.lower_bound = bound_;
    covering.method = method_;
    return covering;
  }

  const MixedProblem& problem_;
  const CoveringOptions& options_;
  Stopwatch watch_;
  Random random_;
  size_t n_;
  int lambda_;
  double bound_;
  std::vector<Part> parts_, best_;
  std::vector<int> held_;      // [classes, classes], upper triangle: sets that hold the pair
  std::vector<int64_t> used_;  // [kinds]
  int64_t open_ = 0;           // what pairs lack of lambda, in all
  double best_cost_ = std::numeric_limits<double>::infinity();
  std::string method_;
  bool cancelled_ = false;
  double next_report_ = 0;
};

}  // namespace

MixedCovering find_mixed_covering(const MixedProblem& problem, const CoveringOptions& options) {
  check(problem);
  return Mixer(problem, options).run();
}

}  // namespace tessera::experts
