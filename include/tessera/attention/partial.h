// Partial attention: attention over a subset of the keys together with its log-sum-exp.
//
// merge(a, b) is exact, associative and commutative, and the empty set is its neutral element; dense, split, sparse,
// shared-prefix, retrieved and off-loaded attention are all built from it.
//
//   lse = log sum_j exp(s_j)     out = sum_j exp(s_j - lse) v_j      over the keys j of the subset
//   merge: lse = log(exp(lse_a) + exp(lse_b)),  out = exp(lse_a - lse) out_a + exp(lse_b - lse) out_b
//
// Source: online softmax (Milakov and Gimelshein, 2018); the merge law as in FlashInfer's attention state.
#pragma once

#include "tessera/tensor/tensor.h"

namespace tessera::attention {

struct AttentionPartial {
  Tensor out;  // [rows, query_heads, head_dim] f32; zeros where the subset is empty
  Tensor lse;  // [rows, query_heads] f32, natural logarithm; -infinity where the subset is empty
};

// The neutral element.
AttentionPartial empty_partial(int64_t rows, int64_t query_heads, int64_t head_dim);

// Shapes must agree (Error(invalid_argument) otherwise).
AttentionPartial merge(const AttentionPartial& a, const AttentionPartial& b);

// a = merge(a, b) without a new allocation.
void merge_into(AttentionPartial& a, const AttentionPartial& b);

}  // namespace tessera::attention
