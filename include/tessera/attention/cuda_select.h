// What to compute, chosen on the device: estimate, lists and attention without the host in between.
//
//   cuda::SelectOptions options{.method = cuda::Method::recall, .recall = 0.95F};
//   std::size_t bytes = cuda::selection_bytes(arguments, options);
//   cuda::Selected chosen = cuda::attend_selected(arguments, options, {.data = scratch, .bytes = bytes, .stream =
//   stream});
//
// Everything is asynchronous on the stream and can be captured in a graph; the lists live in the scratch memory. The
// last query of every sequence sees at most the last key (first_position + query_rows <= key_rows). Each sequence is
// chosen for by itself, with launches of its own (ten to fifteen), so many short ones cost launches. Equal inputs give
// equal lists; ties go to the lower index. Throws like tessera/attention/cuda.h, before anything is launched.
//
// With `exact`, and with the block methods always, the lists are also those of select_on_host() on the same rows, entry
// by entry: scores are products of integer codes (8 bits per element and a step per row; of means 9 bits), exponentials
// a polynomial with every rounding written down, sums integers. The estimate differs from the default one by the codes'
// rounding.
//
// Methods
//   dense           no choice
//   a_shape         first `sinks` rows and the most recent `window` rows; the last `dense_rows` query rows are dense
//                   (Tri-shape) when dense_rows > 0 (MInference, arXiv 2407.02490; SCBench, arXiv 2412.10319)
//   vertical_slash  the columns and the diagonals with the largest softmax mass of the last 64 query rows, fixed
//   budgets
//                   (MInference section 3.2)
//   recall          columns and bands of 128 diagonals, the cheapest whose mass on 64 rows spread over the prompt
//   reaches
//                   `recall`; dense where that would cost 0.9 of dense or more
//   tiles           the same choice by computed tiles: `share` of those of dense attention
//   block_mean      tiles whose mean key agrees most with the mean query: the top_k key tiles of a query tile
//                   (MInference), or with top_k = 0 those within `threshold` of the row's best
//   block_lse       tiles by the log-sum-exp of the scores of 32-row means, within `threshold` of the row's best
//   automatic       dense below `crossover` key rows, else recall
#pragma once

#include "tessera/attention/cuda.h"

namespace tessera::attention::cuda {

enum class Method : uint8_t { dense, a_shape, vertical_slash, recall, tiles, block_mean, block_lse, automatic };

struct SelectOptions {
  Method method = Method::automatic;
  int32_t vertical = 1000;          // vertical_slash: columns kept, sinks included (MInference fallback)
  int32_t slash = 6096;             // vertical_slash: diagonals kept, local ones included
  int32_t sinks = 30;               // first key rows, always kept
  int32_t local = 100;              // vertical_slash: distances 0 .. local - 1 always kept
  int32_t window = 3968;            // a_shape, block methods: most recent rows, the own one included
  int32_t dense_rows = 0;           // a_shape, block methods: last query rows that are computed densely
  float recall = 0.95F;             // in (0, 1]
  float share = 0.1F;               // tiles: in (0, 1]
  float threshold = 0.01F;          // block methods: share of the best score's exponential, in (0, 1]
  int32_t top_k = 0;                // block_mean: key tiles per query tile
  int32_t most_columns = 1024;      // recall, tiles: room for columns per head, a multiple of 128
  int32_t crossover = 16384;        // automatic: key rows from which a choice is tried; see measure_crossover()
  int32_t correction_levels = 0;    // DeviceWorkList::correction_levels of the lists
  bool exact = false;               // see above; the probe then takes about three times as long
  bool bands = false;               // vertical_slash: diagonals as bands (DeviceWorkList::bands) in place of tiles;
                                    // fewer keys are computed that no line asks for
  int64_t most_entries = 60000000;  // room for tile entries of all heads (4 bytes each), when dense needs more
};

// The lists of a call. `work` is empty when the method needs none (dense).
struct Selected {
  bool dense = false;
  DeviceWorkList work;
  const uint32_t* overflow = nullptr;  // device, [1]: not 0 when the lists did not fit and are cut
  const float* report = nullptr;       // device, [sequences, query_heads, 2]: recall on the probe rows (0 where
                                       // these are too few to judge by), share of dense tiles; recall and tiles only,
                                       // zeros for other sequences
  // Of a call with one sequence.
  const float* column_mass = nullptr;    // device, [query_heads, key_rows]; vertical_slash, recall, tiles
  const float* diagonal_mass = nullptr;  // device, [query_heads, key_rows] by distance; vertical_slash
};

// Bytes of the lists and of their making, without attention.
std::size_t list_bytes(const AttentionArguments& arguments, const SelectOptions& options);

// Scratch of attend_selected.
std::size_t selection_bytes(const AttentionArguments& arguments, const SelectOptions& options);

// Makes the lists in the first list_bytes() of the scratch memory.
Selected select(const AttentionArguments& arguments, const SelectOptions& options, const Launch& launch);

// The same without a GPU: arguments, `memory` and the lists lie on the host, and lists are those of `exact`. Slow; for
// checking, and as the definition of what select() chooses. `memory.stream` is not used.
std::size_t host_list_bytes(const AttentionArguments& arguments, const SelectOptions& options);
Selected select_on_host(const AttentionArguments& arguments, const SelectOptions& options, const Launch& memory);

// Times of one length: choosing by recall alone, and dense attention.
struct CrossoverTime {
  int32_t rows = 0;
  double choosing_ms = 0;
  double dense_ms = 0;
};

// Key rows from which choosing costs at most a tenth of dense attention, the rule of the CPU's `auto`: between the two
// lengths where the share passes it by its power law, a multiple of 128, within the measured lengths. `times`:
// ascending rows.
int32_t crossover_from(const std::vector<CrossoverTime>& times);

// SelectOptions::crossover for this machine: times prompts of 2,048 to 65,536 random rows until choosing is cheap.
// Allocates device memory, waits for the device; some tens of milliseconds. Call once per shape and keep the result.
struct CrossoverShape {
  int32_t query_heads = 32, kv_heads = 8, head_dim = 128;
  ElementType type = ElementType::bf16;
};
int32_t measure_crossover(const CrossoverShape& shape);

// Makes the lists and attends.
Selected attend_selected(const AttentionArguments& arguments, const SelectOptions& options, const Launch& launch,
                         Kernel kernel = Kernel::automatic);

}  // namespace tessera::attention::cuda
