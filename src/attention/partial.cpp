#include "tessera/attention/partial.h"

#include <cmath>
#include <limits>

namespace tessera::attention {

AttentionPartial empty_partial(int64_t rows, int64_t query_heads, int64_t head_dim) {
  AttentionPartial partial{Tensor::zeros(DType::f32, {rows, query_heads, head_dim}),
                           Tensor::empty(DType::f32, {rows, query_heads})};
  std::fill_n(partial.lse.data<float>(), partial.lse.elements(), -std::numeric_limits<float>::infinity());
  return partial;
}

void merge_into(AttentionPartial& a, const AttentionPartial& b) {
  if (a.out.shape() != b.out.shape() || a.lse.shape() != b.lse.shape()) {
    throw Error(ErrorCode::invalid_argument, "merge: expected partials of one shape, found {} and {}",
                a.out.shape().str(), b.out.shape().str());
  }
  const int64_t head_dim = a.out.shape().last();
  float* out_a = a.out.data<float>();
  const float* out_b = b.out.data<float>();
  float* lse_a = a.lse.data<float>();
  const float* lse_b = b.lse.data<float>();
  for (int64_t i = 0; i < a.lse.elements(); ++i) {
    const double top = std::max(lse_a[i], lse_b[i]);
    if (top == -std::numeric_limits<double>::infinity()) continue;  // both empty
    const double weight_a = std::exp(lse_a[i] - top);
    const double weight_b = std::exp(lse_b[i] - top);
    const double total = weight_a + weight_b;
    const auto share_a = static_cast<float>(weight_a / total);
    const auto share_b = static_cast<float>(weight_b / total);
    for (int64_t c = i * head_dim; c < (i + 1) * head_dim; ++c) out_a[c] = share_a * out_a[c] + share_b * out_b[c];
    lse_a[i] = static_cast<float>(top + std::log(total));
  }
}

AttentionPartial merge(const AttentionPartial& a, const AttentionPartial& b) {
  AttentionPartial result{a.out.clone(), a.lse.clone()};
  merge_into(result, b);
  return result;
}

}  // namespace tessera::attention
