#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "attention/block_state.h"
#include "tessera/attention/attention.h"
#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

constexpr int64_t kUnitsWanted = 32;     // fewer units than this are split along the keys
constexpr int64_t kRowsPerSplit = 1024;  // at least so many key rows in a split, a multiple of 64

// A unit of dense work: consecutive lanes of one KV head against a range of its key rows. Lane l of a KV head is query
// row l / group of its group's query head l % group. How work is cut depends on shapes only, so results do not depend
// on the number of threads.
struct Plan {
  int64_t lanes;  // rows * group, per KV head
  int64_t lanes_per_unit;
  int64_t spans;           // units along the lanes
  int64_t splits;          // units along the keys
  int64_t rows_per_split;  // a multiple of 64

  Plan(const InputShape& shape, int64_t key_rows) {
    lanes = shape.rows * shape.group;
    lanes_per_unit = kBlockLanes * (shape.head_dim <= 128 ? kBlocksPerUnit : kBlocksPerUnit / 2);
    spans = (lanes + lanes_per_unit - 1) / lanes_per_unit;
    const int64_t units = std::max<int64_t>(1, spans * shape.kv_heads);
    splits = std::clamp<int64_t>(kUnitsWanted / units, 1, std::max<int64_t>(1, key_rows / kRowsPerSplit));
    const int64_t tiles = (key_rows + kTileRows - 1) / kTileRows;
    rows_per_split = std::max<int64_t>(1, (tiles + splits - 1) / splits) * kTileRows;
  }
};

struct KeyRange {
  int64_t first;  // row, a multiple of 64
  int64_t last;   // one past
};

// Few lanes: tiles are read as stored.
void run_few(const AttentionInput& input, const InputShape& shape, int64_t kv_head, const KeyRange& range,
             const std::vector<int64_t>& limits, AttentionPartial& result) {
  Workspace& workspace = Workspace::of_this_thread();
  const HeadKeys& head = input.heads[static_cast<size_t>(kv_head)];
  std::array<LaneName, kFewLanes> lanes = {};
  const int64_t count = shape.rows * shape.group;
  for (int64_t i = 0; i < count; ++i) {
    lanes[static_cast<size_t>(i)] = {i / shape.group, kv_head * shape.group + i % shape.group};
  }
  FewState& state = workspace.few;
  state.start(input, shape, std::span(lanes).first(static_cast<size_t>(count)));
  state.set_limits(limits);
  const int64_t end = std::min(range.last, state.largest_limit());
  for (int64_t first = range.first; first < end; first += kTileRows) {
    const int64_t tile = first / kTileRows;
    const KeyValueTile* stored = &head.tiles[static_cast<size_t>(tile)];
    state.add_tile(*stored, tile, first + kTileRows < end ? stored + 1 : nullptr, workspace);
  }
  state.finish(result);
}

// Lanes [first, first + count) in blocks of 64; every tile is expanded once for all of them.
struct LaneSpan {
  int64_t kv_head;
  int64_t first;
  int64_t count;
};
void run_span(const AttentionInput& input, const InputShape& shape, const LaneSpan& span, const KeyRange& range,
              const std::vector<int64_t>& limits, AttentionPartial& result) {
  Workspace& workspace = Workspace::of_this_thread();
  const HeadKeys& head = input.heads[static_cast<size_t>(span.kv_head)];
  const int64_t blocks = (span.count + kBlockLanes - 1) / kBlockLanes;
  int64_t end = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    std::array<LaneName, kBlockLanes> lanes;
    const int64_t count = std::min<int64_t>(kBlockLanes, span.count - b * kBlockLanes);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t lane = span.first + b * kBlockLanes + i;
      lanes[static_cast<size_t>(i)] = {lane / shape.group, span.kv_head * shape.group + lane % shape.group};
    }
    BlockState& block = workspace.blocks[static_cast<size_t>(b)];
    block.start(input, shape, std::span(lanes).first(static_cast<size_t>(count)));
    block.set_limits(limits);
    end = std::max(end, block.largest_limit());
  }
  end = std::min(end, range.last);
  for (int64_t first = range.first; first < end; first += kTileRows) {
    const int64_t tile = first / kTileRows;
    const KeyValueTile* stored = &head.tiles[static_cast<size_t>(tile)];
    PackedTile keys = workspace.pack(*stored, shape.head_dim);
    const std::span<const std::byte> next =
        stored_bytes(first + kTileRows < end ? stored + 1 : nullptr, shape.head_dim);
    const size_t share = next.size() / static_cast<size_t>(blocks);
    for (int64_t b = 0; b < blocks; ++b) {
      keys.ahead = next.subspan(static_cast<size_t>(b) * share, share);
      workspace.blocks[static_cast<size_t>(b)].add_tile(keys, tile, workspace.scratch());
    }
  }
  for (int64_t b = 0; b < blocks; ++b) workspace.blocks[static_cast<size_t>(b)].finish(result);
}

}  // namespace

void check(const AttentionInput& input) {
  const Shape& shape = input.queries.shape();
  if (shape.rank() != 3 || input.queries.dtype() != DType::f32) {
    throw Error(ErrorCode::invalid_argument,
                "attention: expected f32 queries of shape [rows, query_heads, head_dim], found {} {}",
                to_string(input.queries.dtype()), shape.str());
  }
  if (shape[2] < 32 || shape[2] > 256 || shape[2] % 32 != 0) {
    throw Error(ErrorCode::invalid_argument, "attention: expected a head_dim of 32, 64, ..., 256, found {}", shape[2]);
  }
  const auto kv_heads = static_cast<int64_t>(input.heads.size());
  if (kv_heads == 0 || shape[1] == 0 || shape[1] % kv_heads != 0) {
    throw Error(ErrorCode::invalid_argument,
                "attention: expected query heads to be a multiple of KV heads, found {} and {}", shape[1], kv_heads);
  }
  if (!std::isfinite(input.scale) || input.scale < 0 || input.first_position < 0) {
    throw Error(ErrorCode::invalid_argument,
                "attention: expected a finite scale >= 0 and a first position >= 0, found {} and {}", input.scale,
                input.first_position);
  }
  for (const HeadKeys& head : input.heads) {
    const bool tiles_fit = head.rows >= 0 && static_cast<int64_t>(head.tiles.size()) * kTileRows >= head.rows;
    const bool positions_fit = head.positions.empty() || static_cast<int64_t>(head.positions.size()) >= head.rows;
    if (!tiles_fit || !positions_fit || head.rows > std::numeric_limits<int32_t>::max()) {
      throw Error(ErrorCode::invalid_argument, "attention: a KV head has {} rows but {} tiles and {} positions",
                  head.rows, head.tiles.size(), head.positions.size());
    }
  }
}

AttentionPartial attend_dense(const AttentionInput& input, const AttentionOptions& options) {
  check(input);
  const InputShape shape(input);
  AttentionPartial result = empty_partial(shape.rows, shape.query_heads, shape.head_dim);
  if (shape.rows == 0) return result;
  std::vector<std::vector<int64_t>> limits;  // [kv_heads][rows]
  int64_t key_rows = 0;
  for (const HeadKeys& head : input.heads) {
    limits.push_back(visible_rows(input, head));
    key_rows = std::max(key_rows, limits.back().back());
  }
  const Plan plan(shape, key_rows);
  std::vector<AttentionPartial> parts(static_cast<size_t>(plan.splits));
  parts[0] = std::move(result);
  for (size_t split = 1; split < parts.size(); ++split) {
    parts[split] = empty_partial(shape.rows, shape.query_heads, shape.head_dim);
  }
  ThreadPool& pool = options.pool != nullptr ? *options.pool : ThreadPool::shared();
  const int64_t units = plan.spans * shape.kv_heads * plan.splits;
  pool.parallel_for(0, units, 1, [&](int64_t unit, int64_t, int) {
    // The last lanes see the most keys and go first.
    const int64_t first = (plan.spans - 1 - unit / (shape.kv_heads * plan.splits)) * plan.lanes_per_unit;
    const int64_t kv_head = unit / plan.splits % shape.kv_heads;
    const int64_t split = unit % plan.splits;
    const KeyRange range{split * plan.rows_per_split, (split + 1) * plan.rows_per_split};
    AttentionPartial& part = parts[static_cast<size_t>(split)];
    const std::vector<int64_t>& head_limits = limits[static_cast<size_t>(kv_head)];
    if (plan.lanes <= kFewLanes) {
      run_few(input, shape, kv_head, range, head_limits, part);
    } else {
      const LaneSpan span{kv_head, first, std::min(plan.lanes_per_unit, plan.lanes - first)};
      run_span(input, shape, span, range, head_limits, part);
    }
  });
  for (size_t split = 1; split < parts.size(); ++split) merge_into(parts[0], parts[split]);
  return std::move(parts[0]);
}

double skipped_mass(const AttentionInput& input, const AttentionPartial& sparse, int sample_rows,
                    const AttentionOptions& options) {
  check(input);
  const InputShape shape(input);
  if (sparse.lse.shape() != Shape({shape.rows, shape.query_heads}) || sample_rows < 1) {
    throw Error(ErrorCode::invalid_argument,
                "skipped_mass: expected lse [{}, {}] and at least one row, found {} and {}", shape.rows,
                shape.query_heads, sparse.lse.shape().str(), sample_rows);
  }
  if (shape.rows == 0) return 0;
  const int64_t samples = std::min<int64_t>(sample_rows, shape.rows);
  double skipped = 0;
  for (int64_t sample = 0; sample < samples; ++sample) {
    const int64_t row = (sample + 1) * shape.rows / samples - 1;
    AttentionInput one = input;
    one.queries = input.queries.slice(row, 1);
    one.first_position = input.first_position + row;
    const AttentionPartial dense = attend_dense(one, options);
    for (int64_t head = 0; head < shape.query_heads; ++head) {
      const double full = dense.lse.data<float>()[head];
      const double kept = sparse.lse.data<float>()[row * shape.query_heads + head];
      if (std::isfinite(full)) skipped += std::clamp(1.0 - std::exp(kept - full), 0.0, 1.0);
    }
  }
  return skipped / static_cast<double>(samples * shape.query_heads);
}

}  // namespace tessera::attention
