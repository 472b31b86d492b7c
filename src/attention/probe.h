// Exact softmax weights of a few query rows against all keys, without ever storing a rows x keys matrix.
//
// Two passes over the keys: the first finds each row's largest score and sum, the second computes the weights tile by
// tile and hands them to a sink that reduces them. The keys of a tile are expanded once for all query heads of a group.
// Cost per query head: 4 * rows * keys * head_dim operations.
#pragma once

#include <functional>
#include <vector>

#include "attention/block_state.h"

namespace tessera::attention {

// Key tiles that one task of the second pass covers; partial sums that cross the seam are the sink's business.
constexpr int64_t kProbeRangeTiles = 64;

struct ProbeTile {
  int64_t head;          // query head
  int64_t range;         // which run of kProbeRangeTiles key tiles
  int64_t tile;          // key tile
  int count;             // keys, 1..64
  const float* weights;  // [count][kScoreStride]; lane i is probe row i, zeros beyond them
};
using ProbeSink = std::function<void(const ProbeTile&)>;

// What to probe.
struct ProbeRows {
  std::span<const int64_t> rows;  // 1..64 query rows
  int64_t first_kv_head = 0;      // query heads of the KV heads [first_kv_head, first_kv_head + kv_heads)
  int64_t kv_heads = 0;
};

// Calls for one (head, range) come in ascending order of tiles from one thread.
void probe(const AttentionInput& input, const ProbeRows& what, ThreadPool& pool, const ProbeSink& sink);

}  // namespace tessera::attention
