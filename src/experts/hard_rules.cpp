#include "experts/hard_rules.h"

#include <algorithm>
#include <cmath>

namespace tessera::experts {
namespace {

// What one input needs, reused from input to input.
struct Tally {
  std::vector<int32_t> votes;    // [classes]
  std::vector<int32_t> degrees;  // [classes], of the experts that were asked
  std::vector<double> score;     // [classes]
};

class HardRules {
 public:
  HardRules(const Design& design, const Answers& answers, std::span<const int32_t> labels,
            const CombineOptions& options, Combination& result)
      : design_(design),
        answers_(answers),
        labels_(labels),
        options_(options),
        result_(result),
        degrees_(class_degrees(design)),
        offsets_(answer_offsets(design)) {
    for (const auto& set : design.sets) {
      const auto size = static_cast<double>(set.size());
      const bool informative = set.size() > 1;
      against_.push_back(informative ? std::log(size * options.in_set_error / (size - 1)) : 0.0);
      for_.push_back(informative ? std::log(size * (1 - options.in_set_error)) : 0.0);
    }
  }

  void run(int64_t begin, int64_t end) const {
    Tally tally;
    for (int64_t i = begin; i < end; ++i) {
      count(static_cast<size_t>(i), tally);
      if (options_.rule == Rule::naive_bayes) {
        bayes(static_cast<size_t>(i), tally);
      } else {
        vote(static_cast<size_t>(i), tally);
      }
    }
  }

 private:
  void count(size_t input, Tally& tally) const {
    tally.votes.assign(degrees_.size(), 0);
    tally.degrees = degrees_;
    const int32_t* row = labels_.data() + input * design_.sets.size();
    for (size_t j = 0; j < design_.sets.size(); ++j) {
      if (row[j] >= 0) {
        ++tally.votes[static_cast<size_t>(row[j])];
      } else {
        for (const int item : design_.sets[j]) --tally.degrees[static_cast<size_t>(item)];
      }
    }
  }

  // Mean of the soft answers for class `item`; 0 where there are none.
  double softness(size_t input, int item) const {
    if (answers_.probabilities.empty()) return 0;
    const float* row = answers_.probabilities.data() + input * static_cast<size_t>(offsets_.back());
    double sum = 0;
    for (size_t j = 0; j < design_.sets.size(); ++j) {
      const auto& set = design_.sets[j];
      const auto at = std::lower_bound(set.begin(), set.end(), item);
      if (at != set.end() && *at == item) sum += static_cast<double>(row[offsets_[j] + (at - set.begin())]);
    }
    return sum / std::max(1, degrees_[static_cast<size_t>(item)]);
  }

  bool better(size_t input, const Tally& tally, size_t a, size_t b) const {
    if (tally.score[a] != tally.score[b]) return tally.score[a] > tally.score[b];
    if (options_.rule == Rule::plurality) return false;
    if (tally.degrees[a] != tally.degrees[b]) return tally.degrees[a] > tally.degrees[b];
    return softness(input, static_cast<int>(a)) > softness(input, static_cast<int>(b));
  }

  void vote(size_t input, Tally& tally) const {
    const size_t classes = degrees_.size();
    tally.score.resize(classes);
    float* out = result_.probabilities.data() + input * classes;
    double total = 0;
    for (size_t i = 0; i < classes; ++i) {
      const double share = tally.degrees[i] > 0 ? static_cast<double>(tally.votes[i]) / tally.degrees[i] : 0;
      switch (options_.rule) {
        case Rule::plurality:
          tally.score[i] = tally.votes[i];
          break;
        case Rule::deficit:
          tally.score[i] = tally.votes[i] - tally.degrees[i];
          break;
        default:
          tally.score[i] = tally.degrees[i] > 0 ? share : 1;
          break;
      }
      const double weight = options_.rule == Rule::plurality ? tally.votes[i] : share;
      out[i] = static_cast<float>(weight);
      total += weight;
    }
    size_t best = 0;
    for (size_t i = 1; i < classes; ++i) {
      if (better(input, tally, i, best)) best = i;
    }
    result_.labels[input] = static_cast<int32_t>(best);
    for (size_t i = 0; i < classes; ++i) {
      out[i] = total > 0 ? out[i] / static_cast<float>(total) : 1.0F / static_cast<float>(classes);
    }
  }

  void bayes(size_t input, Tally& tally) const {
    const size_t classes = degrees_.size(), experts = design_.sets.size();
    const int32_t* row = labels_.data() + input * experts;
    tally.score.assign(classes, 0);
    for (size_t j = 0; j < experts; ++j) {
      if (row[j] < 0) continue;
      const double weight = answers_.gate.empty() ? 1.0 : static_cast<double>(answers_.gate[input * experts + j]);
      for (const int item : design_.sets[j]) tally.score[static_cast<size_t>(item)] += weight * against_[j];
      tally.score[static_cast<size_t>(row[j])] += weight * (for_[j] - against_[j]);
    }
    const auto best = std::max_element(tally.score.begin(), tally.score.end());
    result_.labels[input] = static_cast<int32_t>(best - tally.score.begin());
    const double top = *best;
    double total = 0;
    for (double& score : tally.score) total += score = std::exp(score - top);
    float* out = result_.probabilities.data() + input * classes;
    for (size_t i = 0; i < classes; ++i) out[i] = static_cast<float>(tally.score[i] / total);
  }

  const Design& design_;
  const Answers& answers_;
  std::span<const int32_t> labels_;
  const CombineOptions& options_;
  Combination& result_;
  std::vector<int32_t> degrees_, offsets_;
  std::vector<double> against_, for_;  // [experts]: log-likelihood ratio of an in-set class not named, and named
};

}  // namespace

void combine_hard(const Design& design, const Answers& answers, std::span<const int32_t> labels,
                  const CombineOptions& options, Combination& result) {
  const HardRules rules(design, answers, labels, options, result);
  ThreadPool& pool = options.pool != nullptr ? *options.pool : ThreadPool::shared();
  pool.parallel_for(0, result.inputs, 512, [&](int64_t begin, int64_t end, int) { rules.run(begin, end); });
}

}  // namespace tessera::experts
