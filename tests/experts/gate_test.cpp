#include "tessera/experts/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/random.h"
#include "tessera/experts/combine.h"

namespace tessera::experts {
namespace {

// A partition: no two classes of different sets share one, so without a gate nobody can tell them apart.
const Design kPartition{.classes = 6, .sets = {{0, 1, 2}, {3, 4, 5}}};

Answers evidence_for(const std::vector<int32_t>& truth, double contrast, Random& random) {
  Answers answers{.inputs = static_cast<int64_t>(truth.size())};
  for (const int32_t y : truth) {
    for (size_t j = 0; j < 2; ++j) {
      const bool knows = y / 3 == static_cast<int32_t>(j);
      answers.evidence.push_back(static_cast<float>((knows ? contrast : 0) + 3 + random.normal()));
      for (int k = 0; k < 3; ++k) {
        answers.probabilities.push_back(knows ? (y % 3 == k ? 0.9F : 0.05F) : (k == 0 ? 0.9F : 0.05F));
      }
    }
  }
  return answers;
}

std::vector<int32_t> some_truth(int64_t inputs, Random& random) {
  std::vector<int32_t> truth;
  for (int64_t i = 0; i < inputs; ++i) truth.push_back(static_cast<int32_t>(random.below(6)));
  return truth;
}

TEST(Gate, AClearGateMakesAPartitionEnough) {
  Random random(1);
  const std::vector<int32_t> held_out = some_truth(500, random), truth = some_truth(500, random);
  const Gate gate = fit_gate(kPartition, evidence_for(held_out, 8, random), held_out);
  Answers answers = evidence_for(truth, 8, random);
  answers.gate = open_gate(gate, answers);
  EXPECT_NO_THROW(check_answers(kPartition, answers, "answers"));
  double right = 0;
  const Combination result = combine(kPartition, answers, {.rule = Rule::naive_bayes});
  for (size_t i = 0; i < truth.size(); ++i) right += result.labels[i] == truth[i];
  EXPECT_GT(right / 500, 0.99);
}

// The curve's derivative by both coefficients vanishes, and the probabilities are those of the planted logistic model.
TEST(Gate, IsTheMostLikelyCurve) {
  Random random(2);
  const std::vector<int32_t> truth = some_truth(4000, random);
  const Answers answers = evidence_for(truth, 1.5, random);
  const Gate gate = fit_gate(kPartition, answers, truth);
  const std::vector<float> opened = open_gate(gate, answers);
  for (size_t j = 0; j < 2; ++j) {
    double slope = 0, offset = 0;
    for (size_t i = 0; i < truth.size(); ++i) {
      const double gap = static_cast<double>(opened[i * 2 + j]) - (truth[i] / 3 == static_cast<int32_t>(j) ? 1 : 0);
      slope += gap * static_cast<double>(answers.evidence[i * 2 + j]), offset += gap;
    }
    EXPECT_NEAR(slope, 0, 0.2);  // the prior pulls by coefficient / 100
    EXPECT_NEAR(offset, 0, 0.2);
    // Two normal densities of variance 1, `contrast` apart: the log odds have slope 1.5.
    EXPECT_NEAR(gate.slope[j], 1.5, 0.15);
  }
}

TEST(Gate, IsOpenWhereNothingCanBeLearnt) {
  Random random(3);
  std::vector<int32_t> truth(50, 1);
  const Answers answers = evidence_for(truth, 3, random);
  for (const float value : open_gate(fit_gate(kPartition, answers, truth), answers)) EXPECT_GT(value, 0.999F);
  EXPECT_THROW(fit_gate(kPartition, Answers{.inputs = 1}, std::vector<int32_t>{1}), Error);
  EXPECT_THROW(open_gate(Gate{{1, 1}, {0, 0}}, Answers{.inputs = 1}), Error);
}

}  // namespace
}  // namespace tessera::experts
