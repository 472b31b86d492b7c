// The index semantics of MInference's vertical-slash kernel, for compatibility tests and for reading its results.
//
// Source: Jiang et al. 2024 (arXiv 2407.02490), the two-pointer merge that turns columns and diagonals into, per block
// of 64 query rows, disjoint 64-row key blocks that may start anywhere, and the columns outside them. Our work lists
// use aligned tiles instead; whatever this index covers, they cover.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tessera::attention {

struct MinferenceRowBlock {
  std::vector<int64_t> blocks;   // first key of each 64-key block, ascending, disjoint
  std::vector<int64_t> columns;  // keys before, between and outside the blocks, ascending
};

// Row block r covers query rows [64 r, 64 r + 64) of `rows`. columns: ascending; distances: descending, the last one 0.
std::vector<MinferenceRowBlock> minference_index(int64_t rows, std::span<const int32_t> columns,
                                                 std::span<const int32_t> distances);

}  // namespace tessera::attention
