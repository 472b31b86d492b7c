#include "experts/labeler_pass.h"

#include <cmath>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "experts/labeler_pass.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// Not before foreach_target.h:
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::experts::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, kLabelerStep>;

// Least difference of logarithms that is told from certainty.
constexpr float kLeast = -80.0F;

// Sums of the table's rows for classes at..at + kLabelerStep - 1, four answers side by side so that additions overlap.
void add_rows(const LabelerPass& pass, const int32_t* first, const int32_t* last, size_t at, float* out) {
  const D d;
  const float* table = pass.log_table + at;
  for (size_t v = 0; v < kLabelerStep; v += hn::Lanes(d)) {
    auto a = hn::LoadU(d, pass.log_share + at + v);
    auto b = hn::Zero(d), c = hn::Zero(d), e = hn::Zero(d);
    const int32_t* k = first;
    const auto row = [&](int32_t column) {
      return hn::LoadU(d, table + static_cast<size_t>(column) * pass.stride + v);
    };
    for (; last - k >= 4; k += 4) {
      a = hn::Add(a, row(k[0])), b = hn::Add(b, row(k[1]));
      c = hn::Add(c, row(k[2])), e = hn::Add(e, row(k[3]));
    }
    for (; k < last; ++k) a = hn::Add(a, row(*k));
    hn::StoreU(hn::Add(hn::Add(a, b), hn::Add(c, e)), d, out + at + v);
  }
}

// Logarithms to probabilities, in place; returns the log of the sum of their exponentials.
double normalise(float* p, size_t stride) {
  const D d;
  auto top = hn::LoadU(d, p);
  for (size_t y = 0; y < stride; y += hn::Lanes(d)) top = hn::Max(top, hn::LoadU(d, p + y));
  top = hn::MaxOfLanes(d, top);
  auto sum = hn::Zero(d);
  for (size_t y = 0; y < stride; y += hn::Lanes(d)) {
    const auto value = hn::Exp(d, hn::Max(hn::Sub(hn::LoadU(d, p + y), top), hn::Set(d, kLeast)));
    hn::StoreU(value, d, p + y);
    sum = hn::Add(sum, value);
  }
  sum = hn::SumOfLanes(d, sum);
  const auto factor = hn::Div(hn::Set(d, 1.0F), sum);
  for (size_t y = 0; y < stride; y += hn::Lanes(d)) hn::StoreU(hn::Mul(hn::LoadU(d, p + y), factor), d, p + y);
  return static_cast<double>(hn::GetLane(top)) + std::log(static_cast<double>(hn::GetLane(sum)));
}

void add(const float* p, size_t stride, float* to) {
  const D d;
  for (size_t y = 0; y < stride; y += hn::Lanes(d)) {
    hn::StoreU(hn::Add(hn::LoadU(d, to + y), hn::LoadU(d, p + y)), d, to + y);
  }
}

double run(const LabelerPass& pass, int64_t begin, int64_t end, float* counts, float* share, float* posterior) {
  std::vector<float> own(pass.stride);
  double likelihood = 0;
  for (int64_t i = begin; i < end; ++i) {
    float* p = posterior != nullptr ? posterior + static_cast<size_t>(i - begin) * pass.stride : own.data();
    const int32_t* first = pass.answers + pass.row_begin[i];
    const int32_t* last = pass.answers + pass.row_begin[i + 1];
    for (size_t at = 0; at < pass.stride; at += kLabelerStep) add_rows(pass, first, last, at, p);
    likelihood += normalise(p, pass.stride);
    if (counts == nullptr) continue;
    add(p, pass.stride, share);
    for (const int32_t* k = first; k < last; ++k) {
      add(p, pass.stride, counts + static_cast<size_t>(*k) * pass.stride);
    }
  }
  return likelihood;
}

}  // namespace
}  // namespace tessera::experts::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera::experts {
namespace {
HWY_EXPORT(run);
}  // namespace

double labeler_pass(const LabelerPass& pass, int64_t begin, int64_t end, float* counts, float* share,
                    float* posterior) {
  return HWY_DYNAMIC_DISPATCH(run)(pass, begin, end, counts, share, posterior);
}

}  // namespace tessera::experts
#endif  // HWY_ONCE
