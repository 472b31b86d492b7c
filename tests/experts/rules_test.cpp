#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <cmath>
#include <limits>

#include "tessera/base/error.h"
#include "tessera/base/random.h"
#include "tessera/experts/combine.h"

namespace tessera::experts {
namespace {

// Random blocks until every pair of classes is covered.
Design random_cover(int classes, int size, Random& random) {
  Design design{.classes = classes};
  std::vector<std::vector<bool>> covered(static_cast<size_t>(classes), std::vector<bool>(static_cast<size_t>(classes)));
  for (int a = 0; a < classes; ++a) {
    for (int b = a + 1; b < classes; ++b) {
      if (covered[static_cast<size_t>(a)][static_cast<size_t>(b)]) continue;
      std::vector<int> set{a, b};
      while (static_cast<int>(set.size()) < size) {
        const int item = static_cast<int>(random.below(classes));
        if (std::find(set.begin(), set.end(), item) == set.end()) set.push_back(item);
      }
      std::sort(set.begin(), set.end());
      for (const int i : set) {
        for (const int l : set) covered[static_cast<size_t>(i)][static_cast<size_t>(l)] = true;
      }
      design.sets.push_back(set);
    }
  }
  return design;
}

Answers random_probabilities(const Design& design, int64_t inputs, Random& random) {
  Answers answers{.inputs = inputs};
  for (int64_t i = 0; i < inputs; ++i) {
    for (const auto& set : design.sets) {
      std::vector<double> block;
      double sum = 0;
      for (size_t k = 0; k < set.size(); ++k) {
        block.push_back(std::exp(2 * random.normal()));
        sum += block.back();
      }
      for (const double value : block) answers.probabilities.push_back(static_cast<float>(value / sum));
    }
  }
  return answers;
}

// The rules once more, each from its definition, in double precision with dense matrices.
class Reference {
 public:
  Reference(const Design& design, const float* row) : design_(design), classes_(design.classes) {
    for (const auto& set : design.sets) {
      Eigen::VectorXd p = Eigen::VectorXd::Zero(classes_), in = Eigen::VectorXd::Zero(classes_);
      for (const int item : set) {
        p(item) = static_cast<double>(*row++);
        in(item) = 1;
      }
      p_.push_back(p);
      in_.push_back(in);
    }
  }

  Eigen::VectorXd soft_sum() const {
    Eigen::VectorXd pi = Eigen::VectorXd::Zero(classes_), degree = pi;
    for (size_t j = 0; j < p_.size(); ++j) pi += p_[j], degree += in_[j];
    pi = pi.cwiseQuotient(degree);
    return pi / pi.sum();
  }

  // Stationary vector: the generator's null vector with the sum fixed.
  Eigen::VectorXd balance() const {
    Eigen::MatrixXd system = Eigen::MatrixXd::Zero(classes_ + 1, classes_);
    for (size_t j = 0; j < p_.size(); ++j) {
      system.topRows(classes_) += p_[j] * in_[j].transpose();
      system.topRows(classes_) -= Eigen::MatrixXd(in_[j].asDiagonal());
    }
    system.row(classes_).setOnes();
    return system.colPivHouseholderQr().solve(Eigen::VectorXd::Unit(classes_ + 1, classes_));
  }

  // The bordered system of the minimisation, then clipping.
  Eigen::VectorXd quadratic() const {
    Eigen::MatrixXd system = Eigen::MatrixXd::Zero(classes_ + 1, classes_ + 1);
    for (size_t j = 0; j < p_.size(); ++j) {
      const Eigen::MatrixXd residual = Eigen::MatrixXd(in_[j].asDiagonal()) - p_[j] * in_[j].transpose();
      system.topLeftCorner(classes_, classes_) += residual.transpose() * residual;
    }
    system.row(classes_).head(classes_).setOnes();
    system.col(classes_).head(classes_).setOnes();
    Eigen::VectorXd pi = system.fullPivLu().solve(Eigen::VectorXd::Unit(classes_ + 1, classes_)).head(classes_);
    pi = pi.cwiseMax(0);
    return pi / pi.sum();
  }

  Eigen::VectorXd log_linear() const {
    Eigen::MatrixXd rows(0, classes_);
    std::vector<double> target;
    for (size_t j = 0; j < p_.size(); ++j) {
      for (const int a : design_.sets[j]) {
        for (const int b : design_.sets[j]) {
          if (a >= b) continue;
          rows.conservativeResize(rows.rows() + 1, Eigen::NoChange);
          rows.row(rows.rows() - 1) = Eigen::VectorXd::Unit(classes_, a) - Eigen::VectorXd::Unit(classes_, b);
          target.push_back(std::log(p_[j](a)) - std::log(p_[j](b)));
        }
      }
    }
    const Eigen::VectorXd wanted = Eigen::Map<Eigen::VectorXd>(target.data(), static_cast<Eigen::Index>(target.size()));
    const Eigen::VectorXd s = rows.completeOrthogonalDecomposition().solve(wanted);
    const Eigen::VectorXd pi = (s.array() - s.maxCoeff()).exp();
    return pi / pi.sum();
  }

  // Gradient of the Bradley-Terry likelihood in log pi; zero at its maximum.
  double bradley_terry_slope(const Eigen::VectorXd& pi) const {
    Eigen::VectorXd gradient = Eigen::VectorXd::Zero(classes_);
    for (size_t j = 0; j < p_.size(); ++j) gradient += p_[j] - in_[j].cwiseProduct(pi) / in_[j].dot(pi);
    return gradient.cwiseAbs().maxCoeff();
  }

 private:
  const Design& design_;
  Eigen::Index classes_;
  std::vector<Eigen::VectorXd> p_, in_;
};

Eigen::VectorXd row_of(const Combination& result, int64_t input) {
  return Eigen::Map<const Eigen::VectorXf>(result.probabilities.data() + input * result.classes, result.classes)
      .cast<double>();
}

TEST(SoftRules, EqualTheirDefinitions) {
  Random random(1);
  for (const auto& [classes, size, inputs] : {std::tuple{5, 2, 3}, {7, 3, 37}, {13, 5, 16}, {26, 6, 5}, {3, 3, 1}}) {
    const Design design = random_cover(classes, size, random);
    const Answers answers = random_probabilities(design, inputs, random);
    const auto soft_sum = combine(design, answers, {.rule = Rule::soft_sum});
    const auto log_linear = combine(design, answers, {.rule = Rule::log_linear});
    const auto bradley_terry = combine(design, answers, {.rule = Rule::bradley_terry, .steps = 20000});
    const auto balance = combine(design, answers, {.rule = Rule::balance});
    const auto quadratic = combine(design, answers, {.rule = Rule::quadratic});
    for (int64_t i = 0; i < inputs; ++i) {
      const Reference reference(design, answers.probabilities.data() + i * answer_columns(design));
      EXPECT_LT((row_of(soft_sum, i) - reference.soft_sum()).cwiseAbs().maxCoeff(), 1e-5);
      EXPECT_LT((row_of(log_linear, i) - reference.log_linear()).cwiseAbs().maxCoeff(), 1e-4);
      EXPECT_LT((row_of(balance, i) - reference.balance()).cwiseAbs().maxCoeff(), 1e-5);
      EXPECT_LT((row_of(quadratic, i) - reference.quadratic()).cwiseAbs().maxCoeff(), 1e-5);
      EXPECT_LT(reference.bradley_terry_slope(row_of(bradley_terry, i)), 1e-3);
    }
  }
}

TEST(SoftRules, BalanceByStepsEqualsTheDefinitionAboveSixtyFourClasses) {
  Random random(2);
  const Design design = random_cover(70, 20, random);
  const Answers answers = random_probabilities(design, 5, random);
  const auto balance = combine(design, answers, {.rule = Rule::balance});
  for (int64_t i = 0; i < 5; ++i) {
    const Reference reference(design, answers.probabilities.data() + i * answer_columns(design));
    EXPECT_LT((row_of(balance, i) - reference.balance()).cwiseAbs().maxCoeff(), 1e-4);
  }
}

TEST(SoftRules, RecoverTheDistributionBehindConsistentAnswers) {
  Random random(3);
  const Design design = random_cover(11, 4, random);
  std::vector<double> truth(11);
  double total = 0;
  for (double& value : truth) total += value = std::exp(random.normal());
  Answers answers{.inputs = 1};
  for (const auto& set : design.sets) {
    double sum = 0;
    for (const int item : set) sum += truth[static_cast<size_t>(item)];
    for (const int item : set)
      answers.probabilities.push_back(static_cast<float>(truth[static_cast<size_t>(item)] / sum));
  }
  for (const Rule rule : {Rule::log_linear, Rule::bradley_terry, Rule::balance, Rule::quadratic}) {
    const auto result = combine(design, answers, {.rule = rule, .steps = 5000});
    for (size_t k = 0; k < truth.size(); ++k) {
      EXPECT_NEAR(static_cast<double>(result.probabilities[k]), truth[k] / total, 1e-4) << to_string(rule);
    }
  }
}

// Zero error: in-set experts are right and certain, the others say anything.
TEST(Rules, ReturnTheTruthWhateverOutOfSetExpertsSay) {
  Random random(4);
  for (int trial = 0; trial < 60; ++trial) {
    const int classes = 3 + static_cast<int>(random.below(20));
    const Design design = random_cover(classes, 2 + static_cast<int>(random.below(classes - 2)), random);
    Answers answers = random_probabilities(design, classes, random);
    float* at = answers.probabilities.data();
    for (int truth = 0; truth < classes; ++truth) {
      const int rival = static_cast<int>(random.below(classes));
      for (const auto& set : design.sets) {
        const bool knows = std::binary_search(set.begin(), set.end(), truth);
        const bool lies = std::binary_search(set.begin(), set.end(), rival) && trial % 2 == 0;
        for (const int item : set) {
          if (knows) *at = item == truth ? 1.0F : 0.0F;
          if (!knows && lies) *at = item == rival ? 1.0F : 0.0F;
          ++at;
        }
      }
    }
    for (const Rule rule : {Rule::deficit, Rule::votes_per_degree, Rule::balance, Rule::quadratic}) {
      const auto result = combine(design, answers, {.rule = rule});
      for (int truth = 0; truth < classes; ++truth) {
        EXPECT_EQ(result.labels[static_cast<size_t>(truth)], truth) << to_string(rule);
        if (rule == Rule::balance || rule == Rule::quadratic) {
          EXPECT_GT(result.probabilities[static_cast<size_t>(truth * classes + truth)], 0.999F) << to_string(rule);
        }
      }
    }
  }
}

TEST(Rules, PluralityIsWrongWhereTheDeficitIsRight) {
  const Design design{.classes = 4, .sets = {{0, 1}, {1, 2}, {1, 3}, {0, 2, 3}}};
  EXPECT_FALSE(unsafe_for_plurality(design).empty());
  Answers answers{.inputs = 1, .labels = {0, 1, 1, 0}};
  const auto plurality = combine(design, answers, {.rule = Rule::plurality});
  EXPECT_EQ(plurality.warnings.size(), 1U);
  const Design fano{.classes = 7,
                    .sets = {{0, 1, 2}, {0, 3, 4}, {0, 5, 6}, {1, 3, 5}, {1, 4, 6}, {2, 3, 6}, {2, 4, 5}}};
  EXPECT_TRUE(unsafe_for_plurality(fano).empty());
  const Design lopsided{.classes = 4, .sets = {{0, 1, 2}, {1, 3}, {2, 3}, {0, 3}}};
  // Truth 0 has two sets; 3 is named by both sets that do not know 0, and 0 by both that do.
  Answers tie{.inputs = 1, .labels = {0, 3, 3, 0}};
  EXPECT_EQ(combine(lopsided, tie, {.rule = Rule::deficit}).labels[0], 0);
}

TEST(Rules, NaiveBayesEqualsTheProductOfLikelihoods) {
  Random random(5);
  const Design design = random_cover(9, 4, random);
  const Answers answers = random_probabilities(design, 20, random);
  const std::vector<int32_t> labels = most_probable(design, answers);
  const double eps = 0.1;
  const auto result =
      combine(design, {.inputs = 20, .labels = labels}, {.rule = Rule::naive_bayes, .in_set_error = eps});
  for (size_t i = 0; i < 20; ++i) {
    std::vector<double> likelihood(9, 1);
    double total = 0;
    for (int k = 0; k < 9; ++k) {
      for (size_t j = 0; j < design.sets.size(); ++j) {
        const auto& set = design.sets[j];
        const auto size = static_cast<double>(set.size());
        const bool knows = std::binary_search(set.begin(), set.end(), k);
        const int32_t said = labels[i * design.sets.size() + j];
        likelihood[static_cast<size_t>(k)] *= !knows ? 1 / size : said == k ? 1 - eps : eps / (size - 1);
      }
      total += likelihood[static_cast<size_t>(k)];
    }
    for (size_t k = 0; k < 9; ++k) {
      EXPECT_NEAR(static_cast<double>(result.probabilities[i * 9 + k]), likelihood[k] / total, 1e-5);
    }
  }
}

TEST(Rules, DoNotDependOnThreadsOrOnNeighbouringInputs) {
  Random random(6);
  const Design design = random_cover(12, 4, random);
  const Answers answers = random_probabilities(design, 1000, random);
  ThreadPool one(1), three(3);
  for (const Rule rule : all_rules()) {
    const auto a = combine(design, answers, {.rule = rule, .pool = &one});
    const auto b = combine(design, answers, {.rule = rule, .pool = &three});
    EXPECT_EQ(a.probabilities, b.probabilities) << to_string(rule);
    EXPECT_EQ(a.labels, b.labels) << to_string(rule);
  }
}

TEST(Rules, AShutGateLeavesAnExpertOut) {
  Random random(7);
  const Design design = random_cover(8, 4, random);
  Answers answers = random_probabilities(design, 4, random);
  Design extended = design;
  extended.sets.push_back({0, 1, 2});
  Answers gated{.inputs = 4};
  const auto columns = static_cast<size_t>(answer_columns(design));
  for (size_t i = 0; i < 4; ++i) {
    const float* row = answers.probabilities.data() + i * columns;
    gated.probabilities.insert(gated.probabilities.end(), row, row + columns);
    for (const float value : {0.0F, 0.0F, 1.0F}) gated.probabilities.push_back(value);
    gated.gate.insert(gated.gate.end(), design.sets.size(), 1.0F);
    gated.gate.push_back(0.0F);
  }
  for (const Rule rule : {Rule::soft_sum, Rule::balance, Rule::quadratic, Rule::naive_bayes}) {
    const auto without = combine(design, answers, {.rule = rule});
    const auto with = combine(extended, gated, {.rule = rule});
    for (size_t k = 0; k < without.probabilities.size(); ++k) {
      EXPECT_NEAR(without.probabilities[k], with.probabilities[k], 1e-5F) << to_string(rule);
    }
  }
}

TEST(Answers, NamesWhatIsWrong) {
  const Design design{.classes = 3, .sets = {{0, 1}, {1, 2}}};
  const auto message = [&](const Answers& answers) -> std::string {
    try {
      check_answers(design, answers, "a.npy");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message({.inputs = 1, .probabilities = {0.5F, 0.5F, 0.25F, 0.75F}, .labels = {0, -1}}), "");
  EXPECT_THAT(message({.inputs = 1, .probabilities = {0.5F, 0.5F, 0.5F, 0.75F}}),
              testing::HasSubstr("input 0, expert 1"));
  EXPECT_THAT(message({.inputs = 1, .probabilities = {0.5F, std::numeric_limits<float>::quiet_NaN(), 0.5F, 0.5F}}),
              testing::HasSubstr("found nan"));
  EXPECT_THAT(message({.inputs = 1, .labels = {0, 0}}), testing::HasSubstr("class 0 is not in the expert's set"));
  EXPECT_THAT(message({.inputs = 2, .labels = {0, 1}}), testing::HasSubstr("expected 4 labels"));
  EXPECT_THROW(combine({.classes = 4, .sets = {{0, 1}, {2, 3}}}, {.inputs = 1, .probabilities = {1, 0, 1, 0}}), Error);
  EXPECT_THROW(parse_rule("fast"), Error);
}

TEST(Temperature, FindsTheExponentThatWasApplied) {
  Random random(8);
  const int64_t inputs = 20000;
  std::vector<float> probabilities;
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < inputs; ++i) {
    double p[3], total = 0;
    for (double& value : p) total += value = std::exp(random.normal());
    double at = random.uniform() * total;
    int32_t label = 0;
    while (label < 2 && (at -= p[label]) > 0) ++label;
    labels.push_back(label);
    for (const double value : p) probabilities.push_back(static_cast<float>(value / total));
  }
  std::vector<float> sharp = probabilities;
  apply_temperature(sharp, 3, 0.4);
  EXPECT_NEAR(fit_temperature(sharp, 3, labels), 2.5, 0.15);
  EXPECT_NEAR(fit_temperature(probabilities, 3, labels), 1.0, 0.06);
}

}  // namespace
}  // namespace tessera::experts
