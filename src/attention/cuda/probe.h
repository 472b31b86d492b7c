// Exact softmax masses of a few query rows against all keys, all heads in one launch; no rows x keys matrix in memory.
//
// Two passes over the keys: row statistics per range of keys, then the weights and their sums. A block owns a range of
// keys and up to four query heads of a group, so keys are read once per pass and group. Cost per pass: 2 * 64 * keys *
// head_dim operations per query head. Repeats agree bit by bit.
//
// Method: MInference (arXiv 2407.02490, section 3.2), sums over columns and diagonals of the last rows; with rows
// spread over the prompt the sums are kept per key tile instead, for bands of tiles.
#pragma once

#include <cstdint>

#include "attention/cuda/host_device.h"

namespace tessera::attention::cuda {

constexpr int kProbeRows = 64;
constexpr int kProbeKeys = 64;        // key rows per step
constexpr int kProbeGroups = 16;      // of four rows, each within one query tile
constexpr int kMaxProbeSplits = 264;  // ranges of keys
constexpr int kProbeTile = 128;       // key rows of one entry of tile_mass
constexpr int kProbeHeadsPerBlock = 4;

struct Probe {
  const void* queries = nullptr;
  const void* keys = nullptr;    // first key row of the sequence
  int64_t query_stride[2] = {};  // elements per row, per head
  int64_t key_stride[2] = {};
  int32_t query_heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 0;
  int32_t key_rows = 0;
  int32_t row_count = 0;          // 1..kProbeRows
  int32_t rows[kProbeRows] = {};  // query rows; lines(): consecutive
  int32_t own[kProbeRows] = {};   // last key row that each sees; -1 beyond row_count
  int32_t splits = 0;             // ranges of keys
  int32_t range_steps = 0;        // steps of kProbeKeys per range, even
  float* partial = nullptr;       // [query_heads, splits, kProbeRows, 2]: largest score in bits, sum
  float* column_mass = nullptr;   // [query_heads, key_rows] sum over the rows; spread: over those of odd groups
  float* column_gain =
      nullptr;  // [query_heads, key_rows] sum over the rows of even groups but for the largest; spread only
  float* diagonal_mass = nullptr;  // [query_heads, key_rows] by distance from the own key row; lines only
  float* tile_mass = nullptr;      // [query_heads, kProbeGroups, key tiles]; spread only
  // Chosen columns, whose masses per group of rows are wanted.
  const int32_t* columns = nullptr;       // [query_heads, column_stride]
  const int32_t* column_count = nullptr;  // [query_heads]
  int32_t column_stride = 0;              // a multiple of kProbeKeys
  float* column_groups = nullptr;         // [query_heads, column_stride, kProbeGroups]

  TESSERA_HOST_DEVICE int32_t key_tiles() const { return (key_rows + kProbeTile - 1) / kProbeTile; }
};

enum class ProbeKind { lines, spread };

// Last rows of a sequence. `first_position + query_rows <= key_rows`.
void set_last_rows(Probe& probe, int32_t query_begin, int32_t query_rows, int32_t first_position);

// Four rows each of up to sixteen query tiles spread evenly, the last one included; slot 4 g + i belongs to group g.
// Returns the number of groups.
int32_t set_spread_rows(Probe& probe, int32_t query_begin, int32_t query_rows, int32_t first_position);

// Ranges of keys that keep `multiprocessors` busy; each begins with work of its own, so they are few.
void set_splits(Probe& probe, int multiprocessors);

// Statistics, then masses. Returns a cudaError_t as int.
int launch_probe(const Probe& probe, ProbeKind kind, bool half_precision, void* stream);

// Masses of the chosen columns; needs the statistics of a launch_probe() before.
int launch_column_groups(const Probe& probe, bool half_precision, void* stream);

// The same in the arithmetic of exact_probe.h.
int launch_exact_probe(const Probe& probe, ProbeKind kind, bool half_precision, void* stream);
int launch_exact_column_groups(const Probe& probe, bool half_precision, void* stream);

}  // namespace tessera::attention::cuda
