#include "attention/block_state.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessera::attention {
namespace {

void finish_lanes(const LaneBlock& block, std::span<const LaneName> lanes, AttentionPartial& result) {
  const int64_t heads = result.lse.shape()[1];
  std::array<float*, kBlockLanes> out;
  std::array<float*, kBlockLanes> lse;
  for (size_t i = 0; i < static_cast<size_t>(block.lanes); ++i) {
    const int64_t index = lanes[i].row * heads + lanes[i].head;
    out[i] = result.out.data<float>() + index * block.head_dim;
    lse[i] = result.lse.data<float>() + index;
  }
  finish_block(block, out.data(), lse.data());
}

}  // namespace

InputShape::InputShape(const AttentionInput& input)
    : rows(input.queries.shape()[0]),
      query_heads(input.queries.shape()[1]),
      kv_heads(static_cast<int64_t>(input.heads.size())),
      group(kv_heads == 0 ? 0 : query_heads / kv_heads),
      head_dim(input.queries.shape()[2]),
      scale(input.scale != 0 ? input.scale : 1.0F / std::sqrt(static_cast<float>(head_dim))) {}

int64_t visible_rows(const HeadKeys& head, int64_t position) {
  if (head.positions.empty()) return std::clamp<int64_t>(position + 1, 0, head.rows);
  const auto positions = head.positions.first(static_cast<size_t>(head.rows));
  return std::upper_bound(positions.begin(), positions.end(), position) - positions.begin();
}

std::vector<int64_t> visible_rows(const AttentionInput& input, const HeadKeys& head) {
  std::vector<int64_t> limits(static_cast<size_t>(input.queries.shape()[0]));
  for (size_t row = 0; row < limits.size(); ++row) {
    limits[row] = visible_rows(head, input.first_position + static_cast<int64_t>(row));
  }
  return limits;
}

void BlockState::start(const AttentionInput& input, const InputShape& shape, std::span<const LaneName> lanes) {
  const int64_t panel = kBlockLanes * shape.head_dim;
  if (memory_head_dim_ != shape.head_dim) {
    memory_ = hwy::AllocateAligned<float>(static_cast<size_t>(2 * panel + 2 * kBlockLanes));
    memory_head_dim_ = shape.head_dim;
  }
  float* memory = memory_.get();
  block_ = {.lanes = static_cast<int>(lanes.size()),
            .head_dim = shape.head_dim,
            .scale = shape.scale,
            .packed = memory,
            .out = memory + panel,
            .top = memory + 2 * panel,
            .sum = memory + 2 * panel + kBlockLanes};
  std::copy(lanes.begin(), lanes.end(), lanes_.begin());
  std::array<const float*, kBlockLanes> queries;
  const float* base = input.queries.data<float>();
  for (size_t i = 0; i < lanes.size(); ++i) {
    queries[i] = base + (lanes[i].row * shape.query_heads + lanes[i].head) * shape.head_dim;
  }
  start_block(block_, queries.data());
}

void BlockState::set_limits(const std::vector<int64_t>& limits) {
  for (int i = 0; i < block_.lanes; ++i) limits_[i] = limits[static_cast<size_t>(lanes_[i].row)];
  const auto [low, high] = std::minmax_element(limits_.begin(), limits_.begin() + block_.lanes);
  smallest_limit_ = *low;
  largest_limit_ = *high;
}

void BlockState::add_tile(const PackedTile& keys, int64_t tile, float* scratch) {
  const int64_t first = tile * kTileRows;
  const auto count = static_cast<int>(std::min<int64_t>(largest_limit_ - first, kTileRows));
  if (count <= 0) return;
  if (smallest_limit_ >= first + count) {
    update_block(block_, keys, count, nullptr, scratch);
    return;
  }
  for (int i = 0; i < block_.lanes; ++i) {
    visible_[i] = static_cast<int32_t>(std::clamp<int64_t>(limits_[i] - first, 0, kTileRows));
  }
  update_block(block_, keys, count, visible_.data(), scratch);
}

void BlockState::add_columns(const RowKeys& keys, std::span<const int32_t> columns, Workspace& workspace) {
  float* scratch = workspace.scratch();
  for (size_t at = 0; at < columns.size(); at += kTileRows) {
    const auto part = columns.subspan(at, std::min<size_t>(kTileRows, columns.size() - at));
    RowKeys part_keys = keys;
    part_keys.rows += at;
    const auto count = static_cast<int>(part.size());
    if (part.back() < smallest_limit_) {
      update_block(block_, part_keys, count, nullptr, scratch);
      continue;
    }
    for (int i = 0; i < block_.lanes; ++i) {
      visible_[i] = static_cast<int32_t>(std::lower_bound(part.begin(), part.end(), limits_[i]) - part.begin());
    }
    update_block(block_, part_keys, count, visible_.data(), scratch);
  }
}

void BlockState::finish(AttentionPartial& result) const { finish_lanes(block_, lanes_, result); }

void FewState::start(const AttentionInput& input, const InputShape& shape, std::span<const LaneName> lanes) {
  const int64_t panel = kFewLanes * shape.head_dim;
  if (memory_head_dim_ != shape.head_dim) {
    memory_ = hwy::AllocateAligned<float>(static_cast<size_t>(2 * panel + 2 * kFewLanes));
    memory_head_dim_ = shape.head_dim;
  }
  float* memory = memory_.get();
  state_ = {.lanes = static_cast<int>(lanes.size()),
            .head_dim = shape.head_dim,
            .scale = shape.scale,
            .queries = memory,
            .out = memory + panel,
            .top = memory + 2 * panel,
            .sum = memory + 2 * panel + kFewLanes,
            .ahead = {}};
  std::copy(lanes.begin(), lanes.end(), lanes_.begin());
  const float* base = input.queries.data<float>();
  for (size_t i = 0; i < lanes.size(); ++i) {
    std::copy_n(base + (lanes[i].row * shape.query_heads + lanes[i].head) * shape.head_dim, shape.head_dim,
                memory + static_cast<int64_t>(i) * shape.head_dim);
  }
  std::fill_n(state_.out, panel, 0.0F);
  std::fill_n(state_.top, kFewLanes, -std::numeric_limits<float>::infinity());
  std::fill_n(state_.sum, kFewLanes, 0.0F);
}

void FewState::set_limits(const std::vector<int64_t>& limits) {
  largest_limit_ = 0;
  for (int i = 0; i < state_.lanes; ++i) {
    limits_[i] = limits[static_cast<size_t>(lanes_[i].row)];
    largest_limit_ = std::max(largest_limit_, limits_[i]);
  }
}

void FewState::add_tile(const KeyValueTile& stored, int64_t tile, const KeyValueTile* next, Workspace& workspace) {
  const int64_t first = tile * kTileRows;
  if (largest_limit_ <= first) return;
  for (int i = 0; i < state_.lanes; ++i) {
    visible_[i] = static_cast<int32_t>(std::clamp<int64_t>(limits_[i] - first, 0, kTileRows));
  }
  state_.ahead = stored_bytes(next, state_.head_dim);
  if (is_appendable(stored.format)) {
    update_few(state_, stored, visible_.data(), workspace.scratch());
    return;
  }
  const TileKeys expanded = workspace.expand(stored, state_.head_dim);
  const KeyValueTile plain{reinterpret_cast<const std::byte*>(expanded.keys), stored.rows, TileFormat::f32};
  update_few(state_, plain, visible_.data(), workspace.scratch());
}

void FewState::add_columns(const RowKeys& keys, std::span<const int32_t> columns, Workspace& workspace) {
  const int64_t head_dim = state_.head_dim;
  float* tile_keys = workspace.keys(head_dim);
  float* tile_values = workspace.values(head_dim);
  for (size_t at = 0; at < columns.size(); at += kTileRows) {
    const auto part = columns.subspan(at, std::min<size_t>(kTileRows, columns.size() - at));
    for (int64_t r = 0; r < kTileRows; ++r) {
      // Rows beyond the last column repeat it: they must be finite, and nobody sees them.
      const size_t i = std::min<size_t>(static_cast<size_t>(r), part.size() - 1);
      const int64_t row = keys.rows[at + i] * head_dim;
      for (int64_t c = 0; c < head_dim; ++c) tile_keys[c * kTileRows + r] = keys.keys[row + c];
      std::copy_n(keys.values + row, head_dim, tile_values + r * head_dim);
    }
    for (int i = 0; i < state_.lanes; ++i) {
      visible_[i] = static_cast<int32_t>(std::lower_bound(part.begin(), part.end(), limits_[i]) - part.begin());
    }
    const KeyValueTile plain{reinterpret_cast<const std::byte*>(tile_keys), kTileRows, TileFormat::f32};
    update_few(state_, plain, visible_.data(), workspace.scratch());
  }
}

void FewState::finish(AttentionPartial& result) const {
  const LaneBlock block{.lanes = state_.lanes,
                        .head_dim = state_.head_dim,
                        .scale = state_.scale,
                        .packed = nullptr,
                        .out = state_.out,
                        .top = state_.top,
                        .sum = state_.sum};
  finish_lanes(block, lanes_, result);
}

void Workspace::reserve(int64_t head_dim) {
  if (head_dim_ == head_dim) return;
  const int64_t plain = kTileRows * head_dim;
  tile_ = hwy::AllocateAligned<float>(static_cast<size_t>(2 * plain));
  packed_ = hwy::AllocateAligned<float>(static_cast<size_t>(plain + kKeyGroups * key_group_floats(head_dim)));
  head_dim_ = head_dim;
}

float* Workspace::keys(int64_t head_dim) {
  reserve(head_dim);
  return tile_.get();
}

float* Workspace::values(int64_t head_dim) { return keys(head_dim) + kTileRows * head_dim; }

float* Workspace::scratch() {
  if (!scratch_) scratch_ = hwy::AllocateAligned<float>(static_cast<size_t>(kUpdateScratch));
  return scratch_.get();
}

TileKeys Workspace::expand(const KeyValueTile& tile, int64_t head_dim) {
  if (tile.format == TileFormat::f32) {
    const auto* stored = reinterpret_cast<const float*>(tile.data);
    return {stored, stored + kTileRows * head_dim};
  }
  expand_tile(tile, head_dim, keys(head_dim), values(head_dim));
  return {keys(head_dim), values(head_dim)};
}

TileKeys Workspace::expand_keys(const KeyValueTile& tile, int64_t head_dim) {
  if (tile.format == TileFormat::f32) return {reinterpret_cast<const float*>(tile.data), nullptr};
  expand_tile(tile, head_dim, keys(head_dim), nullptr);
  return {keys(head_dim), nullptr};
}

PackedTile Workspace::pack(const KeyValueTile& tile, int64_t head_dim) {
  reserve(head_dim);
  float* packed_values = packed_.get();
  float* packed_keys = packed_values + kTileRows * head_dim;
  if (is_appendable(tile.format)) {
    pack_tile(tile, head_dim, packed_keys, packed_values);
  } else {
    const TileKeys plain = expand(tile, head_dim);
    pack_tile({reinterpret_cast<const std::byte*>(plain.keys), tile.rows, TileFormat::f32}, head_dim, packed_keys,
              packed_values);
  }
  return {packed_keys, packed_values, {}};
}

PackedTile Workspace::pack_keys(const KeyValueTile& tile, int64_t head_dim) {
  reserve(head_dim);
  float* packed_keys = packed_.get() + kTileRows * head_dim;
  if (is_appendable(tile.format)) {
    pack_tile(tile, head_dim, packed_keys, nullptr);
  } else {
    const TileKeys plain = expand_keys(tile, head_dim);
    pack_tile({reinterpret_cast<const std::byte*>(plain.keys), tile.rows, TileFormat::f32}, head_dim, packed_keys,
              nullptr);
  }
  return {packed_keys, nullptr, {}};
}

Workspace& Workspace::of_this_thread() {
  thread_local Workspace workspace;
  return workspace;
}

}  // namespace tessera::attention
