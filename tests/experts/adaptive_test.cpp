#include "tessera/experts/adaptive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tessera/base/error.h"
#include "tessera/base/random.h"
#include "tessera/experts/covering.h"

namespace tessera::experts {
namespace {

Design cover(int classes, int size, int lambda = 1) {
  return find_covering({.classes = classes, .size = size, .lambda = lambda}, {.seconds = 0.2}).design;
}

// In-set answers are right except for a share `wrong` (at most `most` of them per input); out of set anything,
// with a liking for one rival that an adversary would have.
Answers answers_for(const Design& design, const std::vector<int32_t>& truth, double wrong, int most, Random& random) {
  Answers answers{.inputs = static_cast<int64_t>(truth.size())};
  for (const int32_t y : truth) {
    int errors = 0;
    const auto rival = static_cast<int>(random.below(design.classes));
    for (const auto& set : design.sets) {
      const auto any = set[static_cast<size_t>(random.below(static_cast<int64_t>(set.size())))];
      int label = std::binary_search(set.begin(), set.end(), rival) ? rival : any;
      if (std::binary_search(set.begin(), set.end(), y)) {
        const bool err = errors < most && random.uniform() < wrong && label != y;
        errors += err ? 1 : 0;
        if (!err) label = y;
      }
      answers.labels.push_back(label);
    }
  }
  return answers;
}

std::vector<int32_t> random_truth(int classes, int64_t inputs, Random& random) {
  std::vector<int32_t> truth;
  for (int64_t i = 0; i < inputs; ++i) truth.push_back(static_cast<int32_t>(random.below(classes)));
  return truth;
}

TEST(Adaptive, SameLabelEqualsTheFullRuleForAllAnswers) {
  Random random(7);
  for (const auto& [classes, size] : std::vector<std::pair<int, int>>{{5, 2}, {7, 3}, {10, 4}, {13, 4}, {26, 6}}) {
    const Design design = cover(classes, size);
    for (const double wrong : {0.0, 0.2, 0.7, 1.0}) {
      const Answers answers = answers_for(design, random_truth(classes, 300, random), wrong, 1000, random);
      const Combination full = combine(design, answers, {.rule = Rule::deficit});
      const AdaptiveResult result = decide_adaptively(design, answers, {});
      EXPECT_EQ(result.labels, full.labels) << classes << ", " << size << ", " << wrong;
    }
  }
}

// Also on designs that cover nothing in particular.
TEST(Adaptive, SameLabelEqualsTheFullRuleOnRandomDesigns) {
  Random random(8);
  for (int trial = 0; trial < 40; ++trial) {
    Design design{.classes = 3 + static_cast<int>(random.below(8))};
    const int64_t sets = 1 + random.below(12);
    for (int64_t j = 0; j < sets; ++j) {
      std::vector<int> set;
      for (int k = 0; k < design.classes; ++k) {
        if (random.uniform() < 0.4) set.push_back(k);
      }
      if (!set.empty()) design.sets.push_back(set);
    }
    if (design.sets.empty()) continue;
    const Answers answers = answers_for(design, random_truth(design.classes, 50, random), 0.5, 1000, random);
    EXPECT_EQ(decide_adaptively(design, answers, {}).labels, combine(design, answers, {.rule = Rule::deficit}).labels);
  }
}

// Probabilities whose best classes tie all the time.
TEST(Adaptive, SameLabelEqualsTheFullRuleWithProbabilitiesToo) {
  Random random(12);
  for (const auto& [classes, size] : std::vector<std::pair<int, int>>{{5, 2}, {6, 3}, {10, 4}}) {
    const Design design = cover(classes, size);
    Answers answers{.inputs = 500};
    for (int64_t i = 0; i < answers.inputs; ++i) {
      const auto y = static_cast<int>(random.below(classes));
      for (const auto& set : design.sets) {
        std::vector<double> block;
        double sum = 0;
        for (const int item : set) sum += block.emplace_back(std::exp(2 * random.normal() + (item == y ? 3 : 0)));
        for (const double value : block) answers.probabilities.push_back(static_cast<float>(value / sum));
      }
    }
    const AdaptiveResult result = decide_adaptively(design, answers, {});
    EXPECT_EQ(result.labels, combine(design, answers, {.rule = Rule::deficit}).labels) << classes;
    EXPECT_LT(*std::min_element(result.asked.begin(), result.asked.end()), static_cast<int>(design.sets.size()));
  }
}

// Experts from sure and right to confused.
TEST(Adaptive, SameLabelEqualsTheSoftRulesOnAllExperts) {
  Random random(13);
  for (const auto& [classes, size] : std::vector<std::pair<int, int>>{{5, 2}, {7, 3}, {10, 4}, {26, 6}, {9, 9}}) {
    const Design design = cover(classes, size);
    for (const double clarity : {0.0, 3.0, 6.0, 12.0}) {
      Answers answers{.inputs = 200};
      for (int64_t i = 0; i < answers.inputs; ++i) {
        const auto y = static_cast<int>(random.below(classes)), rival = static_cast<int>(random.below(classes));
        for (const auto& set : design.sets) {
          std::vector<double> block;
          double sum = 0;
          for (const int item : set) {
            const double lift = item == y ? clarity : item == rival ? clarity - 2 : 0;
            sum += block.emplace_back(std::exp(2 * random.normal() + lift));
          }
          for (const double value : block) answers.probabilities.push_back(static_cast<float>(value / sum));
        }
      }
      const AdaptiveResult result = decide_adaptively(design, answers, {.rule = Rule::quadratic});
      EXPECT_EQ(result.labels, combine(design, answers, {.rule = Rule::quadratic}).labels)
          << classes << ", " << clarity;
      const double asked = std::accumulate(result.asked.begin(), result.asked.end(), 0.0) / 200;
      if (clarity > 10 && design.sets.size() > 10) {
        EXPECT_LT(asked, 0.7 * static_cast<double>(design.sets.size())) << classes;
      }
    }
  }
}

// The bound holds for every completion, not only for the answers that were there: after it stops, adversaries answer.
TEST(Adaptive, NoAnswerOfTheExpertsLeftMovesASoftLabel) {
  Random random(14);
  const Design design = cover(13, 4);
  const QuestionPlan plans[] = {QuestionPlan(design, {.rule = Rule::quadratic}),
                                QuestionPlan(design, {.rule = Rule::balance})};
  int stopped_early = 0;
  for (int trial = 0; trial < 400; ++trial) {
    const auto y = static_cast<int>(random.below(13));
    Answers answers{.inputs = 40};
    std::vector<std::vector<float>> given(design.sets.size());
    SoftQuestioner questions(plans[trial % 2]);
    for (int j = questions.next(); j >= 0; j = questions.next()) {
      const auto& set = design.sets[static_cast<size_t>(j)];
      double sum = 0;
      std::vector<double> block;
      for (const int item : set) sum += block.emplace_back(std::exp(1.5 * random.normal() + (item == y ? 4 : 0)));
      for (const double value : block) given[static_cast<size_t>(j)].push_back(static_cast<float>(value / sum));
      questions.tell(j, given[static_cast<size_t>(j)]);
    }
    if (questions.asked() == static_cast<int>(design.sets.size())) continue;
    ++stopped_early;
    for (int64_t i = 0; i < answers.inputs; ++i) {
      const auto liked = static_cast<int>(random.below(13));
      for (size_t j = 0; j < design.sets.size(); ++j) {
        const auto& set = design.sets[j];
        const auto at = std::find(set.begin(), set.end(), liked);
        const size_t place = at != set.end() ? static_cast<size_t>(at - set.begin())
                                             : static_cast<size_t>(random.below(static_cast<int64_t>(set.size())));
        for (size_t k = 0; k < set.size(); ++k) {
          answers.probabilities.push_back(given[j].empty() ? static_cast<float>(k == place) : given[j][k]);
        }
      }
    }
    EXPECT_THAT(combine(design, answers, {.rule = trial % 2 == 0 ? Rule::quadratic : Rule::balance}).labels,
                testing::Each(questions.label()));
  }
  EXPECT_GT(stopped_early, 200);
}

TEST(Adaptive, InSetFindsTheTruthWithinItsAssumption) {
  Random random(9);
  for (const int errors : {0, 1}) {
    for (const auto& [classes, size] : std::vector<std::pair<int, int>>{{7, 3}, {13, 4}, {16, 6}}) {
      const Design design = cover(classes, size, 2 * errors + 1);
      const std::vector<int32_t> truth = random_truth(classes, 400, random);
      const Answers answers = answers_for(design, truth, 0.5, errors, random);
      const AdaptiveResult result =
          decide_adaptively(design, answers, {.guarantee = Guarantee::in_set, .errors = errors});
      EXPECT_EQ(result.labels, truth) << classes << ", " << size;
    }
  }
}

TEST(Adaptive, AsksAboutAsFewAsThePublishedProcedure) {
  Random random(10);
  const Design design = cover(21, 5);  // the plane of order 4: 21 sets; the best known procedure asks 6.4 of them
  ASSERT_EQ(design.sets.size(), 21U);
  const std::vector<int32_t> truth = random_truth(21, 2000, random);
  Answers answers{.inputs = 2000};
  for (const int32_t y : truth) {
    for (const auto& set : design.sets) {
      const bool knows = std::binary_search(set.begin(), set.end(), y);
      answers.labels.push_back(knows ? y : set[static_cast<size_t>(random.below(5))]);
    }
  }
  const auto mean = [](const AdaptiveResult& result) {
    return std::accumulate(result.asked.begin(), result.asked.end(), 0.0) / static_cast<double>(result.asked.size());
  };
  const AdaptiveResult trusting = decide_adaptively(design, answers, {.guarantee = Guarantee::in_set});
  EXPECT_EQ(trusting.labels, truth);
  EXPECT_LT(mean(trusting), 6.9);
  const AdaptiveResult safe = decide_adaptively(design, answers, {});
  EXPECT_EQ(safe.labels, truth);
  EXPECT_LT(mean(safe), 12);
}

TEST(Adaptive, RefusesAGuaranteeThatTheDesignCannotGive) {
  const Design design = cover(7, 3);
  EXPECT_THROW(QuestionPlan(design, {.guarantee = Guarantee::in_set, .errors = 1}), Error);
  EXPECT_THROW(QuestionPlan(design, {.errors = -1}), Error);
  EXPECT_THROW(QuestionPlan(design, {.rule = Rule::soft_sum}), Error);
  EXPECT_THROW(
      decide_adaptively(design, Answers{.inputs = 1, .labels = {0, 0, 0, 0, 0, 0, 0}}, {.rule = Rule::quadratic}),
      Error);
  EXPECT_THROW(parse_guarantee("perhaps"), Error);
  EXPECT_EQ(parse_guarantee(to_string(Guarantee::in_set)), Guarantee::in_set);
}

}  // namespace
}  // namespace tessera::experts
