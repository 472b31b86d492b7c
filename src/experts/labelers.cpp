#include "tessera/experts/labelers.h"

#include <algorithm>
#include <cmath>

#include "experts/labeler_pass.h"
#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

// Counts of one shard are kept apart and added in order, so that sums do not depend on threads.
constexpr size_t kMostShards = 64;
constexpr size_t kMostShardNumbers = size_t{1} << 26;
// Items whose counts are summed in single precision before they join the shard's.
constexpr int64_t kFlush = 512;
// Over-relaxation of Dawid-Skene (Salakhutdinov, Roweis 2003): after the plain steps each step goes further than the
// one before, and a step that loses density is taken back to the plain one.
constexpr size_t kPlainSteps = 5;
constexpr double kStretchGrowth = 1.2;

void check(const Answers& answers, const LabelerOptions& options) {
  if (answers.inputs < 1) throw Error(ErrorCode::invalid_argument, "labelers: expected at least one item, found none");
  if (!(options.in_set_error > 0 && options.in_set_error < 1)) {
    throw Error(ErrorCode::invalid_argument, "in_set_error: expected a share between 0 and 1, found {}",
                options.in_set_error);
  }
  if (!(options.prior_weight > 0) || !std::isfinite(options.prior_weight)) {
    throw Error(ErrorCode::invalid_argument, "prior_weight: expected a positive number, found {}",
                options.prior_weight);
  }
  if (options.steps < 1 || !(options.tolerance >= 0)) {
    throw Error(ErrorCode::invalid_argument, "expected steps >= 1 and a tolerance >= 0, found {} and {}", options.steps,
                options.tolerance);
  }
}

// The parameters and what expectation maximisation needs around them. A column is one (labeler, class of its set)
// pair; tables are [columns, stride_], so that one answer touches one contiguous row.
class Labelers {
 public:
  Labelers(const Design& design, const Answers& answers, const LabelerOptions& options)
      : design_(design),
        options_(options),
        classes_(static_cast<size_t>(design.classes)),
        stride_((classes_ + kLabelerStep - 1) / kLabelerStep * kLabelerStep),
        experts_(design.sets.size()),
        items_(answers.inputs),
        offsets_(answer_offsets(design)),
        columns_(static_cast<size_t>(offsets_.back())),
        pool_(options.pool != nullptr ? *options.pool : ThreadPool::shared()) {
    number_answers(answers);
    const size_t table = columns_ * stride_;
    shards_ = std::clamp<size_t>(kMostShardNumbers / std::max<size_t>(1, table), 1, kMostShards);
    shards_ = std::min(shards_, static_cast<size_t>((items_ + kFlush - 1) / kFlush));
    log_table_.resize(table);
    class_share_.assign(classes_, 1.0 / static_cast<double>(classes_));
    start();
  }

  LabelerFit run() {
    LabelerFit fit;
    (void)expectation();
    double stretch = 1;
    for (int step = 0; step < options_.steps; ++step) {
      const std::vector<float> old_table = log_table_;
      const std::vector<double> old_share = class_share_;
      maximisation();
      const bool stretched = stretch > 1;
      const std::vector<float> plain_table = log_table_;
      const std::vector<double> plain_share = class_share_;
      if (stretched) go_further(old_table, old_share, stretch);
      double density = (expectation() + log_prior()) / static_cast<double>(items_);
      if (stretched && density < fit.log_density.back()) {
        log_table_ = plain_table, class_share_ = plain_share, stretch = 1;
        density = (expectation() + log_prior()) / static_cast<double>(items_);
      }
      fit.log_density.push_back(density);
      const size_t n = fit.log_density.size();
      if (n > 1 && fit.log_density[n - 1] - fit.log_density[n - 2] < options_.tolerance) break;
      if (!one_coin() && n >= kPlainSteps) stretch *= kStretchGrowth;
    }
    report(fit);
    return fit;
  }

 private:
  size_t column(size_t expert, size_t place) const { return static_cast<size_t>(offsets_[expert]) + place; }
  size_t size(size_t expert) const { return design_.sets[expert].size(); }
  bool one_coin() const { return options_.model == LabelerModel::one_coin; }

  void number_answers(const Answers& answers) {
    const std::vector<int32_t> found = answers.labels.empty() ? most_probable(design_, answers) : answers.labels;
    answers_.reserve(found.size());
    row_begin_.reserve(static_cast<size_t>(items_) + 1);
    for (size_t k = 0; k < found.size(); ++k) {
      if (k % experts_ == 0) row_begin_.push_back(static_cast<int64_t>(answers_.size()));
      if (found[k] < 0) continue;
      const auto& set = design_.sets[k % experts_];
      const auto at = std::lower_bound(set.begin(), set.end(), found[k]);
      answers_.push_back(static_cast<int32_t>(column(k % experts_, static_cast<size_t>(at - set.begin()))));
    }
    row_begin_.push_back(static_cast<int64_t>(answers_.size()));
  }

  // Prior mean of answering the set's class `place` when the class is y.
  double prior_mean(size_t expert, size_t place, size_t y) const {
    const auto& set = design_.sets[expert];
    const auto others = static_cast<double>(set.size() - 1);
    if (set.size() == 1) return 1;
    if (!std::binary_search(set.begin(), set.end(), static_cast<int>(y))) return 1 / (others + 1);
    return static_cast<size_t>(set[place]) == y ? 1 - options_.in_set_error : options_.in_set_error / others;
  }

  void start() {
    prior_.resize(log_table_.size());
    error_.assign(experts_, options_.in_set_error);
    for (size_t j = 0; j < experts_; ++j) {
      for (size_t k = 0; k < size(j); ++k) {
        for (size_t y = 0; y < classes_; ++y) {
          const double mean = prior_mean(j, k, y);
          prior_[column(j, k) * stride_ + y] = mean;
          log_table_[column(j, k) * stride_ + y] = static_cast<float>(std::log(mean));
        }
      }
    }
  }

  LabelerPass pass(const std::vector<float>& log_share) const {
    return {.stride = stride_,
            .row_begin = row_begin_.data(),
            .answers = answers_.data(),
            .log_table = log_table_.data(),
            .log_share = log_share.data()};
  }

  std::vector<float> log_share() const {
    std::vector<float> result(stride_, -1e30F);
    for (size_t y = 0; y < classes_; ++y) result[y] = static_cast<float>(std::log(class_share_[y]));
    return result;
  }

  // Expected counts under the parameters, of every answer by class (table_) and of the classes (share_); returns the
  // log-likelihood.
  double expectation() {
    const size_t numbers = columns_ * stride_;
    const std::vector<float> logs = log_share();
    std::vector<std::vector<double>> tables(shards_), shares(shards_);
    std::vector<double> likelihoods(shards_, 0);
    const int64_t blocks = (items_ + kFlush - 1) / kFlush, all = static_cast<int64_t>(shards_);
    pool_.parallel_for(0, all, 1, [&](int64_t from, int64_t to, int) {
      std::vector<float> part(numbers), share(stride_);
      for (int64_t shard = from; shard < to; ++shard) {
        const auto s = static_cast<size_t>(shard);
        tables[s].assign(numbers, 0), shares[s].assign(stride_, 0);
        for (int64_t block = blocks * shard / all; block < blocks * (shard + 1) / all; ++block) {
          std::fill(part.begin(), part.end(), 0.0F), std::fill(share.begin(), share.end(), 0.0F);
          likelihoods[s] += labeler_pass(pass(logs), block * kFlush, std::min(items_, (block + 1) * kFlush),
                                         part.data(), share.data(), nullptr);
          for (size_t k = 0; k < numbers; ++k) tables[s][k] += static_cast<double>(part[k]);
          for (size_t y = 0; y < stride_; ++y) shares[s][y] += static_cast<double>(share[y]);
        }
      }
    });
    table_.assign(numbers, 0), share_.assign(stride_, 0);
    double likelihood = 0;
    for (size_t s = 0; s < shards_; ++s) {
      for (size_t k = 0; k < numbers; ++k) table_[k] += tables[s][k];
      for (size_t y = 0; y < stride_; ++y) share_[y] += shares[s][y];
      likelihood += likelihoods[s];
    }
    return likelihood;
  }

  void maximisation() {
    const double total = static_cast<double>(items_) + static_cast<double>(classes_);
    for (size_t y = 0; y < classes_; ++y) class_share_[y] = (share_[y] + 1) / total;
    for (size_t j = 0; j < experts_; ++j) {
      if (one_coin()) {
        update_coin(j);
      } else {
        update_rows(j);
      }
    }
  }

  // Parameters `stretch` times as far from the old ones as they are, in logarithms, rows normalised again.
  void go_further(const std::vector<float>& old_table, const std::vector<double>& old_share, double stretch) {
    const auto further = static_cast<float>(stretch - 1);
    for (size_t k = 0; k < log_table_.size(); ++k) log_table_[k] += further * (log_table_[k] - old_table[k]);
    for (size_t j = 0; j < experts_; ++j) {
      for (size_t y = 0; y < classes_; ++y) {
        double total = 0;
        for (size_t k = 0; k < size(j); ++k) {
          total += std::exp(static_cast<double>(log_table_[column(j, k) * stride_ + y]));
        }
        const auto shift = static_cast<float>(std::log(total));
        for (size_t k = 0; k < size(j); ++k) log_table_[column(j, k) * stride_ + y] -= shift;
      }
    }
    double total = 0;
    for (size_t y = 0; y < classes_; ++y) {
      total += class_share_[y] *= std::pow(class_share_[y] / old_share[y], stretch - 1);
    }
    for (double& share : class_share_) share /= total;
  }

  void update_rows(size_t j) {
    for (size_t y = 0; y < classes_; ++y) {
      double total = 0;
      for (size_t k = 0; k < size(j); ++k) {
        const size_t at = column(j, k) * stride_ + y;
        total += table_[at] + options_.prior_weight * prior_[at];
      }
      for (size_t k = 0; k < size(j); ++k) {
        const size_t at = column(j, k) * stride_ + y;
        log_table_[at] = static_cast<float>(std::log((table_[at] + options_.prior_weight * prior_[at]) / total));
      }
    }
  }

  void update_coin(size_t j) {
    if (size(j) < 2) return;
    double wrong = options_.prior_weight * options_.in_set_error, all = options_.prior_weight;
    for (size_t k = 0; k < size(j); ++k) {
      for (const int y : design_.sets[j]) {
        const double expected = table_[column(j, k) * stride_ + static_cast<size_t>(y)];
        all += expected;
        if (y != design_.sets[j][k]) wrong += expected;
      }
    }
    error_[j] = wrong / all;
    const auto others = static_cast<double>(size(j) - 1);
    for (size_t k = 0; k < size(j); ++k) {
      for (const int y : design_.sets[j]) {
        log_table_[column(j, k) * stride_ + static_cast<size_t>(y)] =
            static_cast<float>(std::log(y == design_.sets[j][k] ? 1 - error_[j] : error_[j] / others));
      }
    }
  }

  // Up to a constant.
  double log_prior() const {
    double sum = 0;
    for (const double share : class_share_) sum += std::log(share);
    if (one_coin()) {
      for (size_t j = 0; j < experts_; ++j) {
        if (size(j) < 2) continue;
        sum += options_.prior_weight *
               (options_.in_set_error * std::log(error_[j]) + (1 - options_.in_set_error) * std::log(1 - error_[j]));
      }
      return sum;
    }
    for (size_t k = 0; k < log_table_.size(); ++k) {
      sum += options_.prior_weight * prior_[k] * static_cast<double>(log_table_[k]);  // 0 in the padding
    }
    return sum;
  }

  void report(LabelerFit& fit) {
    Combination& result = fit.combination;
    result.inputs = items_, result.classes = design_.classes;
    result.labels.resize(static_cast<size_t>(items_));
    result.probabilities.resize(static_cast<size_t>(items_) * classes_);
    const std::vector<float> logs = log_share();
    pool_.parallel_for(0, items_, kFlush, [&](int64_t begin, int64_t end, int) {
      std::vector<float> posterior(static_cast<size_t>(end - begin) * stride_);
      labeler_pass(pass(logs), begin, end, nullptr, nullptr, posterior.data());
      for (int64_t i = begin; i < end; ++i) {
        const float* p = posterior.data() + static_cast<size_t>(i - begin) * stride_;
        std::copy_n(p, classes_, result.probabilities.begin() + i * static_cast<std::ptrdiff_t>(classes_));
        result.labels[static_cast<size_t>(i)] = static_cast<int32_t>(std::max_element(p, p + classes_) - p);
      }
    });
    fit.class_share = class_share_;
    for (size_t j = 0; j < experts_; ++j) {
      double wrong = 0, all = 0;
      for (const int y : design_.sets[j]) all += class_share_[static_cast<size_t>(y)];
      for (size_t k = 0; k < size(j); ++k) {
        for (const int y : design_.sets[j]) {
          if (y == design_.sets[j][k]) continue;
          const size_t at = column(j, k) * stride_ + static_cast<size_t>(y);
          wrong += class_share_[static_cast<size_t>(y)] / all * std::exp(static_cast<double>(log_table_[at]));
        }
      }
      fit.in_set_error.push_back(wrong);
    }
    if (one_coin()) return;
    for (size_t j = 0; j < experts_; ++j) {
      for (size_t y = 0; y < classes_; ++y) {
        for (size_t k = 0; k < size(j); ++k) {
          fit.confusion.push_back(std::exp(static_cast<double>(log_table_[column(j, k) * stride_ + y])));
        }
      }
    }
  }

  const Design& design_;
  const LabelerOptions& options_;
  size_t classes_, stride_, experts_;
  int64_t items_;
  std::vector<int32_t> offsets_;
  size_t columns_;
  ThreadPool& pool_;
  size_t shards_ = 1;
  std::vector<int64_t> row_begin_;  // [items + 1]: into answers_
  std::vector<int32_t> answers_;    // the column of each answer, item after item
  std::vector<float> log_table_;    // [columns, stride]: log probability of the answer given the class
  std::vector<double> prior_;       // [columns, stride]: its prior mean
  std::vector<double> class_share_, error_;
  std::vector<double> table_, share_;  // [columns, stride], [stride]: expected counts
};

}  // namespace

const char* to_string(LabelerModel model) { return model == LabelerModel::one_coin ? "one-coin" : "dawid-skene"; }

LabelerFit fit_labelers(const Design& design, const Answers& answers, const LabelerOptions& options) {
  check_design(design);
  check(answers, options);
  return Labelers(design, answers, options).run();
}

}  // namespace tessera::experts
