// The vector kernels of the attention floor, behind Highway's run-time dispatch.
//
// A lane is one (query row, query head) pair; a lane block is up to 64 lanes that read the same KV head. Scores of a
// block against up to 64 keys are computed transposed, [key][lane]: lanes lie along the vectors, keys are broadcast, so
// neither the softmax (a reduction over keys) nor the product with the values needs a shuffle, and keys may come from a
// channel-major tile or from any list of rows at the same cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tessera/attention/tile.h"

namespace tessera::attention {

constexpr int kBlockLanes = 64;

// Running state of the online softmax of one lane block. Lanes at and beyond `lanes` hold finite rubbish.
struct LaneBlock {
  int lanes = 0;            // 1..64
  int64_t head_dim = 0;     // a multiple of 32
  float scale = 0;          // of the scores, > 0
  float* packed = nullptr;  // queries in the layout of pack_queries, 64 * head_dim floats
  float* out = nullptr;     // [64][head_dim], sum of exp(scale * (score - top)) * value
  float* top = nullptr;     // [64], largest raw score so far; -infinity before the first key
  float* sum = nullptr;     // [64], sum of exp(scale * (score - top))
};

// A tile as f32, rearranged so that the inner loops read memory in order.
//   keys    groups of kPackedKeys keys, key_group_floats() apart, each [head_dim][kPackedKeys]
//   values  panels of some channels (how many depends on the instruction set), each [64][panel]
constexpr int kPackedKeys = 6;
constexpr int64_t key_group_floats(int64_t head_dim) { return kPackedKeys * head_dim + 16; }
constexpr int64_t kKeyGroups = (kTileRows + kPackedKeys - 1) / kPackedKeys;
struct PackedTile {
  const float* keys = nullptr;
  const float* values = nullptr;
  std::span<const std::byte> ahead;  // memory that is wanted next; it is brought nearer while this tile is computed
};

// Up to 64 single rows.
struct RowKeys {
  const float* keys = nullptr;     // [any][head_dim]
  const float* values = nullptr;   // [any][head_dim]
  const int32_t* rows = nullptr;   // [count] row indices into both
  const float* offsets = nullptr;  // [any] added to the unscaled scores of a row; null: none
};

// Floats between the scores of two keys in a scratch: more than 64, so that the lines of many keys do not fall into the
// same sets of the first-level cache.
constexpr int kScoreStride = kBlockLanes + 16;

// Scratch of one update: scores [64 keys][kScoreStride] followed by 64 rescaling factors.
constexpr int64_t kUpdateScratch = kTileRows * kScoreStride + kBlockLanes;

// Starts a block: packs `lanes` queries (queries[i] points to head_dim floats) and empties the state.
void start_block(LaneBlock& block, const float* const* queries);

// Adds `count` (1..64) keys. visible: null when every lane sees all of them, else [64]: lane i sees the first
// visible[i].
void update_block(LaneBlock& block, const PackedTile& keys, int count, const int32_t* visible, float* scratch);
void update_block(LaneBlock& block, const RowKeys& keys, int count, const int32_t* visible, float* scratch);

// Writes lane i's normalised output to out[i][0..head_dim) and its log-sum-exp to *lse[i].
void finish_block(const LaneBlock& block, float* const* out, float* const* lse);

// Probes need the softmax weights themselves. First observe every key, which updates top and sum but not out; then
// weigh_block gives the normalised weights [count][kScoreStride], zero for invisible pairs and for lanes at and beyond
// block.lanes.
void observe_block(LaneBlock& block, const PackedTile& keys, int count, const int32_t* visible, float* scratch);
void weigh_block(const LaneBlock& block, const PackedTile& keys, int count, const int32_t* visible, float* weights);

// The state of a few lanes (decoding): vectors run along the keys and along the channels instead.
struct FewLanes {
  int lanes = 0;  // 1..8
  int64_t head_dim = 0;
  float scale = 0;
  const float* queries = nullptr;         // [lanes][head_dim]
  float* out = nullptr;                   // [lanes][head_dim]
  float* top = nullptr;                   // [lanes]
  float* sum = nullptr;                   // [lanes]
  std::span<const std::byte> ahead = {};  // memory that is wanted next; consumed
};
constexpr int kFewLanes = 8;
// visible[i] in 0..64: lane i sees the first visible[i] rows of the tile. scratch: kFewLanes * 64 floats.
// The tile is f32, bf16 or f16 and is read as stored.
void update_few(FewLanes& state, const KeyValueTile& tile, const int32_t* visible, float* scratch);

// Rearranges a tile of any format but kivi: keys kKeyGroups * key_group_floats(head_dim) floats, values 64 * head_dim
// floats (not wanted when null).
void pack_tile(const KeyValueTile& tile, int64_t head_dim, float* keys, float* values);

// f32 expansion of a whole tile: keys [head_dim][64], values [64][head_dim] (not wanted when null).
void expand_tile(const KeyValueTile& tile, int64_t head_dim, float* keys, float* values);

}  // namespace tessera::attention
