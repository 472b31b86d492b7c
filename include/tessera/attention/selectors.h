// The selectors of this build. Sources: MInference (arXiv 2407.02490) for vertical-slash, block-sparse and A-shape;
// SCBench (arXiv 2412.10319) for Tri-shape; docs/attention.md for `auto`.
#pragma once

#include <map>
#include <memory>
#include <utility>

#include "tessera/attention/selector.h"

namespace tessera::attention {

struct AShapeOptions {
  int64_t sinks = 128;    // first rows that every query sees, >= 0 (MInference default)
  int64_t window = 3968;  // most recent rows, the query's own included, >= 1
};
std::unique_ptr<Selector> make_a_shape(const AShapeOptions& options);

struct TriShapeOptions {
  int64_t sinks = 128;
  int64_t window = 3968;
  int64_t last = 128;  // query rows at the end that are computed densely (SCBench table 9)
};
std::unique_ptr<Selector> make_tri_shape(const TriShapeOptions& options);

struct VerticalSlashBudget {
  int64_t vertical = 1000;  // columns kept, sinks included (MInference fallback)
  int64_t slash = 6096;     // diagonals kept, local ones included
};
struct VerticalSlashOptions {
  VerticalSlashBudget budget = {};
  double recall = 0;        // > 0: ignore the fixed budget and choose per head the cheapest tiles and columns whose
                            // probe mass reaches this share, in (0, 1]
  int64_t probe_rows = 64;  // last query rows that are scored against all keys
  int64_t sinks = 30;       // columns always kept
  int64_t local = 100;      // diagonals 0..local-1 always kept
  // Budgets by (layer, query head), for example from an MInference configuration file.
  std::map<std::pair<int, int>, VerticalSlashBudget> per_head = {};
};
std::unique_ptr<Selector> make_vertical_slash(const VerticalSlashOptions& options);

struct BlockSparseOptions {
  int64_t top_k = 100;  // key tiles per query tile; diagonal and first tile are forced in addition to the choice
};
std::unique_ptr<Selector> make_block_sparse(const BlockSparseOptions& options);

struct BlockLseOptions {
  float threshold = 0.01F;  // a tile is kept when its score's exponential is this share of the row's best, in (0, 1]
  int64_t sinks = 30;       // key tiles of the first rows, always kept, >= 0
  int64_t window = 256;     // most recent rows, the query's own included, >= 1
  int64_t last = 0;         // query rows at the end that are computed densely
};
// Key tiles by the log-sum-exp of the scores between means of 16 rows: a stronger signal than the product of two means
// of 64, for the same tiles computed. Cost: (rows / 16)^2 products per head.
std::unique_ptr<Selector> make_block_lse(const BlockLseOptions& options);

struct AutoOptions {
  double recall = 0.95;   // target of vertical-slash above the crossover
  int64_t crossover = 0;  // key rows from which sparse is tried; 0: measured on this machine once per process
};
// Dense below the crossover; above it, per head, vertical-slash with the recall target, or dense where the chosen tiles
// would not be cheaper.
std::unique_ptr<Selector> make_auto(const AutoOptions& options);

}  // namespace tessera::attention
