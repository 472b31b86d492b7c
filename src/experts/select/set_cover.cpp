#include "experts/select/set_cover.h"

#include <algorithm>
#include <queue>

#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr int64_t kStepsPerQuestion = 256;

std::vector<std::vector<int>> columns_of_rows(const SetCover& problem) {
  std::vector<std::vector<int>> rows(static_cast<size_t>(problem.rows));
  for (size_t c = 0; c < problem.columns.size(); ++c) {
    for (const int r : problem.columns[c]) rows[static_cast<size_t>(r)].push_back(static_cast<int>(c));
  }
  return rows;
}

// Drops columns whose rows are all covered without them, dearest first.
void reverse_delete(const SetCover& problem, std::vector<int>& cover) {
  std::vector<int> count(static_cast<size_t>(problem.rows), 0);
  for (const int c : cover) {
    for (const int r : problem.columns[static_cast<size_t>(c)]) ++count[static_cast<size_t>(r)];
  }
  std::vector<int> order = cover;
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return problem.costs[static_cast<size_t>(a)] > problem.costs[static_cast<size_t>(b)];
  });
  for (const int c : order) {
    const auto& rows = problem.columns[static_cast<size_t>(c)];
    if (!std::all_of(rows.begin(), rows.end(), [&](int r) { return count[static_cast<size_t>(r)] > 1; })) continue;
    for (const int r : rows) --count[static_cast<size_t>(r)];
    std::erase(cover, c);
  }
}

// Local search with row weights: takes columns out, puts one in for a random uncovered row, and makes rows that stay
// uncovered weigh more.
class RowWeighting {
 public:
  RowWeighting(const SetCover& problem, const std::vector<int>& start, uint64_t seed)
      : problem_(problem),
        rows_(columns_of_rows(problem)),
        random_(seed),
        weight_(rows_.size(), 1),
        count_(rows_.size(), 0),
        position_(rows_.size(), -1),
        score_(problem.columns.size(), 0),
        changed_(problem.columns.size(), 0),
        chosen_(problem.columns.size(), 0),
        may_enter_(problem.columns.size(), 1) {
    for (size_t r = 0; r < rows_.size(); ++r) mark_open(static_cast<int>(r));
    for (size_t c = 0; c < score_.size(); ++c) score_[c] = static_cast<int64_t>(problem.columns[c].size());
    for (const int c : start) put(c);
  }

  std::vector<int> run(const std::function<bool(double)>& stop) {
    remember();
    for (int64_t step = 1;; ++step) {
      if (step % kStepsPerQuestion == 0 && stop(best_cost_)) break;
      while (open_.empty()) {
        if (cost_ < best_cost_ - 1e-9) remember();
        const int out = cheapest_loss(-1);
        if (out < 0) return best_;
        take(out);
      }
      const int out = cheapest_loss(last_in_);
      if (out >= 0) {
        take(out);
        changed_[static_cast<size_t>(out)] = step;
      }
      const int row = open_[static_cast<size_t>(random_.below(static_cast<int64_t>(open_.size())))];
      const int in = best_entry(row);
      // Without room below the best cost the search goes on taking out.
      while (cost_ + problem_.costs[static_cast<size_t>(in)] >= best_cost_ - 1e-9) {
        const int more = cheapest_loss(in);
        if (more < 0) break;
        take(more);
        changed_[static_cast<size_t>(more)] = step;
      }
      put(in);
      changed_[static_cast<size_t>(in)] = step;
      last_in_ = in;
      for (const int r : open_) {
        ++weight_[static_cast<size_t>(r)];
        for (const int c : rows_[static_cast<size_t>(r)]) ++score_[static_cast<size_t>(c)];
      }
    }
    return best_;
  }

 private:
  // For a chosen column score_ is the weight of rows that only it covers; for others, of open rows it would cover.
  void put(int c) {
    const auto index = static_cast<size_t>(c);
    chosen_[index] = 1;
    list_.push_back(c);
    cost_ += problem_.costs[index];
    int64_t alone = 0;
    for (const int r : problem_.columns[index]) {
      const auto row = static_cast<size_t>(r);
      if (count_[row]++ == 0) {
        alone += weight_[row];
        mark_covered(r);
        for (const int other : rows_[row]) {
          if (other != c) score_[static_cast<size_t>(other)] -= weight_[row];
          may_enter_[static_cast<size_t>(other)] = 1;
        }
      } else if (count_[row] == 2) {
        for (const int other : rows_[row]) {
          if (other != c && chosen_[static_cast<size_t>(other)] != 0)
            score_[static_cast<size_t>(other)] -= weight_[row];
          may_enter_[static_cast<size_t>(other)] = 1;
        }
      }
    }
    score_[index] = alone;
  }

  void take(int c) {
    const auto index = static_cast<size_t>(c);
    chosen_[index] = 0;
    std::erase(list_, c);
    cost_ -= problem_.costs[index];
    int64_t open = 0;
    for (const int r : problem_.columns[index]) {
      const auto row = static_cast<size_t>(r);
      if (--count_[row] == 0) {
        open += weight_[row];
        mark_open(r);
        for (const int other : rows_[row]) {
          if (other != c) score_[static_cast<size_t>(other)] += weight_[row];
          may_enter_[static_cast<size_t>(other)] = 1;
        }
      } else if (count_[row] == 1) {
        for (const int other : rows_[row]) {
          if (chosen_[static_cast<size_t>(other)] != 0) score_[static_cast<size_t>(other)] += weight_[row];
        }
      }
    }
    score_[index] = open;
    may_enter_[index] = 0;
  }

  // Less loss per cost is better; among equals the one that has not moved for longest.
  int cheapest_loss(int except) const {
    int best = -1;
    for (const int c : list_) {
      if (c == except) continue;
      if (best < 0) {
        best = c;
        continue;
      }
      const double mine =
          static_cast<double>(score_[static_cast<size_t>(c)]) * problem_.costs[static_cast<size_t>(best)];
      const double other =
          static_cast<double>(score_[static_cast<size_t>(best)]) * problem_.costs[static_cast<size_t>(c)];
      if (mine < other || (mine == other && changed_[static_cast<size_t>(c)] < changed_[static_cast<size_t>(best)])) {
        best = c;
      }
    }
    return best;
  }

  int best_entry(int row) const {
    int best = -1;
    bool best_may = false;
    for (const int c : rows_[static_cast<size_t>(row)]) {
      const bool may = may_enter_[static_cast<size_t>(c)] != 0;
      if (best >= 0 && !may && best_may) continue;
      const double mine = static_cast<double>(score_[static_cast<size_t>(c)]);
      const bool better =
          best < 0 || (may && !best_may) ||
          mine * problem_.costs[static_cast<size_t>(best)] >
              static_cast<double>(score_[static_cast<size_t>(best)]) * problem_.costs[static_cast<size_t>(c)] ||
          (mine * problem_.costs[static_cast<size_t>(best)] ==
               static_cast<double>(score_[static_cast<size_t>(best)]) * problem_.costs[static_cast<size_t>(c)] &&
           changed_[static_cast<size_t>(c)] < changed_[static_cast<size_t>(best)]);
      if (better) {
        best = c;
        best_may = may;
      }
    }
    return best;
  }

  void mark_open(int r) {
    position_[static_cast<size_t>(r)] = static_cast<int>(open_.size());
    open_.push_back(r);
  }
  void mark_covered(int r) {
    const int at = position_[static_cast<size_t>(r)];
    open_[static_cast<size_t>(at)] = open_.back();
    position_[static_cast<size_t>(open_.back())] = at;
    open_.pop_back();
    position_[static_cast<size_t>(r)] = -1;
  }
  void remember() {
    best_ = list_;
    best_cost_ = cost_;
  }

  const SetCover& problem_;
  std::vector<std::vector<int>> rows_;
  Random random_;
  std::vector<int64_t> weight_;   // [rows]
  std::vector<int> count_;        // [rows]: chosen columns that cover it
  std::vector<int> position_;     // [rows]: place in open_, or -1
  std::vector<int> open_;         // rows not covered
  std::vector<int64_t> score_;    // [columns]
  std::vector<int64_t> changed_;  // [columns]: step of the last move
  std::vector<char> chosen_;      // [columns]
  std::vector<char> may_enter_;   // [columns]: something near it changed since it left
  std::vector<int> list_;         // chosen columns
  double cost_ = 0, best_cost_ = 0;
  std::vector<int> best_;
  int last_in_ = -1;
};

}  // namespace

double cost_of(const SetCover& problem, const std::vector<int>& cover) {
  double cost = 0;
  for (const int c : cover) cost += problem.costs[static_cast<size_t>(c)];
  return cost;
}

std::vector<int> greedy_cover(const SetCover& problem) {
  std::vector<char> covered(static_cast<size_t>(problem.rows), 0);
  // Gains only fall, so an entry whose gain is still true is the best (lazy evaluation).
  std::priority_queue<std::pair<double, int>> queue;
  const auto gain = [&](int c) {
    const auto& rows = problem.columns[static_cast<size_t>(c)];
    const auto open =
        std::count_if(rows.begin(), rows.end(), [&](int r) { return covered[static_cast<size_t>(r)] == 0; });
    return static_cast<double>(open) / problem.costs[static_cast<size_t>(c)];
  };
  for (size_t c = 0; c < problem.columns.size(); ++c) queue.emplace(gain(static_cast<int>(c)), static_cast<int>(c));
  std::vector<int> cover;
  while (!queue.empty()) {
    const auto [claimed, c] = queue.top();
    queue.pop();
    const double now = gain(c);
    if (now <= 0) continue;
    if (now < claimed) {
      queue.emplace(now, c);
      continue;
    }
    cover.push_back(c);
    for (const int r : problem.columns[static_cast<size_t>(c)]) covered[static_cast<size_t>(r)] = 1;
  }
  reverse_delete(problem, cover);
  return cover;
}

std::vector<int> search_cover(const SetCover& problem, std::vector<int> start, uint64_t seed,
                              const std::function<bool(double cost)>& stop) {
  if (start.empty()) return start;
  std::vector<int> cover = RowWeighting(problem, start, seed).run(stop);
  reverse_delete(problem, cover);
  return cover;
}

}  // namespace tessera::experts
