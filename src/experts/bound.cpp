#include "tessera/experts/bound.h"

#include <algorithm>
#include <array>

namespace tessera::experts {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

void raise(Bound& best, int64_t sets, const char* source) {
  if (sets > best.sets) best = {sets, source};
}

// Schoenheim (1964): each point needs ceil(lambda (v - 1) / (k - 1)) sets, each set holds k points.
int64_t schoenheim(int64_t v, int64_t k, int64_t lambda) { return ceil_div(v * ceil_div(lambda * (v - 1), k - 1), k); }

// Hanani: with equality in both steps one point would carry the whole excess and have too few partners for it.
void hanani(Bound& best, int64_t v, int64_t k, int64_t lambda) {
  if (lambda * (v - 1) % (k - 1) == 0 && (lambda * v * (v - 1) / (k - 1) + 1) % k == 0) {
    raise(best, schoenheim(v, k, lambda) + 1, "Hanani");
  }
}

// Bryant, Buchanan, Horsley, Maenhaut and Scharaschkin (2011): the Gram matrix of the points of least degree r is
// positive definite when their excess d = r (k - 1) - lambda (v - 1) is below r - lambda, so there are at most b of
// them.
void bose_type(Bound& best, int64_t v, int64_t k, int64_t lambda) {
  const int64_t r = ceil_div(lambda * (v - 1), k - 1);
  if (r * (k - 1) - lambda * (v - 1) < r - lambda)
    raise(best, ceil_div(v * (r + 1), k + 1), "Bose-type (Bryant et al.)");
}

// Mills (1979) for b <= 12, Todorov for 13: b sets of share 1 / tau cover at most the share given here.
void few_sets(Bound& best, int64_t v, int64_t k) {
  struct Threshold {
    int64_t sets, numerator, denominator;
  };
  constexpr std::array<Threshold, 11> kTau = {{{3, 3, 2},
                                               {4, 5, 3},
                                               {5, 9, 5},
                                               {6, 2, 1},
                                               {7, 7, 3},
                                               {8, 12, 5},
                                               {9, 5, 2},
                                               {10, 8, 3},
                                               {11, 14, 5},
                                               {12, 3, 1},
                                               {13, 13, 4}}};
  for (const Threshold& tau : kTau) {
    if (v * tau.denominator > tau.numerator * k) raise(best, tau.sets + 1, "few sets (Mills, Todorov)");
  }
}

// Mills (1972, 1973): the only sizes at which sets of four need more than Schoenheim's number.
void sets_of_four(Bound& best, int64_t v) {
  if (v == 7 || v == 9 || v == 10) raise(best, schoenheim(v, 4, 1) + 1, "Mills, sets of four");
  if (v == 19) raise(best, schoenheim(v, 4, 1) + 2, "Mills, sets of four");
}

}  // namespace

Bound lower_bound(int classes, int size, int lambda) {
  const int64_t v = classes, k = std::min(classes, size);
  if (v == 1) return {0, "no pairs"};
  if (k >= v) return {lambda, "every set has all classes"};
  Bound best = {schoenheim(v, k, lambda), "Schoenheim"};
  hanani(best, v, k, lambda);
  bose_type(best, v, k, lambda);
  if (lambda == 1) {
    few_sets(best, v, k);
    if (k == 4) sets_of_four(best, v);
  }
  return best;
}

}  // namespace tessera::experts
