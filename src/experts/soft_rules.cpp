#include "experts/soft_rules.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "experts/soft_rules.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// Not before foreach_target.h:
#include "hwy/aligned_allocator.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::experts::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Least probability a rule works with, so that every chain of classes stays connected.
constexpr double kFloor = 1e-9;
// Up to this many classes balance is solved by elimination, above by iteration.
constexpr int32_t kDirectClasses = 64;
constexpr int kMaxSteps = 5000;

// One tile: as many inputs as a vector has lanes. Every array is [index][lane].
template <typename T>
struct Tile {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;

  explicit Tile(const SoftProblem& problem, size_t scratch)
      : q(problem),
        lanes(hn::Lanes(d)),
        buffer(hwy::AllocateAligned<T>(lanes * (static_cast<size_t>(q.columns) + static_cast<size_t>(q.experts) +
                                                static_cast<size_t>(q.classes) + scratch))),
        p(buffer.get()),
        gate(p + lanes * static_cast<size_t>(q.columns)),
        pi(gate + lanes * static_cast<size_t>(q.experts)),
        work(pi + lanes * static_cast<size_t>(q.classes)) {}

  V at(const T* array, size_t index) const { return hn::Load(d, array + index * lanes); }
  void put(T* array, size_t index, V value) const { hn::Store(value, d, array + index * lanes); }
  void add(T* array, size_t index, V value) const { put(array, index, hn::Add(at(array, index), value)); }
  V set(double value) const { return hn::Set(d, static_cast<T>(value)); }

  void load(int64_t begin, int64_t end) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      const int64_t input = std::min(begin + static_cast<int64_t>(lane), end - 1);
      const float* row = q.probabilities + input * q.columns;
      for (size_t c = 0; c < static_cast<size_t>(q.columns); ++c) p[c * lanes + lane] = static_cast<T>(row[c]);
      for (size_t j = 0; j < static_cast<size_t>(q.experts); ++j) {
        gate[j * lanes + lane] =
            q.gate == nullptr ? T{1} : static_cast<T>(q.gate[input * q.experts + static_cast<int64_t>(j)]);
      }
    }
  }

  void normalise() {
    V total = hn::Zero(d);
    for (size_t i = 0; i < static_cast<size_t>(q.classes); ++i) total = hn::Add(total, at(pi, i));
    const V factor = hn::Div(set(1), total);
    for (size_t i = 0; i < static_cast<size_t>(q.classes); ++i) put(pi, i, hn::Mul(at(pi, i), factor));
  }

  void store(int64_t begin, int64_t end) const {
    for (size_t lane = 0; lane < lanes && begin + static_cast<int64_t>(lane) < end; ++lane) {
      float* row = q.result + (begin + static_cast<int64_t>(lane)) * q.classes;
      for (size_t i = 0; i < static_cast<size_t>(q.classes); ++i) row[i] = static_cast<float>(pi[i * lanes + lane]);
    }
  }

  // Gate times floored probability.
  V weight(size_t j) const { return at(gate, j); }
  V floored(size_t column) const { return hn::Add(at(p, column), set(kFloor)); }

  const D d = D();
  const SoftProblem& q;
  const size_t lanes;
  hwy::AlignedFreeUniquePtr<T[]> buffer;
  T *p, *gate, *pi, *work;  // [columns], [experts], [classes], [scratch]
};

template <typename T>
void zero(const Tile<T>& t, T* array, size_t count) {
  std::fill(array, array + count * t.lanes, T{0});
}

// pi_i = sum_j w_j p_j(i) / sum_j w_j over the sets of i. Scratch: [classes].
void soft_sum(Tile<float>& t) {
  const auto classes = static_cast<size_t>(t.q.classes);
  zero(t, t.pi, classes);
  zero(t, t.work, classes);
  for (size_t j = 0; j < static_cast<size_t>(t.q.experts); ++j) {
    const auto w = t.weight(j);
    for (auto c = static_cast<size_t>(t.q.offset[j]); c < static_cast<size_t>(t.q.offset[j + 1]); ++c) {
      const auto i = static_cast<size_t>(t.q.member[c]);
      t.add(t.pi, i, hn::Mul(w, t.floored(c)));
      t.add(t.work, i, w);
    }
  }
  for (size_t i = 0; i < classes; ++i) {
    t.put(t.pi, i, hn::Div(t.at(t.pi, i), hn::Max(t.at(t.work, i), t.set(kFloor))));
  }
  t.normalise();
}

// s = L^+ b, b_i = sum_j (R_j log p_j(i) - sum_l log p_j(l)); pi = softmax(s). Scratch: [classes].
void log_linear(Tile<float>& t) {
  const auto classes = static_cast<size_t>(t.q.classes);
  zero(t, t.work, classes);
  for (size_t j = 0; j < static_cast<size_t>(t.q.experts); ++j) {
    const auto begin = static_cast<size_t>(t.q.offset[j]), end = static_cast<size_t>(t.q.offset[j + 1]);
    auto sum = hn::Zero(t.d);
    for (size_t c = begin; c < end; ++c) {
      const auto value = hn::Log(t.d, t.floored(c));
      t.put(t.p, c, value);
      sum = hn::Add(sum, value);
    }
    const auto size = t.set(static_cast<double>(end - begin));
    for (size_t c = begin; c < end; ++c) {
      t.add(t.work, static_cast<size_t>(t.q.member[c]), hn::MulSub(size, t.at(t.p, c), sum));
    }
  }
  auto top = t.set(-1e30);
  for (size_t i = 0; i < classes; ++i) {
    auto s = hn::Zero(t.d);
    for (size_t l = 0; l < classes; ++l) {
      s = hn::MulAdd(hn::Set(t.d, t.q.inverse[i * classes + l]), t.at(t.work, l), s);
    }
    t.put(t.pi, i, s);
    top = hn::Max(top, s);
  }
  for (size_t i = 0; i < classes; ++i) {
    t.put(t.pi, i, hn::Exp(t.d, hn::Max(hn::Sub(t.at(t.pi, i), top), t.set(-80))));
  }
  t.normalise();
}

template <typename T>
hn::Vec<hn::ScalableTag<T>> mass_of_set(const Tile<T>& t, size_t j) {
  auto sum = hn::Zero(t.d);
  for (auto c = static_cast<size_t>(t.q.offset[j]); c < static_cast<size_t>(t.q.offset[j + 1]); ++c) {
    sum = hn::Add(sum, t.at(t.pi, static_cast<size_t>(t.q.member[c])));
  }
  return sum;
}

// MM steps pi_i <- w_i / sum_{j has i} 1 / pi(S_j), w_i = sum_j p_j(i). Scratch: [2 classes].
void bradley_terry(Tile<float>& t) {
  const auto classes = static_cast<size_t>(t.q.classes);
  float* wins = t.work;
  float* denominator = t.work + classes * t.lanes;
  zero(t, wins, classes);
  for (size_t c = 0; c < static_cast<size_t>(t.q.columns); ++c) {
    t.add(wins, static_cast<size_t>(t.q.member[c]), t.floored(c));
  }
  for (size_t i = 0; i < classes; ++i) t.put(t.pi, i, t.set(1.0 / static_cast<double>(classes)));
  for (int step = 0; step < t.q.steps; ++step) {
    zero(t, denominator, classes);
    for (size_t j = 0; j < static_cast<size_t>(t.q.experts); ++j) {
      const auto inverse = hn::Div(t.set(1), hn::Max(mass_of_set(t, j), t.set(1e-30)));
      for (auto c = static_cast<size_t>(t.q.offset[j]); c < static_cast<size_t>(t.q.offset[j + 1]); ++c) {
        t.add(denominator, static_cast<size_t>(t.q.member[c]), inverse);
      }
    }
    for (size_t i = 0; i < classes; ++i) t.put(t.pi, i, hn::Div(t.at(wins, i), t.at(denominator, i)));
    t.normalise();
  }
}

// The chain's law by elimination without subtraction (Grassmann, Taksar, Heyman 1985), exact to rounding in every
// component. Scratch: [classes^2].
void balance_direct(Tile<float>& t) {
  const auto classes = static_cast<size_t>(t.q.classes);
  float* rate = t.work;  // [from, to]; the diagonal is not used
  zero(t, rate, classes * classes);
  for (size_t j = 0; j < static_cast<size_t>(t.q.experts); ++j) {
    const auto begin = static_cast<size_t>(t.q.offset[j]), end = static_cast<size_t>(t.q.offset[j + 1]);
    const auto w = hn::Max(t.weight(j), t.set(kFloor));
    for (size_t to = begin; to < end; ++to) {
      const auto flow = hn::Mul(w, t.floored(to));
      for (size_t from = begin; from < end; ++from) {
        t.add(rate, static_cast<size_t>(t.q.member[from]) * classes + static_cast<size_t>(t.q.member[to]), flow);
      }
    }
  }
  for (size_t n = classes - 1; n > 0; --n) {
    auto out = hn::Zero(t.d);
    for (size_t k = 0; k < n; ++k) out = hn::Add(out, t.at(rate, n * classes + k));
    const auto inverse = hn::Div(t.set(1), out);
    for (size_t i = 0; i < n; ++i) {
      const auto share = hn::Mul(t.at(rate, i * classes + n), inverse);
      t.put(rate, i * classes + n, share);
      for (size_t k = 0; k < n; ++k) {
        t.put(rate, i * classes + k, hn::MulAdd(share, t.at(rate, n * classes + k), t.at(rate, i * classes + k)));
      }
    }
  }
  t.put(t.pi, 0, t.set(1));
  for (size_t n = 1; n < classes; ++n) {
    auto sum = hn::Zero(t.d);
    for (size_t i = 0; i < n; ++i) sum = hn::MulAdd(t.at(t.pi, i), t.at(rate, i * classes + n), sum);
    t.put(t.pi, n, sum);
  }
  t.normalise();
}

// The same by steps of the jump chain, pi_i <- sum_{j has i} w_j p_j(i) pi(S_j) / sum_{j has i} w_j. Scratch: [2
// classes].
void balance_steps(Tile<float>& t) {
  const auto classes = static_cast<size_t>(t.q.classes);
  float* next = t.work;
  float* degree = t.work + classes * t.lanes;
  zero(t, degree, classes);
  for (size_t c = 0, j = 0; c < static_cast<size_t>(t.q.columns); ++c) {
    while (c >= static_cast<size_t>(t.q.offset[j + 1])) ++j;
    t.add(degree, static_cast<size_t>(t.q.member[c]), hn::Max(t.weight(j), t.set(kFloor)));
  }
  for (size_t i = 0; i < classes; ++i) t.put(t.pi, i, t.set(1.0 / static_cast<double>(classes)));
  for (int step = 0; step < kMaxSteps; ++step) {
    zero(t, next, classes);
    for (size_t j = 0; j < static_cast<size_t>(t.q.experts); ++j) {
      const auto mass = hn::Mul(mass_of_set(t, j), hn::Max(t.weight(j), t.set(kFloor)));
      for (auto c = static_cast<size_t>(t.q.offset[j]); c < static_cast<size_t>(t.q.offset[j + 1]); ++c) {
        const auto i = static_cast<size_t>(t.q.member[c]);
        t.put(next, i, hn::MulAdd(t.floored(c), mass, t.at(next, i)));
      }
    }
    auto change = hn::Zero(t.d);
    for (size_t i = 0; i < classes; ++i) {
      const auto value = hn::Div(t.at(next, i), t.at(degree, i));
      change = hn::Max(change, hn::Abs(hn::Sub(value, t.at(t.pi, i))));
      t.put(t.pi, i, value);
    }
    t.normalise();
    if (hn::AllTrue(t.d, hn::Lt(change, t.set(1e-7)))) return;
  }
}

// In-place Cholesky of the packed lower triangle, then x = Q^-1 1 into pi.
void solve_for_ones(Tile<double>& t, double* matrix) {
  const auto classes = static_cast<size_t>(t.q.classes);
  const auto row = [](size_t i) { return i * (i + 1) / 2; };
  for (size_t i = 0; i < classes; ++i) {
    for (size_t k = 0; k <= i; ++k) {
      auto sum = t.at(matrix, row(i) + k);
      for (size_t l = 0; l < k; ++l) sum = hn::NegMulAdd(t.at(matrix, row(i) + l), t.at(matrix, row(k) + l), sum);
      // Diagonal entries hold the reciprocal of the factor's.
      t.put(matrix, row(i) + k,
            k == i ? hn::Div(t.set(1), hn::Sqrt(hn::Max(sum, t.set(kQuadraticRidge * 1e-3))))
                   : hn::Mul(sum, t.at(matrix, row(k) + k)));
    }
    auto value = t.set(1);
    for (size_t l = 0; l < i; ++l) value = hn::NegMulAdd(t.at(matrix, row(i) + l), t.at(t.pi, l), value);
    t.put(t.pi, i, hn::Mul(value, t.at(matrix, row(i) + i)));
  }
  for (size_t i = classes; i-- > 0;) {
    const auto value = hn::Mul(t.at(t.pi, i), t.at(matrix, row(i) + i));
    t.put(t.pi, i, value);
    for (size_t l = 0; l < i; ++l) {
      t.put(t.pi, l, hn::NegMulAdd(t.at(matrix, row(i) + l), value, t.at(t.pi, l)));
    }
  }
}

// min pi' Q pi, sum pi = 1: pi is proportional to Q^-1 1; negative components are clipped. Scratch: the packed
// triangle.
void quadratic(Tile<double>& t) {
  const auto classes = static_cast<size_t>(t.q.classes);
  double* matrix = t.work;
  zero(t, matrix, classes * (classes + 1) / 2);
  for (size_t j = 0; j < static_cast<size_t>(t.q.experts); ++j) {
    const auto begin = static_cast<size_t>(t.q.offset[j]), end = static_cast<size_t>(t.q.offset[j + 1]);
    auto square = hn::Zero(t.d);
    for (size_t c = begin; c < end; ++c) square = hn::MulAdd(t.at(t.p, c), t.at(t.p, c), square);
    const auto w = t.weight(j);
    for (size_t a = begin; a < end; ++a) {
      const auto i = static_cast<size_t>(t.q.member[a]);
      const auto base = hn::Sub(square, t.at(t.p, a));
      for (size_t b = begin; b < a; ++b) {
        t.add(matrix, i * (i + 1) / 2 + static_cast<size_t>(t.q.member[b]), hn::Mul(w, hn::Sub(base, t.at(t.p, b))));
      }
      t.add(matrix, i * (i + 1) / 2 + i, hn::Mul(w, hn::Add(hn::Sub(base, t.at(t.p, a)), t.set(1))));
    }
  }
  for (size_t i = 0; i < classes; ++i) t.add(matrix, i * (i + 1) / 2 + i, t.set(kQuadraticRidge));
  solve_for_ones(t, matrix);
  for (size_t i = 0; i < classes; ++i) t.put(t.pi, i, hn::Max(t.at(t.pi, i), hn::Zero(t.d)));
  t.normalise();
}

template <typename T, typename Kernel>
void for_each_tile(const SoftProblem& problem, int64_t begin, int64_t end, size_t scratch, Kernel kernel) {
  Tile<T> tile(problem, scratch);
  for (int64_t at = begin; at < end; at += static_cast<int64_t>(tile.lanes)) {
    tile.load(at, end);
    kernel(tile);
    tile.store(at, end);
  }
}

void run(const SoftProblem& problem, int64_t begin, int64_t end) {
  const auto classes = static_cast<size_t>(problem.classes);
  switch (problem.rule) {
    case Rule::soft_sum:
      return for_each_tile<float>(problem, begin, end, classes, soft_sum);
    case Rule::log_linear:
      return for_each_tile<float>(problem, begin, end, classes, log_linear);
    case Rule::bradley_terry:
      return for_each_tile<float>(problem, begin, end, 2 * classes, bradley_terry);
    case Rule::balance:
      if (problem.classes <= kDirectClasses) {
        return for_each_tile<float>(problem, begin, end, classes * classes, balance_direct);
      }
      return for_each_tile<float>(problem, begin, end, 2 * classes, balance_steps);
    default:
      return for_each_tile<double>(problem, begin, end, classes * (classes + 1) / 2, quadratic);
  }
}

}  // namespace
}  // namespace tessera::experts::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera::experts {
namespace {
HWY_EXPORT(run);
}  // namespace

void soft_rule(const SoftProblem& problem, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(run)(problem, begin, end);
}

}  // namespace tessera::experts
#endif  // HWY_ONCE
