// From line masses on the device to a DeviceWorkList: one stream, no wait for the device, graph-capturable.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/cuda/line_bands.h"
#include "attention/cuda/line_lists.h"

namespace tessera::attention::cuda {

struct LineListArguments {
  const float* column_mass = nullptr;    // [heads, key_rows]; null: no columns are chosen
  const float* diagonal_mass = nullptr;  // [heads, key_rows], by distance; null: no diagonals
  int32_t heads = 0;
  int32_t columns_kept = 1000;    // forced ones included (MInference fallback)
  int32_t diagonals_kept = 6096;  // forced ones included
  int32_t forced_columns = 30;    // first key rows
  int32_t forced_diagonals = 100;
  bool given_columns = false;  // LineLists::columns and column_count are filled already
  int32_t first_column = -1;   // >= 0: the columns are first_column .. first_column + columns_kept - 1
  TileRule rule;               // `distances` is ignored; `bands`: [heads, words of ceil(key_rows / 128) bits]
};

// Device memory that the caller owns. Room for at least the sizes given; see line_list_bytes().
struct LineLists {
  int32_t* columns = nullptr;         // [heads, column_stride]
  int32_t column_stride = 0;          // a multiple of 128, >= columns_kept
  int32_t* column_count = nullptr;    // [heads]
  int32_t* column_cut = nullptr;      // [heads * query_tiles]
  int32_t* distances = nullptr;       // [heads, diagonals_kept]
  uint32_t* distance_bits = nullptr;  // [heads * distance_words(key_rows)]
  uint32_t* flags = nullptr;          // [heads, rule.flag_words()]; null: every pair is looked at by itself
  int32_t* counts = nullptr;          // [heads * query_tiles + 1]
  int32_t* tile_begin = nullptr;      // [heads * query_tiles + 1]
  uint32_t* tiles = nullptr;          // [tile_capacity]
  int64_t tile_capacity = 0;          // < 2^31
  uint32_t* overflow = nullptr;       // [1] becomes 1 when the lists did not fit; the last ones are then cut
  int32_t list_pitch = 0;             // lists from one head's to the next's; 0: query_tiles
  // Bands in place of tiles, flags, counts and bits of distances: none of these is then written.
  int32_t band_stride = 0;        // band_room(); 0: tiles
  int32_t* bands = nullptr;       // [heads, band_stride]
  int32_t* band_count = nullptr;  // [heads]
  int32_t* band_cut = nullptr;    // [heads * query_tiles]
  void* scan = nullptr;           // scan_bytes
  std::size_t scan_bytes = 0;
};

// Bits of the distances of a head and their summary.
constexpr int64_t distance_words(int32_t key_rows) {
  const int64_t words = (key_rows + 31) / 32;
  return words + (words + 31) / 32;
}

int32_t line_query_tiles(const TileRule& rule);

// Scratch of the scan over heads * query_tiles + 1 counts.
std::size_t line_scan_bytes(int64_t lists);

// Bytes of all arrays above except `scan`.
constexpr int64_t line_list_bytes(const LineListArguments& arguments, int64_t column_stride, int64_t tile_capacity) {
  const int64_t query_tiles = (arguments.rule.query_rows + arguments.rule.query_tile - 1) / arguments.rule.query_tile;
  const int64_t per_head = column_stride + 1 + arguments.diagonals_kept + distance_words(arguments.rule.key_rows) +
                           (arguments.rule.key_rows / arguments.rule.key_tile + 96) / 32 + 3 * query_tiles;
  return 4 * (arguments.heads * per_head + 2 + tile_capacity + 1);
}

// The kernels of one head, shared by the launches and by those who run them on the host.
struct LargestTask {
  LargestArguments line;  // of head 0
  int64_t stride = 0;     // of the indices
  int32_t* count = nullptr;
  int32_t words = 0;
  uint32_t* bits = nullptr;  // the indices as bits too; null: not wanted
  uint32_t* summary = nullptr;
};
struct LineTasks {
  LargestTask largest[2];
  int32_t count = 0;
};
// The searches that `arguments` ask for.
LineTasks line_tasks(const LineListArguments& arguments, const LineLists& lists);
inline bool has_columns(const LineListArguments& arguments) {
  return arguments.column_mass != nullptr || arguments.given_columns || arguments.first_column >= 0;
}
// Of one head.
inline BandArguments band_arguments(const LineListArguments& arguments, const LineLists& lists, int64_t head) {
  const int32_t kept =
      arguments.diagonals_kept < arguments.rule.key_rows ? arguments.diagonals_kept : arguments.rule.key_rows;
  return {lists.distances + head * kept, kept, lists.bands + head * lists.band_stride, lists.band_count + head};
}
// Null: every pair of tiles is looked at by itself.
inline uint32_t* list_flags(const TileRule& rule, const LineLists& lists) {
  return rule.offsets() ? lists.flags : nullptr;
}
// The rule of head 0 with what the searches write.
TileRule line_rule(const LineListArguments& arguments, const LineLists& lists);

TESSERA_SIMT inline TileRule rule_of_head(TileRule rule, int64_t head) {
  const int64_t words = (rule.key_rows + 31) / 32;
  if (rule.distances != nullptr) {
    rule.distances += head * words;
    rule.summary += head * ((words + 31) / 32);
  }
  if (rule.bands != nullptr) rule.bands += head * (((rule.key_rows + 127) / 128 + 31) / 32);
  return rule;
}

// All of one sequence: counting, the scan, writing. Returns a cudaError_t as int; 0 is success. The number of launches
// does not depend on the sizes.
int build_line_lists(const LineListArguments& arguments, const LineLists& lists, void* stream);

// The same in steps, for several sequences whose lists lie in one array: columns, distances, flags and counts of each;
// begin_lists(), where all `count` lists begin; the tiles of each; end_lists(), which cuts what did not fit.
int count_line_lists(const LineListArguments& arguments, const LineLists& lists, void* stream);
int write_line_lists(const LineListArguments& arguments, const LineLists& lists, void* stream);
int begin_lists(const LineLists& lists, int64_t count, void* stream);
int end_lists(const LineLists& lists, int64_t count, void* stream);

}  // namespace tessera::attention::cuda
