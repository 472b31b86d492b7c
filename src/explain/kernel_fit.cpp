#include "explain/kernel_fit.h"

#include <algorithm>
#include <cmath>

#include "explain/lanes.h"

namespace tessera::explain {

const char* to_string(Smoothness smoothness) {
  switch (smoothness) {
    case Smoothness::gaussian:
      return "gaussian";
    case Smoothness::matern52:
      return "matern-5/2";
    case Smoothness::matern32:
      return "matern-3/2";
    case Smoothness::exponential:
      return "exponential";
  }
  return "";
}

double correlation(Smoothness smoothness, double r2) {
  switch (smoothness) {
    case Smoothness::gaussian:
      return std::exp(-0.5 * r2);
    case Smoothness::matern52: {
      const double s = std::sqrt(5 * r2);
      return (1 + s + s * s / 3) * std::exp(-s);
    }
    case Smoothness::matern32: {
      const double s = std::sqrt(3 * r2);
      return (1 + s) * std::exp(-s);
    }
    case Smoothness::exponential:
      return std::exp(-std::sqrt(r2));
  }
  return 0;
}

double correlation_slope(Smoothness smoothness, double r2) {
  switch (smoothness) {
    case Smoothness::gaussian:
      return std::exp(-0.5 * r2);
    case Smoothness::matern52: {
      const double s = std::sqrt(5 * r2);
      return 5.0 / 3 * (1 + s) * std::exp(-s);
    }
    case Smoothness::matern32:
      return 3 * std::exp(-std::sqrt(3 * r2));
    case Smoothness::exponential:
      return r2 > 0 ? std::exp(-std::sqrt(r2)) / std::sqrt(r2) : 0;
  }
  return 0;
}

double KernelFit::distance2(const double* a, const double* b) const {
  double sum = 0;
  for (int64_t j = 0; j < rows_.continuous; ++j) {
    const double difference = (a[j] - b[j]) / kernel_.length[static_cast<size_t>(j)];
    sum += difference * difference;
  }
  for (int64_t j = 0; j < rows_.categorical; ++j) {
    if (a[rows_.continuous + j] != b[rows_.continuous + j]) sum += kernel_.penalty[static_cast<size_t>(j)];
  }
  return sum;
}

KernelFit::KernelFit(const Kernel& kernel, const Points& rows, const Eigen::VectorXd& output, double signal_variance)
    : kernel_(kernel), rows_(rows) {
  const int64_t count = rows_.values.cols();
  if (count == 0) return;
  rows_.values.rowwise().reverseInPlace();  // farthest first
  const Eigen::VectorXd reversed = output.reverse();
  const auto continuous = rows_.values.topRows(rows_.continuous);
  centre_ = continuous.rowwise().mean();
  scale_ = (continuous.colwise() - centre_).rowwise().norm() / std::sqrt(static_cast<double>(count));
  int64_t varying = 0;
  for (int64_t j = 0; j < scale_.size(); ++j) varying += scale_[j] > 0 ? 1 : 0;
  if (count >= 6 * (1 + varying)) terms_ = 1 + rows_.continuous;
  factor_.resize(count, count);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < i; ++j) {
      factor_(i, j) =
          correlation(kernel_.smoothness, distance2(rows_.values.col(i).data(), rows_.values.col(j).data()));
    }
    factor_(i, i) = 1 + kernel_.nugget;
  }
  if (!lanes().cholesky(factor_.data(), count, count)) return;
  const auto lower = factor_.triangularView<Eigen::Lower>();
  Eigen::MatrixXd trend(count, terms_);
  for (int64_t i = 0; i < count; ++i) trend.row(i) = trend_at(rows_.values.col(i)).transpose();
  white_trend_ = lower.solve(trend);
  const Eigen::VectorXd white = lower.solve(reversed);
  Eigen::MatrixXd gram = white_trend_.transpose() * white_trend_;
  // A feature that does not vary has no slope: a tiny ridge keeps its coefficient at zero.
  gram.diagonal().array() += 1e-12 * gram.diagonal().mean();
  trend_gram_.compute(gram);
  if (trend_gram_.info() != Eigen::Success) return;
  trend_coefficient_ = trend_gram_.solve(white_trend_.transpose() * white);
  white_output_ = white - white_trend_ * trend_coefficient_;
  freedom_ = std::max<double>(1, static_cast<double>(count - terms_));
  profiled_ = white_output_.squaredNorm() / freedom_;
  variance_ = signal_variance > 0 ? signal_variance : profiled_;
  valid_ = std::isfinite(variance_);
}

Eigen::VectorXd KernelFit::trend_at(const Eigen::VectorXd& point) const {
  Eigen::VectorXd trend(terms_);
  trend[0] = 1;
  for (int64_t j = 1; j < terms_; ++j)
    trend[j] = scale_[j - 1] > 0 ? (point[j - 1] - centre_[j - 1]) / scale_[j - 1] : 0;
  return trend;
}

Functional KernelFit::value_at(const Eigen::VectorXd& point) const {
  Functional functional;
  functional.covariance.resize(rows_.values.cols());
  for (int64_t i = 0; i < rows_.values.cols(); ++i) {
    functional.covariance[i] = correlation(kernel_.smoothness, distance2(point.data(), rows_.values.col(i).data()));
  }
  functional.trend = trend_at(point);
  return functional;
}

Functional KernelFit::slope_at(const Eigen::VectorXd& point, int64_t continuous) const {
  Functional functional;
  const double length = kernel_.length[static_cast<size_t>(continuous)];
  functional.covariance.resize(rows_.values.cols());
  for (int64_t i = 0; i < rows_.values.cols(); ++i) {
    const double slope = correlation_slope(kernel_.smoothness, distance2(point.data(), rows_.values.col(i).data()));
    functional.covariance[i] = -(point[continuous] - rows_.values(continuous, i)) / (length * length) * slope;
  }
  functional.trend = Eigen::VectorXd::Zero(terms_);
  if (terms_ > 1 && scale_[continuous] > 0) functional.trend[1 + continuous] = 1 / scale_[continuous];
  functional.variance = correlation_slope(kernel_.smoothness, 0) / (length * length);
  return functional;
}

Functional KernelFit::difference(const Eigen::VectorXd& plus, const Eigen::VectorXd& minus) const {
  Functional functional = value_at(plus);
  const Functional other = value_at(minus);
  functional.covariance -= other.covariance;
  functional.trend -= other.trend;
  functional.variance = 2 * (1 - correlation(kernel_.smoothness, distance2(plus.data(), minus.data())));
  return functional;
}

Estimate KernelFit::estimate(const Functional& functional) const {
  const Eigen::VectorXd white = factor_.triangularView<Eigen::Lower>().solve(functional.covariance);
  const Eigen::VectorXd rest = functional.trend - white_trend_.transpose() * white;
  const double variance = functional.variance - white.squaredNorm() + rest.dot(trend_gram_.solve(rest));
  // Rounding leaves about 1e-14 of the prior variance.
  const double floor = 1e-13 * functional.variance;
  return {functional.trend.dot(trend_coefficient_) + white.dot(white_output_),
          std::sqrt(variance_ * std::max(variance, floor))};
}

Eigen::VectorXd KernelFit::unit(int64_t row) const {
  const int64_t at = rows_.values.cols() - 1 - row;
  const int64_t size = row + 1;
  Eigen::VectorXd white = Eigen::VectorXd::Zero(rows_.values.cols());
  white[at] = 1;
  auto tail = white.tail(size);
  factor_.bottomRightCorner(size, size).triangularView<Eigen::Lower>().solveInPlace(tail);
  return white;
}

double KernelFit::projected(const Eigen::VectorXd& a, const Eigen::VectorXd& b) const {
  return a.dot(b) - (white_trend_.transpose() * a).dot(trend_gram_.solve(white_trend_.transpose() * b));
}

Estimate KernelFit::left_out(int64_t index) const {
  const Eigen::VectorXd white = unit(index);
  const double precision = projected(white, white);
  const double noise = kernel_.exact_outputs ? kernel_.nugget : 0;
  return {white.dot(white_output_) / precision,
          std::sqrt(variance_ * std::max(1 / precision - noise, 0.01 / precision))};
}

Estimate KernelFit::pair_left_out(int64_t a, int64_t b) const {
  const Eigen::VectorXd first = unit(a), second = unit(b);
  Eigen::Matrix2d inner;
  inner << projected(first, first), projected(first, second), projected(first, second), projected(second, second);
  const Eigen::Matrix2d inverse = inner.inverse();
  const Eigen::Vector2d error = inverse * Eigen::Vector2d(first.dot(white_output_), second.dot(white_output_));
  const double noise = kernel_.exact_outputs ? 2 * kernel_.nugget : 0;
  const double spread = std::max(inverse(0, 0) + inverse(1, 1) - 2 * inverse(0, 1), 0.0);
  return {error[0] - error[1], std::sqrt(variance_ * std::max(spread - noise, 0.01 * spread))};
}

double KernelFit::deviance() const {
  const double variance = std::max(variance_, 1e-300);
  return 0.5 * freedom_ * (std::log(variance) + profiled_ / variance - 1) + factor_.diagonal().array().log().sum() +
         static_cast<Eigen::MatrixXd>(trend_gram_.matrixL()).diagonal().array().log().sum();
}

double KernelFit::nugget_error() const { return std::sqrt(variance_ * kernel_.nugget); }

double KernelFit::degrees_of_freedom() const {
  // trace of the smoother: rows - nugget * trace(P)
  double trace = 0;
  for (int64_t i = 0; i < rows_.values.cols(); ++i) {
    const Eigen::VectorXd white = unit(i);
    trace += projected(white, white);
  }
  return static_cast<double>(rows_.values.cols()) - kernel_.nugget * trace;
}

}  // namespace tessera::explain
