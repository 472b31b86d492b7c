#include "experts/covering/orbit_annealer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr int kCoolingSteps = 100;
constexpr int64_t kMovesPerQuestion = 4096;
constexpr size_t kLargestLoss = 64;

class OrbitAnnealer {
 public:
  OrbitAnnealer(const CoveringProblem& problem, const Plan& plan, const OrbitOptions& options)
      : problem_(problem),
        plan_(plan),
        random_(options.seed),
        hot_(options.hot),
        points_(static_cast<size_t>(plan.group->points())) {
    auto classes = plan.group->pair_classes();
    class_of_ = std::move(classes.of);
    weight_ = std::move(classes.size);
    count_.assign(weight_.size(), 0);
    if (options.exempt) exempt(options.exempt);
    for (const int weight : weight_) cost_ += static_cast<int64_t>(weight) * problem.lambda;
    for (const Kind& kind : plan.kinds) {
      for (int i = 0; i < kind.count; ++i) {
        bases_.push_back({});
        choose(kind.long_units, kind.orbits);
        choose(kind.short_units, kind.points);
        Base& base = bases_.back();
        for (const Member& member : base.members) base.points.push_back(member.unit->front());
        for (const Member& member : base.members) {
          if (member.unit->size() != 1) base.points.clear();
        }
      }
    }
  }

  // Cools once over `moves` proposals; true when everything is covered.
  bool run(int64_t moves, const std::function<bool()>& stop) {
    const double step = std::pow(kCold / hot_, 1.0 / (kCoolingSteps - 1));
    double temperature = hot_ * scale();
    for (int i = 0; i < kCoolingSteps && cost_ > 0; ++i, temperature *= step) {
      for (size_t loss = 0; loss < kLargestLoss; ++loss) {
        threshold_[loss] = static_cast<uint64_t>(std::exp(-static_cast<double>(loss) * unit_ / temperature) * 0x1.0p32);
      }
      for (int64_t done = 0; done < moves / kCoolingSteps + 1; done += kMovesPerQuestion) {
        const int64_t chunk = std::min(moves / kCoolingSteps + 1 - done, kMovesPerQuestion);
        for (int64_t m = 0; m < chunk && cost_ > 0; ++m) propose();
        if (stop && stop()) return cost_ == 0;
      }
    }
    return cost_ == 0;
  }

  int64_t cost() const { return cost_; }

  Design design() const {
    Design design{.classes = plan_.group->points(), .sets = {}};
    for (const Base& base : bases_) {
      std::vector<int> set;
      for (const Member& member : base.members) set.insert(set.end(), member.unit->begin(), member.unit->end());
      for (std::vector<int>& image : plan_.group->images(set)) design.sets.push_back(std::move(image));
    }
    return design;
  }

 private:
  static constexpr double kCold = 0.15;  // in units of the usual pair class

  struct Member {
    const std::vector<int>* unit;
    const std::vector<std::vector<int>>* choices;
  };
  struct Base {
    std::vector<Member> members;
    std::vector<int> points;  // of the members, when all of them are single points; otherwise empty
  };

  void exempt(const std::function<bool(int, int)>& pair) {
    for (size_t a = 0; a < points_; ++a) {
      for (size_t b = a + 1; b < points_; ++b) {
        if (pair(static_cast<int>(a), static_cast<int>(b)))
          weight_[static_cast<size_t>(class_of_[a * points_ + b])] = 0;
      }
    }
  }

  // Most classes have as many pairs as the group has elements; losses are counted in that unit.
  double scale() {
    std::vector<int> sorted = weight_;
    std::nth_element(sorted.begin(), sorted.begin() + static_cast<int64_t>(sorted.size() / 2), sorted.end());
    const double usual = sorted[sorted.size() / 2];
    unit_ = std::max(1.0, usual / 4);
    return usual;
  }

  void choose(const std::vector<std::vector<int>>& units, int count) {
    Base& base = bases_.back();
    std::vector<size_t> order(units.size());
    std::iota(order.begin(), order.end(), size_t{0});
    random_.shuffle(order);
    for (int i = 0; i < count; ++i) {
      const std::vector<int>& unit = units[order[static_cast<size_t>(i)]];
      count_pairs_of(base, base.members.size(), unit, 1);
      base.members.push_back({&unit, &units});
      if (units.size() > static_cast<size_t>(count)) movable_.emplace_back(bases_.size() - 1, base.members.size() - 1);
    }
  }

  void change(int a, int b, int by) {
    const auto c = static_cast<size_t>(class_of_[static_cast<size_t>(a) * points_ + static_cast<size_t>(b)]);
    if (by > 0) {
      if (count_[c]++ < problem_.lambda) cost_ -= weight_[c];
    } else if (--count_[c] < problem_.lambda) {
      cost_ += weight_[c];
    }
  }

  // Counts the pairs of `unit` inside itself and with all members but `except`.
  void count_pairs_of(const Base& base, size_t except, const std::vector<int>& unit, int by) {
    for (size_t i = 0; i < unit.size(); ++i) {
      for (size_t j = 0; j < i; ++j) change(unit[i], unit[j], by);
    }
    for (size_t m = 0; m < base.members.size(); ++m) {
      if (m == except) continue;
      for (const int x : *base.members[m].unit) {
        for (const int y : unit) change(x, y, by);
      }
    }
  }

  // The same move for a base set of single points, without the detours over units.
  void propose_point(Base& base, Member& member, const std::vector<int>& added) {
    const int in = added[0], out = (*member.unit)[0];
    const int* row_in = &class_of_[static_cast<size_t>(in) * points_];
    const int* row_out = &class_of_[static_cast<size_t>(out) * points_];
    const int64_t before = cost_;
    for (const int x : base.points) {
      if (x == out) continue;
      const auto lost = static_cast<size_t>(row_out[x]), won = static_cast<size_t>(row_in[x]);
      if (--count_[lost] < problem_.lambda) cost_ += weight_[lost];
      if (count_[won]++ < problem_.lambda) cost_ -= weight_[won];
    }
    if (rejected(cost_ - before)) {
      for (const int x : base.points) {
        if (x == out) continue;
        --count_[static_cast<size_t>(row_in[x])];
        ++count_[static_cast<size_t>(row_out[x])];
      }
      cost_ = before;
      return;
    }
    member.unit = &added;
    base.points[static_cast<size_t>(&member - base.members.data())] = in;
  }

  bool rejected(int64_t loss) {
    if (loss <= 0) return false;
    const auto units = static_cast<size_t>(static_cast<double>(loss) / unit_ + 0.5);
    return units >= kLargestLoss || (random_.bits() >> 32) >= threshold_[units];
  }

  void propose() {
    if (movable_.empty()) return;
    const auto [b, m] = movable_[static_cast<size_t>(random_.below(static_cast<int64_t>(movable_.size())))];
    Base& base = bases_[b];
    Member& member = base.members[m];
    const auto& choices = *member.choices;
    const std::vector<int>* added = &choices[static_cast<size_t>(random_.below(static_cast<int64_t>(choices.size())))];
    for (const Member& other : base.members) {
      if (other.unit == added) return;
    }
    if (!base.points.empty()) return propose_point(base, member, *added);
    const int64_t before = cost_;
    count_pairs_of(base, m, *member.unit, -1);
    count_pairs_of(base, m, *added, 1);
    if (rejected(cost_ - before)) {
      count_pairs_of(base, m, *added, -1);
      count_pairs_of(base, m, *member.unit, 1);
      return;
    }
    member.unit = added;
  }

  const CoveringProblem& problem_;
  const Plan& plan_;
  Random random_;
  double hot_;
  size_t points_;
  std::vector<int> class_of_;  // [points, points]
  std::vector<int> weight_;    // [pair classes]: pairs in it
  std::vector<int> count_;     // [pair classes]: pairs of base sets in it
  std::vector<Base> bases_;
  std::vector<std::pair<size_t, size_t>> movable_;  // (base set, member) that has an alternative
  std::array<uint64_t, kLargestLoss> threshold_{};
  double unit_ = 1;
  int64_t cost_ = 0;
};

Kind free_kind(const PermutationGroup& group, int size) {
  Kind kind{.images = group.order(), .orbits = size};
  for (int i = 0; i < group.points(); ++i) kind.long_units.push_back({i});
  return kind;
}

// Kinds of sets that are unions of orbits of a subgroup, fullest first.
std::vector<Kind> short_kinds(const PermutationGroup& group, int size) {
  std::vector<Kind> kinds;
  for (const PermutationGroup::Subgroup& subgroup : group.cyclic_subgroups()) {
    Kind kind{.images = group.order() / subgroup.order};
    for (const std::vector<int>& orbit : subgroup.orbits) {
      if (static_cast<int>(orbit.size()) == subgroup.order) kind.long_units.push_back(orbit);
      if (orbit.size() == 1) kind.short_units.push_back(orbit);
    }
    const int most = std::min(size / subgroup.order, static_cast<int>(kind.long_units.size()));
    for (kind.orbits = most; kind.orbits >= std::max(0, most - 1); --kind.orbits) {
      kind.points = std::min(size - kind.orbits * subgroup.order, static_cast<int>(kind.short_units.size()));
      if (kind.orbits * subgroup.order + kind.points >= std::max(2, size - 1)) kinds.push_back(kind);
    }
  }
  return kinds;
}

}  // namespace

int64_t Plan::bases() const {
  int64_t bases = 0;
  for (const Kind& kind : kinds) bases += kind.count;
  return bases;
}

std::string Plan::name() const {
  std::string text = group->name();
  for (const Kind& kind : kinds) text += fmt::format(", {} base sets with {} images", kind.count, kind.images);
  return text;
}

void add_plans(const PermutationGroup& group, const CoveringProblem& problem, int64_t low, int64_t high,
               std::vector<Plan>& plans) {
  const int64_t order = group.order();
  const std::vector<Kind> shorts = short_kinds(group, problem.size);
  const auto add = [&](int64_t full, std::vector<std::pair<const Kind*, int64_t>> rest) {
    Plan plan{.group = &group, .kinds = {free_kind(group, problem.size)}, .sets = full * order};
    plan.kinds[0].count = static_cast<int>(full);
    if (full == 0) plan.kinds.clear();
    for (const auto& [kind, count] : rest) {
      if (count == 0) continue;
      plan.kinds.push_back(*kind);
      plan.kinds.back().count = static_cast<int>(count);
      plan.sets += count * kind->images;
    }
    if (plan.sets >= low && plan.sets <= high && !plan.kinds.empty()) plans.push_back(std::move(plan));
  };
  // Sets with few images only fill up what full orbits leave over.
  const int64_t most_short = std::max<int64_t>(order, 8);
  for (int64_t full = high / order; full >= std::max<int64_t>(0, high / order - 1); --full) {
    add(full, {});
    const int64_t left = std::min(high - full * order, most_short);
    for (size_t a = 0; a < shorts.size(); ++a) {
      for (int64_t count = 1; count * shorts[a].images <= left; ++count) {
        add(full, {{&shorts[a], count}});
        for (size_t b = 0; b < a; ++b) {
          for (int64_t more = 1; count * shorts[a].images + more * shorts[b].images <= left; ++more) {
            add(full, {{&shorts[a], count}, {&shorts[b], more}});
          }
        }
      }
    }
  }
}

OrbitResult anneal_orbits(const CoveringProblem& problem, const Plan& plan, const OrbitOptions& options) {
  OrbitAnnealer annealer(problem, plan, options);
  annealer.run(options.moves, options.stop);
  return {.design = annealer.design(), .cost = annealer.cost()};
}

}  // namespace tessera::experts
