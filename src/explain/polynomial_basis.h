// The basis of the published local fit: all monomials of the continuous features up to a degree, one 0/1 column per
// category other than the baseline, and each of those times every monomial of degree 1 to degree - 1. Raw units, not
// centred.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tessera/explain/explain.h"

namespace tessera::explain {

class PolynomialBasis {
 public:
  // dropped[j]: level without a column for categorical feature j (ignored for continuous ones).
  PolynomialBasis(const std::vector<Feature>& features, int degree, std::span<const int64_t> dropped);

  int64_t size() const { return size_; }

  // Basis of one row of feature values into out[size()].
  void evaluate(std::span<const double> row, double* out) const;

  // Partial derivative with respect to continuous feature `feature` into out[size()].
  void derivative(std::span<const double> row, int64_t feature, double* out) const;

  // Number of basis functions without building any: for limits.
  static double count(int64_t continuous, int64_t dummies, int degree);

 private:
  struct Dummy {
    int64_t feature;
    double level;
  };
  void monomials(std::span<const double> row, double* out) const;

  std::vector<int64_t> continuous_;  // feature numbers
  // Monomial i > 0 is monomial parent_[i] times continuous feature factor_[i]; monomial 0 is 1. Ordered by degree.
  std::vector<int64_t> parent_;
  std::vector<int64_t> factor_;
  std::vector<std::vector<int>> exponents_;
  int64_t interacting_ = 0;  // monomials of degree 1 to degree - 1 are [1, 1 + interacting_)
  std::vector<Dummy> dummies_;
  int64_t size_ = 0;
};

}  // namespace tessera::explain
