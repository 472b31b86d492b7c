// Block-sparse lists on the device: means of rows, scores of key tiles by tensor cores, lists. Graph-capturable.
#pragma once

#include <cstddef>

#include "attention/cuda/block_choice.h"
#include "attention/cuda/line_lists_launch.h"

namespace tessera::attention::cuda {

// Score of (query tile, key tile): the log-sum-exp over pairs of means of `mean_rows` rows that causality allows, times
// scale; with mean_rows 128 the score of the two means. 128 x 128 tiles; see block_score.h for the arithmetic.
struct BlockLists {
  const void* queries = nullptr;
  const void* keys = nullptr;
  int64_t query_stride[2] = {}, key_stride[2] = {};
  int32_t query_begin = 0;
  int32_t query_heads = 0, kv_heads = 0, head_dim = 0;
  int32_t mean_rows = 32;  // 32 or 128
  float scale = 0;
  BlockChoice choice;
  bool half_precision = false;
  uint16_t* query_means = nullptr;  // [query_heads, means, head_dim] codes; means: a multiple of 16
  uint16_t* key_means = nullptr;    // [kv_heads, means, head_dim]
  float* query_steps = nullptr;     // [query_heads, means]
  float* key_steps = nullptr;       // [kv_heads, means]

  TESSERA_SIMT int32_t query_means_count() const { return padded(choice.rule.query_rows); }
  TESSERA_SIMT int32_t key_means_count() const { return padded(choice.rule.key_rows); }
  TESSERA_SIMT int32_t padded(int32_t rows) const { return ((rows + mean_rows - 1) / mean_rows + 15) / 16 * 16; }
};

// Means and counts of one sequence; after begin_lists() its tiles. Every score is computed twice. Return a cudaError_t
// as int; cudaErrorInvalidValue when the scores of a query tile exceed the shared memory, see most_block_key_rows().
int count_block_lists(const BlockLists& arguments, const LineLists& lists, void* stream);
int write_block_lists(const BlockLists& arguments, const LineLists& lists, void* stream);

// Key rows whose scores fit into 227 KiB of shared memory.
int32_t most_block_key_rows(int32_t top_k);

}  // namespace tessera::attention::cuda
