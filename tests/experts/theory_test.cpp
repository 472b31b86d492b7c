#include "tessera/experts/theory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tessera/base/error.h"
#include "tessera/base/random.h"
#include "tessera/experts/covering.h"

namespace tessera::experts {
namespace {

std::vector<int> subset(int classes, int size, Random& random) {
  std::vector<int> all(static_cast<size_t>(classes));
  std::iota(all.begin(), all.end(), 0);
  random.shuffle(all);
  all.resize(static_cast<size_t>(size));
  std::sort(all.begin(), all.end());
  return all;
}

Design random_design(int classes, int sets, Random& random) {
  Design design{.classes = classes, .sets = {}};
  for (int j = 0; j < sets; ++j) {
    design.sets.push_back(subset(classes, static_cast<int>(2 + random.below(classes - 1)), random));
  }
  return design;
}

// Whether some answers of the experts give `rival` no more deficit than `truth`, by trying all of them. `mistakes`
// experts that know the truth may err.
bool can_be_fooled(const Design& design, int truth, int rival, int mistakes) {
  const auto deficit_gap = [&](const std::vector<int>& answers) {
    int gap = 0;  // deficit of the rival minus that of the truth
    for (size_t j = 0; j < answers.size(); ++j) {
      const auto& set = design.sets[j];
      const bool truth_in = std::count(set.begin(), set.end(), truth) > 0;
      const bool rival_in = std::count(set.begin(), set.end(), rival) > 0;
      gap += (rival_in && answers[j] != rival ? 1 : 0) - (truth_in && answers[j] != truth ? 1 : 0);
    }
    return gap;
  };
  std::vector<size_t> choice(design.sets.size(), 0);
  for (;;) {
    std::vector<int> answers;
    int errors = 0;
    for (size_t j = 0; j < choice.size(); ++j) {
      const auto& set = design.sets[j];
      answers.push_back(set[choice[j]]);
      if (std::count(set.begin(), set.end(), truth) > 0 && answers.back() != truth) ++errors;
    }
    if (errors <= mistakes && deficit_gap(answers) <= 0) return true;
    size_t j = 0;
    while (j < choice.size() && ++choice[j] == design.sets[j].size()) choice[j++] = 0;
    if (j == choice.size()) return false;
  }
}

TEST(ZeroErrorTheorem, DeficitIsFooledExactlyWhenSomePairIsInTooFewSets) {
  Random random(1);
  for (int trial = 0; trial < 60; ++trial) {
    const Design design = random_design(4, static_cast<int>(3 + random.below(4)), random);
    for (const int mistakes : {0, 1}) {
      bool fooled = false;
      for (int truth = 0; truth < 4; ++truth) {
        for (int rival = 0; rival < 4; ++rival) {
          fooled = fooled || (rival != truth && can_be_fooled(design, truth, rival, mistakes));
        }
      }
      EXPECT_EQ(fooled, count_pairs(design).lambda_min < 2 * mistakes + 1) << "trial " << trial << ", e " << mistakes;
    }
  }
}

TEST(Simulate, AdversariesBeatTheDeficitRuleExactlyBelowTheThreshold) {
  Random random(2);
  for (int trial = 0; trial < 200; ++trial) {
    const Design design = random_design(7, static_cast<int>(4 + random.below(20)), random);
    for (const int mistakes : {0, 1, 2}) {
      const Simulation result = simulate(design, {.in_set_mistakes = mistakes});
      const bool safe = count_pairs(design).lambda_min >= 2 * mistakes + 1;
      ASSERT_EQ(result.rules[0].rule, "deficit");
      EXPECT_TRUE(!safe || result.rules[0].errors == 0);
      EXPECT_EQ(result.error_bound, safe ? 0 : 1);
    }
  }
}

TEST(Simulate, PluralityFailsOnUnequalDegreesThoughEveryPairIsCovered) {
  // Class 0 is in one set, class 1 in three: the two sets without 0 outvote it.
  const Design design{.classes = 4, .sets = {{0, 1, 2, 3}, {1, 2}, {1, 3}}};
  ASSERT_GE(count_pairs(design).lambda_min, 1);
  const Simulation result = simulate(design, {});
  EXPECT_EQ(result.rules[0].errors, 0);
  EXPECT_GT(result.rules[1].errors, 0);
}

TEST(Simulate, UniformErrorStaysBelowTheUnionBound) {
  Random random(3);
  for (int trial = 0; trial < 20; ++trial) {
    Design design{.classes = 12, .sets = {}};
    for (int j = 0; j < 14; ++j) design.sets.push_back(subset(12, 4, random));
    const Simulation result = simulate(design, {.outsiders = Outsiders::uniform, .trials = 4000, .seed = 7});
    EXPECT_LE(result.rules[2].lower, result.error_bound);
  }
}

TEST(Simulate, CoveringsAreExactUnderUniformOutsiders) {
  const Design design = find_covering({.classes = 13, .size = 4}, {.seconds = 0}).design;
  const Simulation result = simulate(design, {.outsiders = Outsiders::uniform, .trials = 2000});
  EXPECT_EQ(result.rules[0].errors, 0);
  EXPECT_EQ(result.error_bound, 0);
}

TEST(Simulate, NoiseMakesErrorsThatRedundancyRemoves) {
  const SimulateOptions noise{.outsiders = Outsiders::uniform, .in_set_error = 0.05, .trials = 4000, .seed = 1};
  const Design once = find_covering({.classes = 9, .size = 3, .lambda = 1}, {.seconds = 0}).design;
  const Design thrice = find_covering({.classes = 9, .size = 3, .lambda = 3}, {.seconds = 0}).design;
  EXPECT_LT(simulate(thrice, noise).rules[0].upper, simulate(once, noise).rules[0].lower);
}

TEST(Simulate, RefusesImpossibleOptions) {
  const Design design{.classes = 2, .sets = {{0, 1}}};
  EXPECT_THROW(simulate(design, {.in_set_mistakes = -1}), Error);
  EXPECT_THROW(simulate(design, {.in_set_error = 1}), Error);
  EXPECT_THROW(simulate(design, {.in_set_error = std::nan("")}), Error);
  EXPECT_THROW(simulate(design, {.trials = 0}), Error);
}

TEST(ExpertBounds, AgreeWithTheFiguresOfTheModels) {
  // Schoenheim, random sets and regular sets at delta = 0.01.
  struct Case {
    int classes, size;
    int64_t zero_error, random_sets, regular;
  };
  for (const Case& c : {Case{26, 5, 37, 45, 26}, {100, 10, 110, 97, 40}, {1000, 50, 420, 229, 60}}) {
    const auto lines = expert_bounds({.classes = c.classes, .size = c.size, .target_error = 0.01});
    const auto has = [&](const char* model, int64_t experts) {
      return std::any_of(lines.begin(), lines.end(), [&](const BoundLine& line) {
        return line.model.find(model) != std::string::npos && line.experts == experts;
      });
    };
    EXPECT_TRUE(has("zero error", c.zero_error)) << c.classes;
    EXPECT_TRUE(has("random sets", c.random_sets)) << c.classes;
    EXPECT_TRUE(has("in d sets", c.regular)) << c.classes;
  }
}

TEST(ExpertBounds, RandomSetsReachTheTargetThatTheyPromise) {
  const BoundQuestion question{.classes = 20, .size = 6, .target_error = 0.05};
  int64_t needed = 0;
  for (const BoundLine& line : expert_bounds(question)) {
    if (line.model.find("random sets") != std::string::npos) needed = line.experts;
  }
  ASSERT_GT(needed, 0);
  Random random(4);
  int64_t errors = 0, trials = 0;
  for (int repeat = 0; repeat < 50; ++repeat) {
    Design design{.classes = 20, .sets = {}};
    for (int64_t j = 0; j < needed; ++j) design.sets.push_back(subset(20, 6, random));
    const Simulation result = simulate(design, {.outsiders = Outsiders::uniform, .trials = 400});
    errors += result.rules[2].errors;
    trials += result.trials;
  }
  EXPECT_LE(static_cast<double>(errors) / static_cast<double>(trials), question.target_error);
}

TEST(ExpertBounds, RefusesWhatIsOutOfRange) {
  EXPECT_THROW(expert_bounds({.classes = 1, .size = 1}), Error);
  EXPECT_THROW(expert_bounds({.classes = 5, .size = 6}), Error);
  EXPECT_THROW(expert_bounds({.classes = 5, .size = 3, .target_error = 0}), Error);
  EXPECT_THROW(expert_bounds({.classes = 5, .size = 3, .in_set_errors = -1}), Error);
}

}  // namespace
}  // namespace tessera::experts
