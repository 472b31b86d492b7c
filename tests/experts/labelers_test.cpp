#include "tessera/experts/labelers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr double kEps = 0.1, kWeight = 5;

struct Planted {
  Design design;
  Answers answers;
  std::vector<int32_t> truth;
  std::vector<std::vector<std::vector<double>>> confusion;  // [labeler][class][place]
};

int32_t draw(const std::vector<double>& distribution, Random& random) {
  double left = random.uniform();
  size_t k = 0;
  while (k + 1 < distribution.size() && left >= distribution[k]) left -= distribution[k++];
  return static_cast<int32_t>(k);
}

// Labelers with random sets and habits; out of set each has favourites, which no one-coin model can express.
Planted plant(int classes, int labelers, int64_t items, uint64_t seed) {
  Random random(seed);
  Planted planted;
  planted.design.classes = classes;
  planted.answers.inputs = items;
  for (int j = 0; j < labelers; ++j) {
    std::vector<int> all;
    for (int k = 0; k < classes; ++k) all.push_back(k);
    random.shuffle(all);
    std::vector<int> set(all.begin(), all.begin() + 2 + random.below(classes - 2));
    std::sort(set.begin(), set.end());
    std::vector<std::vector<double>> rows;
    for (int y = 0; y < classes; ++y) {
      const bool inside = std::binary_search(set.begin(), set.end(), y);
      std::vector<double> row;
      double sum = 0;
      for (const int item : set) sum += row.emplace_back(inside ? (item == y ? 4.0 : 0.2) : std::exp(random.normal()));
      for (double& value : row) value /= sum;
      rows.push_back(row);
    }
    planted.design.sets.push_back(set);
    planted.confusion.push_back(rows);
  }
  for (int64_t i = 0; i < items; ++i) {
    planted.truth.push_back(static_cast<int32_t>(random.below(classes)));
    for (int j = 0; j < labelers; ++j) {
      const auto& rows = planted.confusion[static_cast<size_t>(j)];
      const int32_t place = draw(rows[static_cast<size_t>(planted.truth.back())], random);
      const bool asked = random.uniform() < 0.8;
      planted.answers.labels.push_back(asked ? planted.design.sets[static_cast<size_t>(j)][static_cast<size_t>(place)]
                                             : -1);
    }
  }
  return planted;
}

double accuracy(const std::vector<int32_t>& labels, const std::vector<int32_t>& truth) {
  double right = 0;
  for (size_t i = 0; i < truth.size(); ++i) right += labels[i] == truth[i];
  return right / static_cast<double>(truth.size());
}

// Dawid and Skene's steps as their paper writes them: one matrix per labeler over all K x K answers, double precision,
// products instead of logarithms.
class Reference {
 public:
  Reference(const Planted& planted, LabelerModel model) : p_(planted), model_(model), classes_(planted.design.classes) {
    for (const auto& set : p_.design.sets) {
      std::vector<std::vector<double>> theta(K(), std::vector<double>(K(), 0));
      for (size_t y = 0; y < K(); ++y) {
        const bool inside = std::count(set.begin(), set.end(), static_cast<int>(y)) > 0;
        for (const int a : set) {
          theta[y][static_cast<size_t>(a)] = !inside                    ? 1.0 / static_cast<double>(set.size())
                                             : a == static_cast<int>(y) ? 1 - kEps
                                                                        : kEps / static_cast<double>(set.size() - 1);
        }
      }
      prior_.push_back(theta);
    }
    theta_ = prior_;
    share_.assign(K(), 1.0 / static_cast<double>(K()));
  }
  void expectation() {
    posterior.clear();
    for (size_t i = 0; i < p_.truth.size(); ++i) {
      std::vector<double> row = share_;
      for (size_t j = 0; j < theta_.size(); ++j) {
        const int32_t a = p_.answers.labels[i * theta_.size() + j];
        if (a < 0) continue;
        for (size_t y = 0; y < K(); ++y) row[y] *= theta_[j][y][static_cast<size_t>(a)];
      }
      double sum = 0;
      for (const double value : row) sum += value;
      for (double& value : row) value /= sum;
      posterior.push_back(row);
    }
  }
  void maximisation() {
    for (size_t y = 0; y < K(); ++y) {
      share_[y] = 1;
      for (const auto& row : posterior) share_[y] += row[y];
      share_[y] /= static_cast<double>(posterior.size() + K());
    }
    for (size_t j = 0; j < theta_.size(); ++j) {
      auto counts = prior_[j];
      for (auto& row : counts) {
        for (double& value : row) value *= kWeight;
      }
      double wrong = kWeight * kEps, all = kWeight;
      const auto& set = p_.design.sets[j];
      for (size_t i = 0; i < posterior.size(); ++i) {
        const int32_t a = p_.answers.labels[i * theta_.size() + j];
        if (a < 0) continue;
        for (size_t y = 0; y < K(); ++y) {
          counts[y][static_cast<size_t>(a)] += posterior[i][y];
          if (std::count(set.begin(), set.end(), static_cast<int>(y)) == 0) continue;
          all += posterior[i][y];
          if (a != static_cast<int>(y)) wrong += posterior[i][y];
        }
      }
      for (size_t y = 0; y < K(); ++y) {
        double sum = 0;
        for (const double value : counts[y]) sum += value;
        const bool inside = std::count(set.begin(), set.end(), static_cast<int>(y)) > 0;
        for (const int a : set) {
          double& value = theta_[j][y][static_cast<size_t>(a)];
          if (model_ == LabelerModel::dawid_skene) value = counts[y][static_cast<size_t>(a)] / sum;
          if (model_ == LabelerModel::one_coin && inside) {
            value = a == static_cast<int>(y) ? 1 - wrong / all : wrong / all / static_cast<double>(set.size() - 1);
          }
        }
      }
    }
  }
  std::vector<std::vector<double>> posterior;

 private:
  size_t K() const { return static_cast<size_t>(classes_); }
  const Planted& p_;
  LabelerModel model_;
  int classes_;
  std::vector<std::vector<std::vector<double>>> prior_, theta_;
  std::vector<double> share_;
};

TEST(Labelers, EqualTheStepsOfThePaper) {
  for (const LabelerModel model : {LabelerModel::one_coin, LabelerModel::dawid_skene}) {
    for (const int steps : {1, 4}) {
      const Planted planted = plant(6, 9, 150, 3);
      Reference reference(planted, model);
      reference.expectation();
      for (int step = 0; step < steps; ++step) reference.maximisation(), reference.expectation();
      const LabelerFit fit =
          fit_labelers(planted.design, planted.answers,
                       {.model = model, .in_set_error = kEps, .prior_weight = kWeight, .steps = steps, .tolerance = 0});
      for (size_t i = 0; i < planted.truth.size(); ++i) {
        for (size_t y = 0; y < 6; ++y) {
          ASSERT_NEAR(static_cast<double>(fit.combination.probabilities[i * 6 + y]), reference.posterior[i][y], 2e-4)
              << to_string(model) << ", item " << i << ", class " << y;
        }
      }
    }
  }
}

TEST(Labelers, TheDensityNeverFalls) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const Planted planted = plant(5, 7, 300, seed);
    for (const LabelerModel model : {LabelerModel::one_coin, LabelerModel::dawid_skene}) {
      const LabelerFit fit = fit_labelers(planted.design, planted.answers, {.model = model, .tolerance = 0});
      for (size_t k = 1; k < fit.log_density.size(); ++k) {
        EXPECT_GE(fit.log_density[k], fit.log_density[k - 1] - 1e-5) << to_string(model) << ", step " << k;
      }
    }
  }
}

TEST(Labelers, FindPlantedHabitsAndBeatVotes) {
  const Planted planted = plant(8, 24, 6000, 11);
  const LabelerFit fit = fit_labelers(planted.design, planted.answers);
  const Combination votes = combine(planted.design, planted.answers, {.rule = Rule::votes_per_degree});
  const LabelerFit coin = fit_labelers(planted.design, planted.answers, {.model = LabelerModel::one_coin});
  const double ours = accuracy(fit.combination.labels, planted.truth);
  EXPECT_GT(ours, accuracy(votes.labels, planted.truth));
  EXPECT_GT(ours, accuracy(coin.combination.labels, planted.truth) - 0.002);
  size_t at = 0;
  double gap = 0, rows = 0;
  for (const auto& labeler : planted.confusion) {
    for (const auto& row : labeler) {
      for (const double wanted : row) gap += std::abs(fit.confusion[at++] - wanted);
      ++rows;
    }
  }
  EXPECT_EQ(at, fit.confusion.size());
  EXPECT_LT(gap / rows, 0.08);  // total variation of a row is half of it; 600 answers a row give about .05
  for (size_t j = 0; j < planted.design.sets.size(); ++j) {
    const auto size = static_cast<double>(planted.design.sets[j].size());
    EXPECT_NEAR(fit.in_set_error[j], 0.2 * (size - 1) / (4 + 0.2 * (size - 1)), 0.04) << j;
    EXPECT_NEAR(coin.in_set_error[j], 0.2 * (size - 1) / (4 + 0.2 * (size - 1)), 0.06) << j;
  }
}

TEST(Labelers, DoNotDependOnThreads) {
  const Planted planted = plant(6, 10, 3000, 5);
  ThreadPool one(1), three(3);
  const LabelerFit a = fit_labelers(planted.design, planted.answers, {.steps = 5, .pool = &one});
  const LabelerFit b = fit_labelers(planted.design, planted.answers, {.steps = 5, .pool = &three});
  EXPECT_EQ(a.combination.probabilities, b.combination.probabilities);
  EXPECT_EQ(a.confusion, b.confusion);
}

TEST(Labelers, RefuseBadOptions) {
  const Planted planted = plant(4, 4, 10, 1);
  EXPECT_THROW(fit_labelers(planted.design, planted.answers, {.in_set_error = 0}), Error);
  EXPECT_THROW(fit_labelers(planted.design, planted.answers, {.prior_weight = -1}), Error);
  EXPECT_THROW(fit_labelers(planted.design, planted.answers, {.steps = 0}), Error);
  EXPECT_THROW(fit_labelers(planted.design, Answers{}, {}), Error);
}

}  // namespace
}  // namespace tessera::experts
