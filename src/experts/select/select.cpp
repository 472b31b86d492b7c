#include "tessera/experts/select.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "experts/select/set_cover.h"
#include "tessera/base/clock.h"
#include "tessera/base/error.h"
#include "tessera/base/interrupt.h"

namespace tessera::experts {
namespace {

constexpr double kSearchShare = 0.2;         // of the time, for the local search
constexpr double kTreeShare = 0.6;           // of the time then left, for the tree search
constexpr int64_t kMostRowsCompared = 6000;  // beyond, rows implied by others are kept: their comparison is quadratic

class Selector {
 public:
  Selector(const SelectProblem& problem, const SelectOptions& options) : problem_(problem), options_(options) {
    check();
    const auto classes = static_cast<size_t>(problem.candidates.classes);
    holders_.resize(classes * (classes - 1) / 2);
    alive_.assign(problem.candidates.sets.size(), 1);
  }

  Selection run() {
    find_holders();
    drop_dominated();
    take_forced();
    build();
    if (!cover_.columns.empty()) solve();
    std::sort(selection_.experts.begin(), selection_.experts.end());
    for (const int j : selection_.experts) selection_.cost += cost(j);
    selection_.lower_bound += forced_cost_;
    selection_.lp_bound += forced_cost_;
    if (cover_.columns.empty()) {
      selection_.method = "reductions alone";
      selection_.bound_source = "every choice needs these";
    }
    selection_.optimal = selection_.cost <= selection_.lower_bound + 1e-6;
    return selection_;
  }

 private:
  void check() const {
    check_design(problem_.candidates);
    const size_t experts = problem_.candidates.sets.size();
    if (experts == 0) throw Error(ErrorCode::invalid_argument, "select: expected at least one candidate, found none");
    if (!problem_.costs.empty() && problem_.costs.size() != experts) {
      throw Error(ErrorCode::invalid_argument, "select: expected {} costs, one per candidate, found {}", experts,
                  problem_.costs.size());
    }
    for (size_t j = 0; j < problem_.costs.size(); ++j) {
      if (!(problem_.costs[j] > 0) || !std::isfinite(problem_.costs[j])) {
        throw Error(ErrorCode::invalid_argument, "select: the cost of candidate {} must be positive, found {}", j,
                    problem_.costs[j]);
      }
    }
  }

  double cost(int j) const { return problem_.costs.empty() ? 1 : problem_.costs[static_cast<size_t>(j)]; }
  const std::vector<int>& set(int j) const { return problem_.candidates.sets[static_cast<size_t>(j)]; }
  double seconds_left() const { return options_.seconds - watch_.elapsed().wall_ms / 1000; }

  template <typename Visit>
  void for_pairs(int j, const Visit& visit) const {
    const std::vector<int>& items = set(j);
    for (size_t high = 1; high < items.size(); ++high) {
      const auto b = static_cast<size_t>(items[high]);
      for (size_t low = 0; low < high; ++low) visit(b * (b - 1) / 2 + static_cast<size_t>(items[low]));
    }
  }

  void find_holders() {
    for (size_t j = 0; j < alive_.size(); ++j) {
      for_pairs(static_cast<int>(j), [&](size_t pair) { holders_[pair].push_back(static_cast<int>(j)); });
    }
    for (int a = 0; a < problem_.candidates.classes; ++a) {
      for (int b = a + 1; b < problem_.candidates.classes; ++b) {
        const auto at = static_cast<size_t>(b) * static_cast<size_t>(b - 1) / 2 + static_cast<size_t>(a);
        if (holders_[at].empty()) selection_.uncovered.emplace_back(a, b);
      }
    }
  }

  // Candidates inside another of no more cost; among equal ones the first stays.
  void drop_dominated() {
    for (size_t j = 0; j < alive_.size(); ++j) {
      const std::vector<int>& mine = set(static_cast<int>(j));
      if (mine.size() < 2) {
        alive_[j] = 0;
        ++selection_.dominated;
        continue;
      }
      const auto b = static_cast<size_t>(mine[1]);
      // A set that holds all of mine holds my first pair.
      for (const int other : holders_[b * (b - 1) / 2 + static_cast<size_t>(mine[0])]) {
        if (other == static_cast<int>(j) || alive_[static_cast<size_t>(other)] == 0) continue;
        const std::vector<int>& theirs = set(other);
        if (cost(other) > cost(static_cast<int>(j)) || theirs.size() < mine.size()) continue;
        if (theirs == mine && cost(other) == cost(static_cast<int>(j)) && other > static_cast<int>(j)) continue;
        if (!std::includes(theirs.begin(), theirs.end(), mine.begin(), mine.end())) continue;
        alive_[j] = 0;
        ++selection_.dominated;
        break;
      }
    }
    for (std::vector<int>& holders : holders_) {
      std::erase_if(holders, [&](int j) { return alive_[static_cast<size_t>(j)] == 0; });
    }
  }

  void take_forced() {
    covered_.assign(holders_.size(), 0);
    for (size_t pair = 0; pair < holders_.size(); ++pair) {
      if (holders_[pair].size() != 1) continue;
      const int j = holders_[pair].front();
      if (alive_[static_cast<size_t>(j)] == 0) continue;
      alive_[static_cast<size_t>(j)] = 0;  // decided
      selection_.experts.push_back(j);
      forced_cost_ += cost(j);
      ++selection_.forced;
    }
    for (const int j : selection_.experts) for_pairs(j, [&](size_t pair) { covered_[pair] = 1; });
  }

  // The rest as sparse columns; rows whose holders include those of another row follow from it.
  void build() {
    std::vector<size_t> rows;
    for (size_t pair = 0; pair < holders_.size(); ++pair) {
      if (covered_[pair] == 0 && !holders_[pair].empty()) rows.push_back(pair);
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [&](size_t a, size_t b) { return holders_[a].size() < holders_[b].size(); });
    std::vector<size_t> kept;
    const bool compare = static_cast<int64_t>(rows.size()) <= kMostRowsCompared;
    std::vector<std::vector<size_t>> kept_of(alive_.size());  // kept rows by their first holder
    for (const size_t row : rows) {
      bool implied = false;
      for (const int j : holders_[row]) {
        for (const size_t other : kept_of[static_cast<size_t>(j)]) {
          implied = implied || (compare && std::includes(holders_[row].begin(), holders_[row].end(),
                                                         holders_[other].begin(), holders_[other].end()));
        }
      }
      if (implied) continue;
      kept_of[static_cast<size_t>(holders_[row].front())].push_back(row);
      kept.push_back(row);
    }
    std::vector<int> number(holders_.size(), -1);
    for (const size_t row : kept) number[row] = static_cast<int>(cover_.rows++);
    cover_.whole_costs = true;
    for (size_t j = 0; j < alive_.size(); ++j) {
      if (alive_[j] == 0) continue;
      std::vector<int> column;
      for_pairs(static_cast<int>(j), [&](size_t pair) {
        if (number[pair] >= 0) column.push_back(number[pair]);
      });
      if (column.empty()) continue;
      std::sort(column.begin(), column.end());
      cover_.columns.push_back(std::move(column));
      cover_.costs.push_back(cost(static_cast<int>(j)));
      cover_.whole_costs = cover_.whole_costs && std::floor(cover_.costs.back()) == cover_.costs.back();
      candidate_.push_back(static_cast<int>(j));
    }
    add_cuts(rows);
  }

  // Chvatal-Gomory cuts, the degree argument of Schoenheim's bound: the open pairs of class i, n of them, give
  // sum_j c_j x_j >= n with c_j those that candidate j holds; divided by d and rounded up it says more.
  void add_cuts(const std::vector<size_t>& open_rows) {
    const auto classes = static_cast<size_t>(problem_.candidates.classes);
    std::vector<int> need(classes, 0);
    std::vector<char> open(holders_.size(), 0);
    for (const size_t row : open_rows) open[row] = 1;
    for (size_t b = 1; b < classes; ++b) {
      for (size_t a = 0; a < b; ++a) {
        if (open[b * (b - 1) / 2 + a] == 0) continue;
        ++need[a];
        ++need[b];
      }
    }
    std::vector<std::vector<std::pair<int, int>>> terms(classes);
    for (size_t c = 0; c < candidate_.size(); ++c) {
      const std::vector<int>& items = set(candidate_[c]);
      for (const int i : items) {
        int held = 0;
        for (const int l : items) {
          const auto low = static_cast<size_t>(std::min(i, l)), high = static_cast<size_t>(std::max(i, l));
          held += l != i && open[high * (high - 1) / 2 + low] != 0 ? 1 : 0;
        }
        if (held > 0) terms[static_cast<size_t>(i)].emplace_back(static_cast<int>(c), held);
      }
    }
    for (size_t i = 0; i < classes; ++i) {
      int most = 0;
      for (const auto& [c, held] : terms[i]) most = std::max(most, held);
      for (int d = 2; d <= most; ++d) {
        if (need[i] % d == 0) continue;
        Cut cut{.terms = terms[i], .need = (need[i] + d - 1) / d};
        for (auto& [c, held] : cut.terms) held = (held + d - 1) / d;
        cover_.cuts.push_back(std::move(cut));
      }
    }
  }

  double rounded(double bound) const { return cover_.whole_costs ? std::ceil(bound - 1e-6) : bound; }

  void solve() {
    std::vector<int> best = greedy_cover(cover_);
    selection_.method = "greedy with reverse deletion";
    SetCover plain = cover_;
    plain.cuts.clear();
    const MipResult relaxation = solve_relaxation(plain, seconds_left() / 4);
    selection_.lp_bound = relaxation.lp_bound;
    const MipResult relaxed = solve_relaxation(cover_, seconds_left() / 3);
    selection_.lower_bound = rounded(std::max(selection_.lp_bound, relaxed.lp_bound));
    selection_.bound_source = relaxed.lp_bound > selection_.lp_bound + 1e-6 ? "linear relaxation with degree cuts"
                              : selection_.lp_bound > 0                     ? "linear relaxation"
                                                                            : "none in the time given";
    const auto met = [&](double cost) { return cost <= selection_.lower_bound + 1e-6; };
    const double until = options_.effort == Effort::exact ? seconds_left() * (1 - kSearchShare) : 0;
    std::vector<int> searched = search_cover(cover_, best, options_.seed, [&](double cost) {
      const bool go_on = !options_.progress || options_.progress(cost + forced_cost_, watch_.elapsed().wall_ms / 1000);
      return !go_on || interrupted() || seconds_left() <= until || met(cost);
    });
    if (cost_of(cover_, searched) < cost_of(cover_, best) - 1e-9) {
      best = std::move(searched);
      selection_.method = "local search with row weights";
    }
    if (options_.effort == Effort::exact) {
      if (cover_.whole_costs) raise_bound(best, relaxation.prices);
      if (!met(cost_of(cover_, best)) && !interrupted() && seconds_left() > 0.2) branch(best);
    }
    for (const int c : best) selection_.experts.push_back(candidate_[static_cast<size_t>(c)]);
  }

  // Tree search at the lower bound, then one above it, and so on: each finds a cover or raises the bound.
  void raise_bound(std::vector<int>& best, const std::vector<double>& prices) {
    const double until = seconds_left() * (1 - kTreeShare);
    while (selection_.lower_bound + 1e-6 < cost_of(cover_, best) && seconds_left() > until && !interrupted()) {
      std::vector<int> cover;
      const TreeOptions options{.budget = selection_.lower_bound, .seconds = seconds_left() - until, .prices = prices};
      switch (search_tree(cover_, options, cover)) {
        case TreeOutcome::stopped:
          return;
        case TreeOutcome::none:
          selection_.lower_bound += 1;
          selection_.bound_source = "tree search";
          break;
        case TreeOutcome::found:
          best = std::move(cover);
          selection_.method = "tree search";
          break;
      }
    }
  }

  void branch(std::vector<int>& best) {
    const MipResult result = branch_and_cut(cover_, best, seconds_left());
    if (!result.cover.empty() && cost_of(cover_, result.cover) < cost_of(cover_, best) - 1e-9) {
      best = result.cover;
      selection_.method = "branch and cut";
    }
    const double proved = result.proven ? cost_of(cover_, best) : rounded(result.bound);
    if (proved > selection_.lower_bound && proved <= cost_of(cover_, best) + 1e-6) {
      selection_.lower_bound = proved;
      selection_.bound_source = "branch and cut";
    }
  }

  const SelectProblem& problem_;
  const SelectOptions& options_;
  Stopwatch watch_;
  std::vector<std::vector<int>> holders_;  // [pairs]: candidates that hold the pair, ascending
  std::vector<char> alive_, covered_;      // [candidates] undecided; [pairs] held by a forced candidate
  std::vector<int> candidate_;             // [columns of cover_]
  SetCover cover_;
  double forced_cost_ = 0;
  Selection selection_;
};

}  // namespace

Selection select_experts(const SelectProblem& problem, const SelectOptions& options) {
  return Selector(problem, options).run();
}

}  // namespace tessera::experts
