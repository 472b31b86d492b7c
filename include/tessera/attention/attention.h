// Causal attention of a block of queries over the rows of a key/value cache: dense, and by work list.
//
//   AttentionInput input{.queries = q, .heads = cache_heads, .first_position = cached};
//   AttentionPartial dense = attend_dense(input);
//   WorkList work = selector.select(input, layer);
//   AttentionPartial sparse = attend(input, work);
//
// Query heads are grouped over KV heads in order: query head h reads KV head h / (query_heads / kv_heads). KV is never
// expanded. Query row i has position first_position + i and sees the rows whose position is <= its own. Cost of dense:
// 4 * pairs * head_dim floating-point operations, pairs = causal (query, key) pairs times query heads.
#pragma once

#include <span>
#include <vector>

#include "tessera/attention/partial.h"
#include "tessera/attention/tile.h"
#include "tessera/attention/work_list.h"
#include "tessera/base/thread_pool.h"

namespace tessera::attention {

// The rows of one KV head. Every tile but the last is full.
struct HeadKeys {
  std::span<const KeyValueTile> tiles;  // ceil(rows / 64)
  std::span<const int32_t> positions;   // [rows] true positions, strictly increasing; empty: row r has position r
  int64_t rows = 0;

  int64_t position(int64_t row) const { return positions.empty() ? row : positions[static_cast<size_t>(row)]; }
};

struct AttentionInput {
  Tensor queries;                   // [rows, query_heads, head_dim] f32, rotated; head_dim 32..256, a multiple of 32
  std::span<const HeadKeys> heads;  // [kv_heads]; query_heads must be a multiple of it
  int64_t first_position = 0;       // true position of query row 0
  float scale = 0;                  // of the scores; 0 means 1 / sqrt(head_dim)
};

struct AttentionOptions {
  ThreadPool* pool = nullptr;  // null: ThreadPool::shared()
  int correction_levels = 0;   // of attend() by work list, see there
};

// Throws Error(invalid_argument) on shapes that do not fit.
void check(const AttentionInput& input);

AttentionPartial attend_dense(const AttentionInput& input, const AttentionOptions& options = {});

// Exactly the pairs that `work` names and causality allows; a pair named twice counts once.
//
// Pooled mean correction, with correction_levels 1 or 2: every key tile that all rows of a query tile see and its list
// leaves out counts as n keys equal to the mean of its keys, with the mean of its values, n being its rows that are not
// columns of the head. So its term of the softmax is n exp(scale q.mean(k)) mean(v), merged by log-sum-exp; tiles that
// some rows do not see, and dense heads, get none. Level 2 pools eight tiles that are all left out, and at least eight
// tiles before the query's, into one mean. Cost: 1/64 (1/512) of dense for what is left out, and one pass over keys and
// values per query head.
//   It is exact where the keys of each tile are equal, and it helps where what is left out is diffuse. A mean never
// outweighs what it stands for (Jensen), so lse stays at or below that of dense attention. It cannot see one heavy key
// among light ones, whose value it replaces by the tile's mean; and where few tiles are left out it only costs.
AttentionPartial attend(const AttentionInput& input, const WorkList& work, const AttentionOptions& options = {});

// Share of attention mass that a sparse result left out, measured exactly on `sample_rows` query rows spread over the
// block (the last one included): mean over rows and heads of 1 - exp(lse_sparse - lse_dense). In [0, 1].
double skipped_mass(const AttentionInput& input, const AttentionPartial& sparse, int sample_rows = 8,
                    const AttentionOptions& options = {});

}  // namespace tessera::attention
