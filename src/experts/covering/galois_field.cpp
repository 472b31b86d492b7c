#include "experts/covering/galois_field.h"

#include "tessera/base/error.h"

namespace tessera::experts {

int prime_of_power(int q) {
  if (q < 2) return 0;
  int p = 2;
  while (p * p <= q && q % p != 0) ++p;
  if (q % p != 0) return q;
  while (q % p == 0) q /= p;
  return q == 1 ? p : 0;
}

GaloisField::GaloisField(int q) : q_(q), p_(prime_of_power(q)) {
  TESSERA_ASSERT(p_ > 0 && q <= 1024);
  const auto cells = static_cast<size_t>(q) * static_cast<size_t>(q);
  sum_.resize(cells);
  product_.resize(cells);
  negative_.resize(static_cast<size_t>(q));
  inverse_.resize(static_cast<size_t>(q));
  for (int a = 0; a < q; ++a) {
    for (int b = 0; b < q; ++b) {
      int sum = 0;
      for (int x = a, y = b, place = 1; place < q; x /= p_, y /= p_, place *= p_) sum += (x % p_ + y % p_) % p_ * place;
      sum_[at(a, b)] = sum;
      if (sum == 0) negative_[static_cast<size_t>(a)] = b;
    }
  }
  if (q == p_) {
    for (int a = 0; a < q; ++a) {
      for (int b = 0; b < q; ++b) {
        product_[at(a, b)] = a * b % q;
        if (product_[at(a, b)] == 1) inverse_[static_cast<size_t>(a)] = b;
      }
    }
    return;
  }
  // x^e = polynomial: the first choice without divisors of zero is irreducible.
  int polynomial = 0;
  while (!fill_products(polynomial)) ++polynomial;
}

// Products modulo x^e - polynomial; false when some product of two nonzero elements is zero.
bool GaloisField::fill_products(int polynomial) {
  std::vector<int> shifted(static_cast<size_t>(q_));  // a * x
  for (int a = 0; a < q_; ++a) {
    const int carry = a / (q_ / p_);  // the digit that leaves at the top
    int value = a % (q_ / p_) * p_;
    for (int i = 0; i < carry; ++i) value = add(value, polynomial);
    shifted[static_cast<size_t>(a)] = value;
  }
  for (int a = 0; a < q_; ++a) {
    for (int b = 0; b < q_; ++b) {
      int product = 0, power = a;
      for (int rest = b; rest > 0; rest /= p_) {
        for (int i = 0; i < rest % p_; ++i) product = add(product, power);
        power = shifted[static_cast<size_t>(power)];
      }
      if (product == 0 && a != 0 && b != 0) return false;
      product_[at(a, b)] = product;
      if (product == 1) inverse_[static_cast<size_t>(a)] = b;
    }
  }
  return true;
}

}  // namespace tessera::experts
