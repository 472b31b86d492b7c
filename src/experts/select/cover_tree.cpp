#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

#include "experts/select/set_cover.h"
#include "tessera/base/clock.h"
#include "tessera/base/interrupt.h"

namespace tessera::experts {
namespace {

constexpr int64_t kNodesPerQuestion = 256;
constexpr double kSlack = 1e-9;  // of sums of costs

// Depth first: the open row that fewest columns hold, one branch per such column, in which the columns of earlier
// branches are out. A branch ends when what is left to spend cannot cover what is open.
class CoverTree {
 public:
  CoverTree(const SetCover& problem, const std::vector<double>& prices, const std::function<bool()>& stop)
      : problem_(problem), prices_(prices), stop_(stop), words_(static_cast<size_t>((problem.rows + 63) / 64)) {
    bits_.assign(problem.columns.size() * words_, 0);
    left_.assign(static_cast<size_t>(problem.rows), 0);
    for (size_t c = 0; c < problem.columns.size(); ++c) {
      for (const int r : problem.columns[c]) {
        bits_[c * words_ + static_cast<size_t>(r) / 64] |= uint64_t{1} << (r % 64);
        ++left_[static_cast<size_t>(r)];
      }
    }
    out_.assign(problem.columns.size(), 0);
    make_feasible();
    one_cost_ =
        std::all_of(problem.costs.begin(), problem.costs.end(), [&](double c) { return c == problem.costs[0]; });
  }

  TreeOutcome run(double budget, std::vector<int>& cover) {
    std::vector<uint64_t> open(words_, 0);
    for (int64_t r = 0; r < problem_.rows; ++r) open[static_cast<size_t>(r / 64)] |= uint64_t{1} << (r % 64);
    const bool found = search(open, budget);
    if (found) cover = chosen_;
    return found ? TreeOutcome::found : stopped_ ? TreeOutcome::stopped : TreeOutcome::none;
  }

 private:
  // Prices at which no column costs less than its rows: whoever covers pays at least the prices of the open rows.
  void make_feasible() {
    prices_.resize(static_cast<size_t>(problem_.rows), 0);
    for (double& price : prices_) price = std::max(0.0, price);
    double most = 0;
    for (size_t c = 0; c < problem_.columns.size(); ++c) {
      double sum = 0;
      for (const int r : problem_.columns[c]) sum += prices_[static_cast<size_t>(r)];
      most = std::max(most, sum / problem_.costs[c]);
    }
    for (double& price : prices_) price /= std::max(most, 1e-12) * (1 + 1e-9);
  }

  double price_of(const std::vector<uint64_t>& open) const {
    double sum = 0;
    for (size_t w = 0; w < words_; ++w) {
      for (uint64_t word = open[w]; word != 0; word &= word - 1) {
        sum += prices_[w * 64 + static_cast<size_t>(std::countr_zero(word))];
      }
    }
    return sum;
  }

  int gain(size_t column, const std::vector<uint64_t>& open) const {
    int count = 0;
    for (size_t w = 0; w < words_; ++w) count += std::popcount(bits_[column * words_ + w] & open[w]);
    return count;
  }

  // Whether columns of these gains may cover `open` rows within the budget: the best ones, as if they did not overlap.
  bool may_suffice(const std::vector<std::pair<int, int>>& gains, int64_t open, double budget) const {
    if (!one_cost_) {
      double ratio = 0;
      for (const auto& [value, c] : gains) ratio = std::max(ratio, value / problem_.costs[static_cast<size_t>(c)]);
      return static_cast<double>(open) <= budget * ratio + kSlack;
    }
    const auto count = static_cast<size_t>((budget + kSlack) / problem_.costs[0]);
    std::vector<int> best(gains.size());
    std::transform(gains.begin(), gains.end(), best.begin(), [](const auto& gain) { return gain.first; });
    const size_t most = std::min(count, best.size());
    std::nth_element(best.begin(), best.begin() + static_cast<int64_t>(most), best.end(), std::greater<>());
    return std::accumulate(best.begin(), best.begin() + static_cast<int64_t>(most), int64_t{0}) >= open;
  }

  // The open row with fewest columns left.
  int rarest(const std::vector<uint64_t>& open) const {
    int best = -1;
    for (size_t w = 0; w < words_; ++w) {
      for (uint64_t word = open[w]; word != 0; word &= word - 1) {
        const int r = static_cast<int>(w * 64) + std::countr_zero(word);
        if (best < 0 || left_[static_cast<size_t>(r)] < left_[static_cast<size_t>(best)]) best = r;
      }
    }
    return best;
  }

  void set_out(int column, bool out) {
    out_[static_cast<size_t>(column)] = out ? 1 : 0;
    for (const int r : problem_.columns[static_cast<size_t>(column)]) left_[static_cast<size_t>(r)] += out ? -1 : 1;
  }

  bool search(const std::vector<uint64_t>& open, double budget) {
    if (++nodes_ % kNodesPerQuestion == 0) stopped_ = stopped_ || stop_();
    if (stopped_) return false;
    const int64_t count = std::accumulate(open.begin(), open.end(), int64_t{0},
                                          [](int64_t sum, uint64_t word) { return sum + std::popcount(word); });
    if (count == 0) return true;
    if (price_of(open) > budget + 1e-6) return false;
    std::vector<std::pair<int, int>> gains;  // (rows, column)
    for (size_t c = 0; c < out_.size(); ++c) {
      if (out_[c] != 0 || problem_.costs[c] > budget + kSlack) continue;
      const int value = gain(c, open);
      if (value > 0) gains.emplace_back(value, static_cast<int>(c));
    }
    if (!may_suffice(gains, count, budget)) return false;
    const auto row = static_cast<size_t>(rarest(open));
    std::erase_if(gains, [&](const auto& gain) {
      return (bits_[static_cast<size_t>(gain.second) * words_ + row / 64] >> (row % 64) & 1) == 0;
    });
    std::sort(gains.begin(), gains.end(), std::greater<>());
    size_t tried = 0;
    bool found = false;
    std::vector<uint64_t> next(words_);
    for (; tried < gains.size() && !found && !stopped_; ++tried) {
      const int c = gains[tried].second;
      for (size_t w = 0; w < words_; ++w) next[w] = open[w] & ~bits_[static_cast<size_t>(c) * words_ + w];
      chosen_.push_back(c);
      found = search(next, budget - problem_.costs[static_cast<size_t>(c)]);
      if (!found) chosen_.pop_back();
      set_out(c, true);
    }
    for (size_t i = 0; i < tried; ++i) set_out(gains[i].second, false);
    return found;
  }

  const SetCover& problem_;
  std::vector<double> prices_;  // [rows]
  const std::function<bool()>& stop_;
  size_t words_;
  std::vector<uint64_t> bits_;  // [columns, words]: rows of each column
  std::vector<int> left_;       // [rows]: columns that hold it and are not out
  std::vector<char> out_;       // [columns]
  std::vector<int> chosen_;
  bool one_cost_ = false, stopped_ = false;
  int64_t nodes_ = 0;
};

}  // namespace

TreeOutcome search_tree(const SetCover& problem, const TreeOptions& options, std::vector<int>& cover) {
  const Stopwatch watch;
  const std::function<bool()> stop = [&] { return interrupted() || watch.elapsed().wall_ms >= 1000 * options.seconds; };
  return CoverTree(problem, options.prices, stop).run(options.budget, cover);
}

}  // namespace tessera::experts
