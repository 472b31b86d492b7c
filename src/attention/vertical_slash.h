// Parts of vertical-slash that tests and `auto` use.
#pragma once

#include <vector>

#include "tessera/attention/attention.h"

namespace tessera::attention {

// Softmax mass of the probe rows of one query head; each vector sums to the number of probe rows.
struct LineMass {
  std::vector<float> columns;    // [key rows]
  std::vector<float> diagonals;  // [key rows], by distance from the own row
};

// [query_heads], from the last `probe_rows` query rows.
std::vector<LineMass> line_masses(const AttentionInput& input, int64_t probe_rows, ThreadPool& pool);

}  // namespace tessera::attention
