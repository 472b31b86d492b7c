#include <algorithm>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/random.h"
#include "tessera/experts/theory.h"

namespace tessera::experts {
namespace {

constexpr double kNormal95 = 1.959963984540054;

// Wilson (1927).
void set_interval(RuleErrors& rule, int64_t trials) {
  const auto n = static_cast<double>(trials);
  rule.rate = static_cast<double>(rule.errors) / n;
  const double square = kNormal95 * kNormal95;
  const double centre = rule.rate + square / (2 * n);
  const double half = kNormal95 * std::sqrt(rule.rate * (1 - rule.rate) / n + square / (4 * n * n));
  rule.lower = std::max(0.0, (centre - half) / (1 + square / n));
  rule.upper = std::min(1.0, (centre + half) / (1 + square / n));
}

class Simulator {
 public:
  Simulator(const Design& design, const SimulateOptions& options)
      : design_(design), options_(options), classes_(static_cast<size_t>(design.classes)) {
    member_.assign(design.sets.size() * classes_, 0);
    degree_.assign(classes_, 0);
    weight_.assign(classes_, 0);
    for (size_t j = 0; j < design.sets.size(); ++j) {
      for (const int i : design.sets[j]) {
        member_[j * classes_ + static_cast<size_t>(i)] = 1;
        ++degree_[static_cast<size_t>(i)];
        weight_[static_cast<size_t>(i)] += std::log(static_cast<double>(design.sets[j].size()));
      }
    }
    for (const char* rule : {"deficit", "plurality", "maximum likelihood"}) result_.rules.push_back({.rule = rule});
  }

  Simulation run() {
    if (options_.outsiders == Outsiders::adversarial) {
      adversarial();
    } else {
      uniform();
    }
    if (result_.trials == 0) return result_;
    for (RuleErrors& rule : result_.rules) set_interval(rule, result_.trials);
    return result_;
  }

 private:
  bool has(size_t set, int item) const { return member_[set * classes_ + static_cast<size_t>(item)] != 0; }

  // Every truth against every rival: sets with the rival only vote for it, `in_set_mistakes` of the sets with both do
  // too, and a wrong answer counts unless the truth wins alone.
  void adversarial() {
    for (int truth = 0; truth < design_.classes; ++truth) {
      for (int rival = 0; rival < design_.classes; ++rival) {
        if (rival == truth) continue;
        std::vector<int> votes(classes_, 0);
        int mistakes = options_.in_set_mistakes;
        for (size_t j = 0; j < design_.sets.size(); ++j) {
          int answer = design_.sets[j].front();
          if (has(j, truth)) {
            answer = truth;
            if (mistakes > 0 && has(j, rival)) {
              answer = rival;
              --mistakes;
            }
          } else if (has(j, rival)) {
            answer = rival;
          }
          ++votes[static_cast<size_t>(answer)];
        }
        judge(truth, votes);
      }
    }
    result_.error_bound = 0;
    result_.formula = "no error when every two classes share 2 e + 1 sets (e mistakes)";
    if (count_pairs(design_, 0).lambda_min < 2 * options_.in_set_mistakes + 1) result_.error_bound = 1;
  }

  void uniform() {
    Random random(options_.seed);
    for (int64_t trial = 0; trial < options_.trials; ++trial) {
      const auto truth = static_cast<int>(random.below(design_.classes));
      std::vector<int> votes(classes_, 0);
      for (size_t j = 0; j < design_.sets.size(); ++j) {
        const std::vector<int>& set = design_.sets[j];
        int answer = set[static_cast<size_t>(random.below(static_cast<int64_t>(set.size())))];
        if (has(j, truth)) {
          const bool errs = set.size() > 1 && options_.in_set_error > 0 && random.uniform() < options_.in_set_error;
          while (errs && answer == truth) {
            answer = set[static_cast<size_t>(random.below(static_cast<int64_t>(set.size())))];
          }
          if (!errs) answer = truth;
        }
        ++votes[static_cast<size_t>(answer)];
      }
      judge(truth, votes);
    }
    union_bound();
  }

  // Mean over truths of the sum, over classes that share no set with the truth, of the chance that all their experts
  // vote for them: the union bound for perfect in-set experts.
  void union_bound() {
    result_.formula = "mean over y of sum over l sharing no set with y of prod over j with l of 1 / R_j";
    if (options_.in_set_error > 0) {
      result_.error_bound = 1;
      result_.formula += " (perfect in-set experts only)";
      return;
    }
    std::vector<char> shares(classes_ * classes_, 0);
    for (const std::vector<int>& set : design_.sets) {
      for (const int a : set) {
        for (const int b : set) shares[static_cast<size_t>(a) * classes_ + static_cast<size_t>(b)] = 1;
      }
    }
    double total = 0;
    for (size_t y = 0; y < classes_; ++y) {
      for (size_t l = 0; l < classes_; ++l) {
        if (l != y && shares[y * classes_ + l] == 0) total += std::exp(-weight_[l]);
      }
    }
    result_.error_bound = std::min(1.0, total / static_cast<double>(classes_));
  }

  // A rule errs unless the truth has the one best score.
  void judge(int truth, const std::vector<int>& votes) {
    ++result_.trials;
    const auto y = static_cast<size_t>(truth);
    bool deficit = false, plurality = false, likelihood = false;
    for (size_t l = 0; l < classes_; ++l) {
      if (l == y) continue;
      const int missing = (degree_[l] - votes[l]) - (degree_[y] - votes[y]);
      // Equal deficits go to the class in more sets, or, for likelihood, to the larger product of set sizes.
      deficit = deficit || missing < 0 || (missing == 0 && degree_[l] >= degree_[y]);
      plurality = plurality || votes[l] >= votes[y];
      likelihood = likelihood || missing < 0 || (missing == 0 && weight_[l] >= weight_[y]);
    }
    result_.rules[0].errors += deficit ? 1 : 0;
    result_.rules[1].errors += plurality ? 1 : 0;
    result_.rules[2].errors += likelihood ? 1 : 0;
  }

  const Design& design_;
  const SimulateOptions& options_;
  size_t classes_;
  std::vector<char> member_;    // [sets, classes]
  std::vector<int> degree_;     // [classes]
  std::vector<double> weight_;  // [classes]: sum over its sets of log R_j
  Simulation result_;
};

}  // namespace

Simulation simulate(const Design& design, const SimulateOptions& options) {
  check_design(design);
  if (options.trials < 1 || options.trials > 1'000'000'000) {
    throw Error(ErrorCode::invalid_argument, "--trials: expected 1 to 1000000000, found {}", options.trials);
  }
  if (!(options.in_set_error >= 0 && options.in_set_error < 1)) {
    throw Error(ErrorCode::invalid_argument, "--in-set-error: expected a number in [0, 1), found {}",
                options.in_set_error);
  }
  if (options.in_set_mistakes < 0) {
    throw Error(ErrorCode::invalid_argument, "--mistakes: expected 0 or more, found {}", options.in_set_mistakes);
  }
  return Simulator(design, options).run();
}

}  // namespace tessera::experts
