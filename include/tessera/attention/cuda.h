// Causal attention on NVIDIA GPUs: dense and by work list, over tensors that already lie on the device.
//
//   cuda::AttentionArguments arguments{.queries = q, .keys = k, .values = v, .out = out, .lse = lse,
//                                      .sequences = {{.query_rows = n, .key_rows = n}}};
//   std::size_t bytes = cuda::workspace_bytes(arguments);          // allocate once, reuse
//   cuda::attend_dense(arguments, {.data = scratch, .bytes = bytes, .stream = stream});
//   cuda::attend(arguments, work, {.data = scratch, .bytes = bytes, .stream = stream});
//
// Everything is asynchronous on `stream`; nothing waits for the device, so a call can be captured in a graph. Results
// of equal inputs are bit-identical. All arguments are checked before anything is launched: Error(invalid_argument) for
// shapes, strides, element types, alignment or pointers that are not on the current device, Error(unsupported) when
// there is no GPU, no driver, or one without a kernel. Kernels: sm_90 uses wgmma and the tensor copy engine; sm_80 and
// later use mma.sync.
//
// Query head h reads KV head h / (query_heads / kv_heads). Key row r of a sequence has position r, query row i has
// position first_position + i and sees the key rows whose position is <= its own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tessera/base/error.h"

namespace tessera::attention::cuda {

constexpr int kQueryTile = 128;    // query rows that share one list
constexpr int kMaxSequences = 64;  // per call
constexpr int kBandTile = 32;      // key rows of an entry of a band

// Entry of a tile list: the key tile's index within its sequence, and whether the kernel must apply causality and the
// end of the rows inside it. An unmasked tile is computed in full.
constexpr uint32_t kMaskedTile = 0x80000000u;
constexpr uint32_t kTileIndex = 0x00ffffffu;

enum class ElementType : uint8_t { bf16, f16, f32 };

constexpr int64_t element_bytes(ElementType type) { return type == ElementType::f32 ? 4 : 2; }

// A strided tensor on a device. Strides in elements; the last dimension must be contiguous.
struct DeviceView {
  void* data = nullptr;
  ElementType type = ElementType::bf16;
  int rank = 0;
  std::array<int64_t, 4> shape = {};
  std::array<int64_t, 4> strides = {};
  int device = 0;
};

// Row-major and contiguous.
DeviceView contiguous_view(void* data, ElementType type, std::vector<int64_t> shape, int device = 0);

// Rows [query_begin, query_begin + query_rows) and [key_begin, key_begin + key_rows) of the packed tensors.
struct Sequence {
  int32_t query_begin = 0;
  int32_t query_rows = 0;
  int32_t key_begin = 0;
  int32_t key_rows = 0;
  int32_t first_position = 0;  // position of query row 0 within this sequence's key rows
};

struct AttentionArguments {
  DeviceView queries;  // [query_rows, query_heads, head_dim] bf16 or f16, rotated; head_dim 64, 96, 128 or 256
  DeviceView keys;     // [key_rows, kv_heads, head_dim], same type
  DeviceView values;   // [key_rows, kv_heads, head_dim], same type
  DeviceView out;      // [query_rows, query_heads, head_dim], same type; zeros where nothing is visible
  DeviceView lse;      // [query_rows, query_heads] f32, natural logarithm; -infinity where nothing is visible
  std::vector<Sequence> sequences;  // 1..kMaxSequences; their query rows are disjoint
  float scale = 0;                  // of the scores; 0 means 1 / sqrt(head_dim)
};

// Query tiles of all sequences, in order: sequence s owns ceil(query_rows / 128) consecutive ones.
int32_t query_tiles(const std::vector<Sequence>& sequences);

// What to compute, on the device. The semantics are those of attention::WorkList with query tiles of 128 rows.
//
// List l = list_head * query_tiles + query_tile. Within a list, tiles ascend and are distinct. A column that lies in a
// listed tile of the same list counts once; the kernel applies causality to columns, and to tiles flagged kMaskedTile.
//
// Bands stand in place of tiles (band_stride > 0): tiles of 32 rows that begin at any row and lie at the same distances
// from every query tile of a head, so that a head has one list of them. Entry e of the query tile whose row 0 has
// position p: key rows p + 127 - e - 31 .. p + 127 - e, those before row 0 left out; the kernel applies causality.
struct DeviceWorkList {
  int32_t key_tile = 128;               // rows of a key tile: 128 or 64; of bands 32
  int32_t list_heads = 0;               // query_heads, or kv_heads: then all heads of a group share a list
  int32_t query_tiles = 0;              // query_tiles(sequences)
  const int32_t* tile_begin = nullptr;  // [list_heads * query_tiles + 1] offsets into `tiles`
  const uint32_t* tiles = nullptr;      // [tile_capacity] entries, see kMaskedTile
  int64_t tile_capacity = 0;            // room of `tiles`; the used part ends at tile_begin's last value
  const uint32_t* overflow = nullptr;   // [1] not 0: whoever made the lists had too little room; see finish()

  int32_t column_stride = 0;              // room per (sequence, list head), a multiple of 128; 0: no columns
  const int32_t* columns = nullptr;       // [sequences * list_heads, column_stride] key rows, ascending, distinct
  const int32_t* column_count = nullptr;  // [sequences * list_heads]
  const int32_t* column_cut = nullptr;    // [list_heads * query_tiles] leading columns that a list may use

  int32_t band_stride = 0;            // room per (sequence, list head); 0: tiles. Otherwise tile_begin is not read,
                                      // and head_dim is at most 128
  const int32_t* bands = nullptr;     // [sequences * list_heads, band_stride] entries, ascending, 32 or more apart
  const int32_t* band_cut = nullptr;  // [list_heads * query_tiles] leading entries that a list uses

  // Pooled mean correction, 1 or 2 levels: every key tile that all rows of a query tile see and its list leaves out
  // counts as n keys equal to the mean of its keys, with the mean of its values; n: its rows that are no columns of the
  // head (of the whole head: columns behind a list's cut count nowhere). Its term of the softmax is
  // n exp(scale q.mean(k)) mean(v), merged by log-sum-exp. Level 2 pools eight tiles that are all left out, and at
  // least eight tiles before the query's, into one mean. Exact where the keys of each tile are equal; helps where what
  // is left out is diffuse; a mean never outweighs what it stands for (Jensen), but it cannot see one heavy key among
  // light ones and replaces its value by the tile's mean. Where nothing is left out, nothing changes. The means are
  // rounded to the element type. Cost: 1/key_tile (1/(8 key_tile)) of dense attention for what is left out, on
  // mma.sync, one read of keys and values, and scratch of list_heads * key_rows / key_tile * 4.5 * head_dim bytes.
  int32_t correction_levels = 0;
};

// Scratch memory on the device and the stream (a cudaStream_t; null is the default stream).
struct Launch {
  void* data = nullptr;  // aligned to 256
  std::size_t bytes = 0;
  void* stream = nullptr;
};

enum class Kernel : uint8_t { automatic, wgmma, mma_sync };

// Compute capability of the current device, for example 90. Throws Error(unsupported) when there is no usable GPU.
int compute_capability();

// The kernel that `automatic` picks for a capability; throws Error(unsupported) below 80.
Kernel kernel_for(int capability);

std::size_t workspace_bytes(const AttentionArguments& arguments);
std::size_t workspace_bytes(const AttentionArguments& arguments, const DeviceWorkList& work);

// 4 * pairs * head_dim floating-point operations.
void attend_dense(const AttentionArguments& arguments, const Launch& launch, Kernel kernel = Kernel::automatic);

// Cost: the listed tiles in full, columns in groups of key_tile, plus one pass over the lists to balance them.
void attend(const AttentionArguments& arguments, const DeviceWorkList& work, const Launch& launch,
            Kernel kernel = Kernel::automatic);

// Waits for the stream and throws Error(invalid_argument) when the lists of the last call of attend() with this scratch
// memory did not fit: `overflow` was set, or tile_begin ends beyond tile_capacity. In the latter case nothing was
// computed and `out` and `lse` are as they were. attend() itself does not wait; call this once, where results are read
// anyway.
void finish(const Launch& launch);

// Checks without a device: shapes, types, strides, alignment, sequences. Throws Error(invalid_argument).
void check(const AttentionArguments& arguments);
void check(const AttentionArguments& arguments, const DeviceWorkList& work);

}  // namespace tessera::attention::cuda
