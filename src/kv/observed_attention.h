// How much attention the last queries of a prefill pay to each row: the score from which policies choose rows to keep.
#pragma once

#include <vector>

#include "tessera/kv/policy.h"

namespace tessera::kv {

// votes[h][r] = mean over the query heads of KV head h's group, sum over the queries of end.last_queries, of the
// softmax probability of row r. The softmax runs over every row that the query sees (position <= its own); scores are
// scaled by 1 / sqrt(head_dim). f32 in two passes over the keys, O(head_dim) work per (query, row) and no matrix; the
// same bits for any number of threads. Throws Error(invalid_argument) when the queries do not fit the view.
std::vector<std::vector<float>> observed_attention(const LayerView& view, int64_t head_dim, const PrefillEnd& end);

}  // namespace tessera::kv
