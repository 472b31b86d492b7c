// Block-sparse lists on the device: means of rows, scores of key tiles by tensor cores, lists. Graph-capturable.
#pragma once

#include <cstddef>

#include "attention/cuda/block_choice.h"
#include "attention/cuda/line_lists_launch.h"

namespace tessera::attention::cuda {

// Score of (query tile, key tile): the log-sum-exp over pairs of means of `mean_rows` rows that causality allows, times
// scale; with mean_rows 128 the score of the two means. 128 x 128 tiles.
struct BlockLists {
  const void* queries = nullptr;
  const void* keys = nullptr;
  int64_t query_stride[2] = {}, key_stride[2] = {};
  int32_t query_begin = 0;
  int32_t query_heads = 0, kv_heads = 0, head_dim = 0;
  int32_t mean_rows = 32;  // 32 or 128
  float scale = 0;
  BlockChoice choice;
  uint16_t* query_means = nullptr;  // [query_heads, means, head_dim]; means: a multiple of 16
  uint16_t* key_means = nullptr;    // [kv_heads, means, head_dim]

  TESSERA_SIMT int32_t query_means_count() const { return padded(choice.rule.query_rows); }
  TESSERA_SIMT int32_t key_means_count() const { return padded(choice.rule.key_rows); }
  TESSERA_SIMT int32_t padded(int32_t rows) const { return ((rows + mean_rows - 1) / mean_rows + 15) / 16 * 16; }
};

// Fills counts, tile_begin, tiles and overflow of `lists`. Returns a cudaError_t as int. Every score is computed twice.
int build_block_lists(const BlockLists& arguments, const LineLists& lists, bool half_precision, void* stream);

}  // namespace tessera::attention::cuda
