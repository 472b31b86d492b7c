// Memory of lane blocks, and the causal limits of query rows: what the dense and the sparse driver share.
#pragma once

#include <hwy/aligned_allocator.h>

#include <array>
#include <vector>

#include "attention/kernels.h"
#include "tessera/attention/attention.h"

namespace tessera::attention {

// Shape and derived numbers of a checked input.
struct InputShape {
  int64_t rows = 0;  // query rows
  int64_t query_heads = 0;
  int64_t kv_heads = 0;
  int64_t group = 0;  // query heads per KV head
  int64_t head_dim = 0;
  float scale = 0;

  explicit InputShape(const AttentionInput& input);
};

// How many rows of `head` lie at or before `position`: since rows ascend in position, exactly the first so many.
int64_t visible_rows(const HeadKeys& head, int64_t position);

// [rows] for every query row, the number of visible rows of `head`.
std::vector<int64_t> visible_rows(const AttentionInput& input, const HeadKeys& head);

struct LaneName {
  int64_t row;   // of the queries
  int64_t head;  // query head
};

// A tile as plain f32.
struct TileKeys {
  const float* keys = nullptr;    // [head_dim][64]
  const float* values = nullptr;  // [64][head_dim]
};

struct Workspace;

// One lane block with its memory.
class BlockState {
 public:
  // Empties the state.
  void start(const AttentionInput& input, const InputShape& shape, std::span<const LaneName> lanes);
  // limits[row] is visible_rows of the KV head for that query row.
  void set_limits(const std::vector<int64_t>& limits);

  // Adds rows [64 tile, ...) of a KV head, as far as visible.
  void add_tile(const PackedTile& keys, int64_t tile, float* scratch);
  // Adds single rows: rows[i] of `keys` is row columns[i] of the KV head, ascending; any number.
  void add_columns(const RowKeys& keys, std::span<const int32_t> columns, Workspace& workspace);

  void finish(AttentionPartial& result) const;

  int64_t largest_limit() const { return largest_limit_; }
  int64_t smallest_limit() const { return smallest_limit_; }
  LaneBlock& block() { return block_; }

 private:
  LaneBlock block_;
  hwy::AlignedFreeUniquePtr<float[]> memory_;
  int64_t memory_head_dim_ = 0;
  std::array<LaneName, kBlockLanes> lanes_ = {};
  std::array<int64_t, kBlockLanes> limits_ = {};
  alignas(64) std::array<int32_t, kBlockLanes> visible_ = {};
  int64_t largest_limit_ = 0;
  int64_t smallest_limit_ = 0;
};

// The same for at most kFewLanes lanes, which read tiles as stored.
class FewState {
 public:
  void start(const AttentionInput& input, const InputShape& shape, std::span<const LaneName> lanes);
  void set_limits(const std::vector<int64_t>& limits);
  // next: the tile that will be added after this one, or null; it is brought nearer meanwhile.
  void add_tile(const KeyValueTile& stored, int64_t tile, const KeyValueTile* next, Workspace& workspace);
  void add_columns(const RowKeys& keys, std::span<const int32_t> columns, Workspace& workspace);
  void finish(AttentionPartial& result) const;

  int64_t largest_limit() const { return largest_limit_; }

 private:
  FewLanes state_;
  hwy::AlignedFreeUniquePtr<float[]> memory_;
  int64_t memory_head_dim_ = 0;
  std::array<LaneName, kFewLanes> lanes_ = {};
  std::array<int64_t, kFewLanes> limits_ = {};
  std::array<int32_t, kFewLanes> visible_ = {};
  int64_t largest_limit_ = 0;
};

// The bytes of a tile; none for null.
inline std::span<const std::byte> stored_bytes(const KeyValueTile* tile, int64_t head_dim) {
  if (tile == nullptr) return {};
  return {tile->data, static_cast<size_t>(tile_bytes(tile->format, head_dim))};
}

constexpr int kBlocksPerUnit = 4;

// Working memory of one thread: blocks, expanded tile, scores.
struct Workspace {
  std::array<BlockState, kBlocksPerUnit> blocks;
  FewState few;

  // Room for the expansion of a tile.
  float* keys(int64_t head_dim);    // [head_dim][64]
  float* values(int64_t head_dim);  // [64][head_dim]
  float* scratch();                 // kUpdateScratch floats

  // The tile as plain f32: in place when it is f32 already, else expanded into this workspace.
  TileKeys expand(const KeyValueTile& tile, int64_t head_dim);
  TileKeys expand_keys(const KeyValueTile& tile, int64_t head_dim);  // values null
  // The tile rearranged for lane blocks, in this workspace.
  PackedTile pack(const KeyValueTile& tile, int64_t head_dim);
  PackedTile pack_keys(const KeyValueTile& tile, int64_t head_dim);  // values null

  static Workspace& of_this_thread();

 private:
  void reserve(int64_t head_dim);

  hwy::AlignedFreeUniquePtr<float[]> tile_;    // expanded keys and values
  hwy::AlignedFreeUniquePtr<float[]> packed_;  // packed values and keys
  int64_t head_dim_ = 0;                       // that both have room for
  hwy::AlignedFreeUniquePtr<float[]> scratch_;
};

}  // namespace tessera::attention
