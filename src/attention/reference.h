// Scalar fp64 oracle of attention, for tests and for checking new back ends.
#pragma once

#include <functional>

#include "tessera/attention/attention.h"

namespace tessera::attention {

// Whether query head `head` at query row `row` may use key row `key`; causality is applied in addition.
using PairAllowed = std::function<bool(int64_t head, int64_t row, int64_t key)>;

// Softmax attention over the allowed visible pairs, all arithmetic in double on the decoded tiles. O(rows * key rows).
AttentionPartial attend_reference(const AttentionInput& input, const PairAllowed& allowed);

// The pairs that a work list names.
PairAllowed pairs_of(const WorkList& work);

}  // namespace tessera::attention
