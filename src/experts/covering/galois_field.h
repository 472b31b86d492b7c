// The finite field of q = p^e elements, as tables. Elements are 0..q-1, the base-p digits of an element being the
// coefficients of its polynomial; 0 and 1 are the neutral elements.
//
//   GaloisField field(9);
//   field.multiply(a, field.inverse(a));   // 1
#pragma once

#include <cstddef>
#include <vector>

namespace tessera::experts {

// p when q = p^e with p prime and e >= 1, otherwise 0.
int prime_of_power(int q);

class GaloisField {
 public:
  // q a prime power, at most 1024. O(q^2) memory; O(q^2 e) time and a search for an irreducible polynomial.
  explicit GaloisField(int q);

  int order() const { return q_; }
  int add(int a, int b) const { return sum_[at(a, b)]; }
  int multiply(int a, int b) const { return product_[at(a, b)]; }
  int negative(int a) const { return negative_[static_cast<size_t>(a)]; }
  int inverse(int a) const { return inverse_[static_cast<size_t>(a)]; }  // a != 0

 private:
  size_t at(int a, int b) const { return static_cast<size_t>(a) * static_cast<size_t>(q_) + static_cast<size_t>(b); }
  bool fill_products(int polynomial);

  int q_, p_;
  std::vector<int> sum_, product_, negative_, inverse_;
};

}  // namespace tessera::experts
