// What a selection will do, and where its memory lies: from arguments and options alone.
#pragma once

#include <vector>

#include "attention/cuda/block_lists.h"
#include "attention/cuda/line_choice_launch.h"
#include "attention/cuda/line_lists_launch.h"
#include "attention/cuda/probe.h"
#include "tessera/attention/cuda_select.h"

namespace tessera::attention::cuda {

inline bool is_by_lines(Method method) { return method == Method::vertical_slash; }
inline bool is_by_choice(Method method) { return method == Method::recall || method == Method::tiles; }
inline bool is_by_blocks(Method method) { return method == Method::block_mean || method == Method::block_lse; }

// One sequence that has query rows.
struct SequencePlan {
  Sequence sequence;
  int32_t index = 0;       // among all sequences
  int32_t first_tile = 0;  // of its query tiles among all
  Method method = Method::dense;
  TileRule rule;
  LineListArguments lines;

  int32_t query_tiles() const { return line_query_tiles(rule); }
  int32_t band_tiles() const { return (sequence.key_rows + kBandRows - 1) / kBandRows; }
};

struct SelectPlan {
  std::vector<SequencePlan> sequences;
  bool dense = false;  // all of them
  int32_t heads = 0;
  int32_t sequence_count = 0;  // empty ones counted too
  int32_t query_tiles = 0;     // of all sequences
  int32_t key_tile = 128;      // of the lists' entries
  int32_t column_stride = 0;
  int32_t band_stride = 0;    // > 0: bands in place of tiles
  int64_t dense_entries = 0;  // that all causal tiles of all heads would take
  int64_t lists() const { return int64_t{heads} * query_tiles; }
};

// Throws Error for options that do not fit.
SelectPlan plan_selection(const AttentionArguments& arguments, const SelectOptions& options);

// What one sequence keeps until its lists are written.
struct SequenceMemory {
  LineLists lists;  // pointers to its own lists
  uint32_t* band_bits = nullptr;
  float* report = nullptr;  // [heads, 2]
  BlockLists blocks;
};

struct SelectMemory {
  LineLists lists;  // of all sequences
  std::vector<SequenceMemory> sequences;
  // Of one sequence after the other.
  Probe probe;
  float* tile_rest = nullptr;
  float* band_mass = nullptr;
  float* report = nullptr;  // [sequences, heads, 2]
  std::size_t bytes = 0;
};

// With a null base only the sizes count. scan_bytes: of the scan over the lists.
SelectMemory lay_out_selection(void* base, const AttentionArguments& arguments, const SelectPlan& plan,
                               const SelectOptions& options, std::size_t scan_bytes);

}  // namespace tessera::attention::cuda
