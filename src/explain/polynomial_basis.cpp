#include "explain/polynomial_basis.h"

namespace tessera::explain {

PolynomialBasis::PolynomialBasis(const std::vector<Feature>& features, int degree, std::span<const int64_t> dropped) {
  for (size_t j = 0; j < features.size(); ++j) {
    if (features[j].kind == ColumnKind::continuous) {
      continuous_.push_back(static_cast<int64_t>(j));
      continue;
    }
    for (size_t level = 0; level < features[j].levels.size(); ++level) {
      if (static_cast<int64_t>(level) != dropped[j]) {
        dummies_.push_back({static_cast<int64_t>(j), static_cast<double>(level)});
      }
    }
  }
  const auto count = static_cast<int64_t>(continuous_.size());
  parent_ = {0};
  factor_ = {-1};
  exponents_ = {std::vector<int>(continuous_.size(), 0)};
  size_t begin = 0;
  for (int power = 1; power <= degree; ++power) {
    const size_t end = parent_.size();
    if (power == degree) interacting_ = static_cast<int64_t>(end) - 1;
    for (size_t at = begin; at < end; ++at) {
      // Factors in ascending order, so that every product appears once.
      for (int64_t c = factor_[at] < 0 ? 0 : factor_[at]; c < count; ++c) {
        parent_.push_back(static_cast<int64_t>(at));
        factor_.push_back(c);
        exponents_.push_back(exponents_[at]);
        ++exponents_.back()[static_cast<size_t>(c)];
      }
    }
    begin = end;
  }
  size_ = static_cast<int64_t>(parent_.size() + dummies_.size()) + static_cast<int64_t>(dummies_.size()) * interacting_;
}

double PolynomialBasis::count(int64_t continuous, int64_t dummies, int degree) {
  const auto binomial = [&](int k) {
    double value = 1;
    for (int i = 1; i <= k; ++i) value *= static_cast<double>(continuous + i) / i;
    return value;
  };
  const auto d = static_cast<double>(dummies);
  return binomial(degree) + d + d * (binomial(degree - 1) - 1);
}

void PolynomialBasis::monomials(std::span<const double> row, double* out) const {
  out[0] = 1;
  for (size_t i = 1; i < parent_.size(); ++i) {
    const int64_t feature = continuous_[static_cast<size_t>(factor_[i])];
    out[i] = out[parent_[i]] * row[static_cast<size_t>(feature)];
  }
}

void PolynomialBasis::evaluate(std::span<const double> row, double* out) const {
  monomials(row, out);
  double* next = out + parent_.size();
  for (const Dummy& dummy : dummies_) {
    const double on = row[static_cast<size_t>(dummy.feature)] == dummy.level ? 1 : 0;
    *next++ = on;
    for (int64_t i = 1; i <= interacting_; ++i) *next++ = on * out[i];
  }
}

void PolynomialBasis::derivative(std::span<const double> row, int64_t feature, double* out) const {
  size_t position = 0;
  while (position < continuous_.size() && continuous_[position] != feature) ++position;
  for (size_t i = 0; i < parent_.size(); ++i) {
    double value = exponents_[i][position];
    for (size_t c = 0; c < continuous_.size() && value != 0; ++c) {
      const int power = exponents_[i][c] - (c == position ? 1 : 0);
      for (int k = 0; k < power; ++k) value *= row[static_cast<size_t>(continuous_[c])];
    }
    out[i] = value;
  }
  double* next = out + parent_.size();
  for (const Dummy& dummy : dummies_) {
    const double on = row[static_cast<size_t>(dummy.feature)] == dummy.level ? 1 : 0;
    *next++ = 0;
    for (int64_t i = 1; i <= interacting_; ++i) *next++ = on * out[i];
  }
}

}  // namespace tessera::explain
