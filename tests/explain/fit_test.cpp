// Bootstrap refits in closed form against refits from scratch, on every instruction set.
#include <gtest/gtest.h>

#include <Eigen/Dense>

#include "explain/lanes.h"
#include "explain/published_fit.h"
#include "tessera/base/random.h"

namespace tessera::explain {
namespace {

PublishedProblem random_problem(int64_t rows, int64_t parameters, Weights weights, uint64_t seed) {
  Random random(seed);
  PublishedProblem problem;
  problem.design.resize(rows, parameters);
  problem.output.resize(rows);
  problem.distance.resize(rows);
  problem.functionals.resize(3, parameters);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < parameters; ++j) problem.design(i, j) = j == 0 ? 1 : random.normal();
    problem.output[i] = random.normal();
    problem.distance[i] = 0.1 + static_cast<double>(i);
  }
  for (int64_t f = 0; f < 3; ++f) {
    for (int64_t j = 0; j < parameters; ++j) problem.functionals(f, j) = random.normal();
  }
  problem.weights = weights;
  return problem;
}

// The rows a replicate keeps, drawn as replicate() draws them.
std::vector<int64_t> kept_rows(int64_t rows, int64_t kept, uint64_t seed, int64_t index) {
  Random draw = Random(seed).split(static_cast<uint64_t>(index));
  std::vector<int32_t> order(static_cast<size_t>(rows));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  for (int64_t i = 0; i < rows - kept; ++i)
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i + draw.below(rows - i))]);
  std::vector<int64_t> result(order.begin() + (rows - kept), order.end());
  std::sort(result.begin(), result.end());
  return result;
}

Eigen::VectorXd refit(const PublishedProblem& problem, const std::vector<int64_t>& rows) {
  Eigen::MatrixXd design(static_cast<int64_t>(rows.size()), problem.design.cols());
  Eigen::VectorXd output(design.rows());
  const double farthest = problem.distance[rows.back()];
  for (int64_t i = 0; i < design.rows(); ++i) {
    const int64_t row = rows[static_cast<size_t>(i)];
    const double weight = problem.weights == Weights::linear ? farthest - problem.distance[row] : 1;
    design.row(i) = std::sqrt(weight) * problem.design.row(row);
    output[i] = std::sqrt(weight) * problem.output[row];
  }
  // The row of weight zero must not decide the rank.
  const int64_t used = problem.weights == Weights::linear ? design.rows() - 1 : design.rows();
  return problem.functionals *
         design.topRows(used).bdcSvd(Eigen::ComputeThinU | Eigen::ComputeThinV).solve(output.head(used));
}

struct Shape {
  int64_t rows, parameters, kept;
  Weights weights;
};

class ClosedForm : public testing::TestWithParam<Shape> {};

TEST_P(ClosedForm, EqualsARefitOfEveryReplicate) {
  const Shape shape = GetParam();
  const PublishedProblem problem = random_problem(shape.rows, shape.parameters, shape.weights, 5);
  const PublishedFit fit(problem);
  std::vector<int64_t> all(static_cast<size_t>(shape.rows));
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  EXPECT_LT((fit.estimate() - refit(problem, all)).norm(), 1e-8 * (1 + fit.estimate().norm()));
  const RowMatrix replicates = fit.replicate(shape.kept, 37, 9);
  for (int64_t b = 0; b < replicates.cols(); ++b) {
    const Eigen::VectorXd expected = refit(problem, kept_rows(shape.rows, shape.kept, 9, b));
    EXPECT_LT((replicates.col(b) - expected).norm(), 1e-6 * (1 + expected.norm())) << "replicate " << b;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ClosedForm,
                         testing::Values(Shape{30, 5, 27, Weights::linear},  // few deleted: through rows
                                         Shape{40, 4, 20, Weights::linear},  // many deleted: through parameters
                                         Shape{40, 4, 20, Weights::none}, Shape{31, 11, 23, Weights::linear},
                                         Shape{20, 50, 17, Weights::linear},  // more parameters than rows: minimum norm
                                         Shape{20, 50, 17, Weights::none}, Shape{9, 1, 5, Weights::linear}));

// The penalised normal equations of the kept rows.
Eigen::VectorXd penalised_refit(const PublishedProblem& problem, const Ridge& ridge, const std::vector<int64_t>& rows) {
  Eigen::MatrixXd normal = ridge.penalty * Eigen::MatrixXd(ridge.scale.cwiseAbs2().asDiagonal());
  Eigen::VectorXd right = Eigen::VectorXd::Zero(problem.design.cols());
  const double range = problem.distance[rows.back()] - problem.distance[0];
  for (const int64_t row : rows) {
    const double weight =
        problem.weights == Weights::linear ? (problem.distance[rows.back()] - problem.distance[row]) / range : 1;
    normal += weight * problem.design.row(row).transpose() * problem.design.row(row);
    right += weight * problem.output[row] * problem.design.row(row).transpose();
  }
  return problem.functionals * normal.fullPivLu().solve(right);
}

TEST(ClosedForm, RidgeEqualsTheNormalEquationsOfEveryReplicate) {
  for (const Weights weights : {Weights::linear, Weights::none}) {
    PublishedProblem problem = random_problem(20, 30, weights, 6);
    problem.under_determined = UnderDetermined::ridge;
    const PublishedFit fit(problem);
    ASSERT_NE(fit.ridge(), nullptr);
    EXPECT_GT(fit.ridge()->penalty, 0);
    EXPECT_EQ(fit.ridge()->scale[0], 0);  // the constant is free
    EXPECT_LE(fit.rank(), 17);
    const RowMatrix replicates = fit.replicate(15, 20, 9);
    for (int64_t b = 0; b < replicates.cols(); ++b) {
      const Eigen::VectorXd expected = penalised_refit(problem, *fit.ridge(), kept_rows(20, 15, 9, b));
      EXPECT_LT((replicates.col(b) - expected).norm(), 1e-7 * (1 + expected.norm())) << "replicate " << b;
    }
  }
}

TEST(ClosedForm, RidgeGivesWayWhereRowsSuffice) {
  PublishedProblem problem = random_problem(30, 5, Weights::linear, 6);
  const PublishedFit plain(problem);
  problem.under_determined = UnderDetermined::ridge;
  const PublishedFit fit(problem);
  EXPECT_EQ(fit.ridge(), nullptr);
  EXPECT_EQ(fit.estimate(), plain.estimate());
}

TEST(ClosedForm, ScaleOfAReplicateIsItsResidualStandardDeviation) {
  const PublishedProblem problem = random_problem(30, 4, Weights::none, 3);
  const PublishedFit fit(problem);
  std::vector<double> scale;
  (void)fit.replicate(24, 5, 1, &scale);
  for (int64_t b = 0; b < 5; ++b) {
    const std::vector<int64_t> rows = kept_rows(30, 24, 1, b);
    Eigen::MatrixXd design(24, 4);
    Eigen::VectorXd output(24);
    for (int64_t i = 0; i < 24; ++i) {
      design.row(i) = problem.design.row(rows[static_cast<size_t>(i)]);
      output[i] = problem.output[rows[static_cast<size_t>(i)]];
    }
    const Eigen::VectorXd residual = output - design * design.colPivHouseholderQr().solve(output);
    EXPECT_NEAR(scale[static_cast<size_t>(b)], residual.norm() / std::sqrt(20.0), 1e-9);
  }
}

TEST(Lanes, CholeskyMatchesEigenOnOddSizes) {
  for (const Lanes* set : {&baseline_lanes(), avx2_lanes()}) {
    if (set == nullptr) continue;
    for (const int64_t size : {1, 2, 3, 5, 8, 13, 31, 64, 97}) {
      Random random(static_cast<uint64_t>(size));
      RowMatrix factor(size, size);
      for (int64_t i = 0; i < size * size; ++i) factor.data()[i] = random.normal();
      RowMatrix matrix = factor * factor.transpose() + RowMatrix::Identity(size, size);
      const Eigen::MatrixXd expected = Eigen::MatrixXd(matrix).llt().matrixL();
      ASSERT_TRUE(set->cholesky(matrix.data(), size, size)) << set->name;
      const Eigen::MatrixXd found = matrix.triangularView<Eigen::Lower>();
      EXPECT_LT((found - expected).norm(), 1e-10 * expected.norm()) << set->name << " " << size;
    }
    RowMatrix indefinite = -RowMatrix::Identity(3, 3);
    EXPECT_FALSE(set->cholesky(indefinite.data(), 3, 3));
  }
}

TEST(Lanes, DistancesMatchAScalarSumOnOddSizes) {
  for (const Lanes* set : {&baseline_lanes(), avx2_lanes()}) {
    if (set == nullptr) continue;
    for (const int64_t count : {1, 7, 8, 1023}) {
      Random random(1);
      std::vector<float> data(static_cast<size_t>(3 * count));
      for (float& x : data) x = static_cast<float>(random.normal());
      const float* columns[] = {data.data(), data.data() + count, data.data() + 2 * count};
      const float centre[] = {0.1F, -0.2F, 0.3F}, weight[] = {1, 2, 0.5F};
      std::vector<float> out(static_cast<size_t>(count));
      set->distances(columns, centre, weight, 3, count, out.data());
      for (int64_t i = 0; i < count; ++i) {
        double expected = 0;
        for (int j = 0; j < 3; ++j)
          expected += static_cast<double>(weight[j]) * std::pow(static_cast<double>(columns[j][i]) - centre[j], 2);
        EXPECT_NEAR(out[static_cast<size_t>(i)], expected, 1e-5 * (1 + expected));
      }
    }
  }
}

}  // namespace
}  // namespace tessera::explain
