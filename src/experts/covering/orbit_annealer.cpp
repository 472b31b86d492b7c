#include "experts/covering/orbit_annealer.h"

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
        choose(kind.long_units, kind.longer);
        choose(kind.short_units, kind.shorter);
        note_moves();
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
      std::vector<int> set = base.points;
      if (set.empty()) {
        for (const Member& member : base.members) set.insert(set.end(), member.unit->begin(), member.unit->end());
      }
      for (std::vector<int>& image : plan_.group->images(set)) design.sets.push_back(std::move(image));
    }
    return design;
  }

 private:
  static constexpr double kCold = 0.15;  // in units of the usual pair class

  struct Member {
    const std::vector<int>* unit;
    const std::vector<std::vector<int>>* choices;
    bool movable;  // there is an alternative
  };
  struct Base {
    std::vector<Member> members;
    std::vector<int> points;  // what the members are, when all of them are single points; otherwise empty
  };
  struct Move {
    size_t base, member;
  };
  struct PointMove {
    size_t base, member;
    std::vector<int> choices;
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
    per_unit_ = 1 / unit_;
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
      base.members.push_back({&unit, &units, units.size() > static_cast<size_t>(count)});
    }
  }

  // What can be changed in the last base set.
  void note_moves() {
    Base& base = bases_.back();
    const bool single = std::all_of(base.members.begin(), base.members.end(),
                                    [](const Member& member) { return member.unit->size() == 1; });
    for (size_t m = 0; m < base.members.size(); ++m) {
      const Member& member = base.members[m];
      if (single) base.points.push_back(member.unit->front());
      if (!member.movable) continue;
      if (single) {
        point_moves_.push_back({bases_.size() - 1, m, {}});
        for (const std::vector<int>& unit : *member.choices) point_moves_.back().choices.push_back(unit.front());
      } else {
        movable_.push_back({bases_.size() - 1, m});
      }
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
  void propose_point(const PointMove& move, size_t choice) {
    Base& base = bases_[move.base];
    const int in = move.choices[choice], out = base.points[move.member];
    const int* row_in = &class_of_[static_cast<size_t>(in) * points_];
    const int* row_out = &class_of_[static_cast<size_t>(out) * points_];
    for (const int x : base.points) {
      if (x == in) return;
    }
    const int lambda = problem_.lambda;
    int64_t loss = 0;
    for (const int x : base.points) {
      if (x == out) continue;
      const auto lost = static_cast<size_t>(row_out[x]), won = static_cast<size_t>(row_in[x]);
      loss += --count_[lost] < lambda ? weight_[lost] : 0;
      loss -= count_[won]++ < lambda ? weight_[won] : 0;
    }
    if (rejected(loss)) {
      for (const int x : base.points) {
        if (x == out) continue;
        --count_[static_cast<size_t>(row_in[x])];
        ++count_[static_cast<size_t>(row_out[x])];
      }
      return;
    }
    cost_ += loss;
    base.points[move.member] = in;
  }

  bool rejected(int64_t loss) {
    if (loss <= 0) return false;
    const auto units = static_cast<size_t>(static_cast<double>(loss) * per_unit_ + 0.5);
    return units >= kLargestLoss || (random_.bits() >> 32) >= threshold_[units];
  }

  void propose() {
    const size_t moves = movable_.size() + point_moves_.size();
    if (moves == 0) return;
    const uint64_t draw = random_.bits();
    const size_t number = (draw >> 32) * moves >> 32;
    const auto choose_of = [&](size_t choices) { return (draw & 0xffffffff) * choices >> 32; };
    if (number < point_moves_.size()) {
      const PointMove& move = point_moves_[number];
      return propose_point(move, choose_of(move.choices.size()));
    }
    const auto [b, m] = movable_[number - point_moves_.size()];
    Base& base = bases_[b];
    Member& member = base.members[m];
    const std::vector<int>* added = &(*member.choices)[choose_of(member.choices->size())];
    for (const Member& other : base.members) {
      if (other.unit == added) return;
    }
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
  std::vector<Move> movable_;  // members that have an alternative
  std::vector<PointMove> point_moves_;
  std::array<uint64_t, kLargestLoss> threshold_{};
  double unit_ = 1, per_unit_ = 1;
  int64_t cost_ = 0;
};

}  // namespace

OrbitResult anneal_orbits(const CoveringProblem& problem, const Plan& plan, const OrbitOptions& options) {
  OrbitAnnealer annealer(problem, plan, options);
  annealer.run(options.moves, options.stop);
  return {.design = annealer.design(), .cost = annealer.cost()};
}

}  // namespace tessera::experts
