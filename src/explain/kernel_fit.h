// Kernel regression (Gaussian process with a linear trend) on one set of rows, with everything in closed form:
// functionals of the fit with their standard errors, leave-one-out and leave-pair-out residuals (Rasmussen and Williams
// 2006, chapters 2, 5; derivatives: Solak et al. 2003).
#pragma once

#include <Eigen/Dense>
#include <cstdint>
#include <span>
#include <vector>

namespace tessera::explain {

enum class Smoothness { gaussian, matern52, matern32, exponential };
const char* to_string(Smoothness smoothness);

// Correlation of two points at squared distance r2 (scaled by the lengths below, plus a penalty per category that
// differs).
struct Kernel {
  Smoothness smoothness = Smoothness::gaussian;
  std::vector<double> length;   // per continuous feature, in feature units
  std::vector<double> penalty;  // per categorical feature, added to the squared distance where they differ
  double nugget = 1e-8;         // noise variance over signal variance
  // The nugget stands for what the kernel cannot follow, not for noise: left-out rows are then held to the standard
  // error of the function.
  bool exact_outputs = false;
};

double correlation(Smoothness smoothness, double r2);
// -2 d correlation / d r2: the derivative with respect to x_j is -(x_j - y_j) / length_j^2 times this.
double correlation_slope(Smoothness smoothness, double r2);

// A point: continuous features first, then categorical codes.
struct Points {
  int64_t continuous = 0;
  int64_t categorical = 0;
  Eigen::MatrixXd values;  // [continuous + categorical, points]: one point per column
};

// A linear functional of the unknown function with its prior variance and its trend.
struct Functional {
  Eigen::VectorXd covariance;  // [rows] with every row
  Eigen::VectorXd trend;       // [trend terms]
  double variance = 1;         // prior, in units of the signal variance
};

struct Estimate {
  double value = 0;
  double error = 0;  // standard error by the model, before calibration
};

class KernelFit {
 public:
  // Rows nearest first: the leave-out quantities of the first rows are then nearly free.
  // signal_variance: held fixed; 0: the most likely one.
  KernelFit(const Kernel& kernel, const Points& rows, const Eigen::VectorXd& output, double signal_variance = 0);

  bool valid() const { return valid_; }
  Estimate estimate(const Functional& functional) const;
  Functional value_at(const Eigen::VectorXd& point) const;
  Functional slope_at(const Eigen::VectorXd& point, int64_t continuous) const;
  Functional difference(const Eigen::VectorXd& plus, const Eigen::VectorXd& minus) const;

  // Row `index` left out: error of its predicted output, and the standard error that the model gives it (noise
  // included).
  Estimate left_out(int64_t index) const;
  // Rows a and b left out together: the same of the predicted difference a - b.
  Estimate pair_left_out(int64_t a, int64_t b) const;
  // Minus log likelihood, at the fixed signal variance or with that profiled out.
  double deviance() const;
  double signal_variance() const { return variance_; }
  int64_t rows() const { return rows_.values.cols(); }
  double freedom() const { return freedom_; }  // rows less trend terms
  double nugget_error() const;                 // noise standard deviation
  double degrees_of_freedom() const;

 private:
  double distance2(const double* a, const double* b) const;
  Eigen::VectorXd trend_at(const Eigen::VectorXd& point) const;
  Eigen::VectorXd unit(int64_t row) const;                                     // L^-1 e_row, in factor order
  double projected(const Eigen::VectorXd& a, const Eigen::VectorXd& b) const;  // a' P b

  Kernel kernel_;
  Points rows_;
  Eigen::VectorXd centre_;  // of the trend
  Eigen::VectorXd scale_;
  int64_t terms_ = 1;
  using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  RowMatrix factor_;              // Cholesky, farthest row first
  Eigen::VectorXd white_output_;  // L^-1 (y - trend)
  Eigen::MatrixXd white_trend_;   // L^-1 H
  Eigen::LLT<Eigen::MatrixXd> trend_gram_;
  Eigen::VectorXd trend_coefficient_;
  double variance_ = 0;
  double freedom_ = 1;
  double profiled_ = 0;  // most likely signal variance
  bool valid_ = false;
};

}  // namespace tessera::explain
