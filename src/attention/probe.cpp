#include "attention/probe.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

struct LaneSums {
  alignas(64) std::array<float, kBlockLanes> top;
  alignas(64) std::array<float, kBlockLanes> sum;
};

// Probe rows of one KV head, and which of its rows each of them sees.
struct HeadProbe {
  std::vector<int64_t> limits;  // [probe rows]
  int64_t smallest_limit = 0;
  int64_t largest_limit = 0;
  alignas(64) std::array<int32_t, kBlockLanes> visible = {};

  // The `visible` argument of the kernels for a key tile; null when all rows see all `count` keys.
  const int32_t* visible_in(int64_t tile, int count) {
    if (smallest_limit >= tile * kTileRows + count) return nullptr;
    for (size_t i = 0; i < limits.size(); ++i) {
      visible[i] = static_cast<int32_t>(std::clamp<int64_t>(limits[i] - tile * kTileRows, 0, kTileRows));
    }
    return visible.data();
  }
  int64_t tiles() const { return (largest_limit + kTileRows - 1) / kTileRows; }
  int count_in(int64_t tile) const {
    return static_cast<int>(std::min<int64_t>(kTileRows, largest_limit - tile * kTileRows));
  }
};

}  // namespace

void probe(const AttentionInput& input, const ProbeRows& what, ThreadPool& pool, const ProbeSink& sink) {
  const std::span<const int64_t> rows = what.rows;
  TESSERA_ASSERT(!rows.empty() && rows.size() <= kBlockLanes);
  const InputShape shape(input);
  const int64_t first_head = what.first_kv_head * shape.group;  // query head
  std::vector<HeadProbe> probes(static_cast<size_t>(what.kv_heads));
  int64_t ranges = 0;
  for (size_t h = 0; h < probes.size(); ++h) {
    for (const int64_t row : rows) {
      probes[h].limits.push_back(
          visible_rows(input.heads[static_cast<size_t>(what.first_kv_head) + h], input.first_position + row));
    }
    const auto [low, high] = std::minmax_element(probes[h].limits.begin(), probes[h].limits.end());
    probes[h].smallest_limit = *low;
    probes[h].largest_limit = *high;
    ranges = std::max(ranges, (probes[h].tiles() + kProbeRangeTiles - 1) / kProbeRangeTiles);
  }
  const int64_t tasks = what.kv_heads * ranges;

  // Runs body(block of query head, its index, tile, keys, count, visible) over the tiles of one task.
  const auto for_tiles = [&](int64_t task, const auto& begin_head, const auto& per_tile, const auto& end_head) {
    const int64_t kv_head = what.first_kv_head + task / ranges;
    const int64_t range = task % ranges;
    HeadProbe head_probe = probes[static_cast<size_t>(task / ranges)];
    const HeadKeys& head = input.heads[static_cast<size_t>(kv_head)];
    Workspace& workspace = Workspace::of_this_thread();
    std::vector<BlockState> states(static_cast<size_t>(shape.group));
    for (int64_t g = 0; g < shape.group; ++g) {
      std::array<LaneName, kBlockLanes> lanes;
      for (size_t i = 0; i < rows.size(); ++i) lanes[i] = {rows[i], kv_head * shape.group + g};
      BlockState& state = states[static_cast<size_t>(g)];
      state.start(input, shape, std::span(lanes).first(rows.size()));
      begin_head(state.block(), kv_head * shape.group + g);
    }
    const int64_t last = std::min(head_probe.tiles(), (range + 1) * kProbeRangeTiles);
    for (int64_t tile = range * kProbeRangeTiles; tile < last; ++tile) {
      const PackedTile keys = workspace.pack_keys(head.tiles[static_cast<size_t>(tile)], shape.head_dim);
      const int count = head_probe.count_in(tile);
      const int32_t* visible = head_probe.visible_in(tile, count);
      for (int64_t g = 0; g < shape.group; ++g) {
        const ProbeTile at{kv_head * shape.group + g, range, tile, count, workspace.scratch()};
        per_tile(states[static_cast<size_t>(g)].block(), keys, visible, at);
      }
    }
    for (int64_t g = 0; g < shape.group; ++g) {
      end_head(states[static_cast<size_t>(g)].block(), kv_head * shape.group + g, range);
    }
  };

  std::vector<LaneSums> partial(static_cast<size_t>(tasks * shape.group));
  pool.parallel_for(0, tasks, 1, [&](int64_t task, int64_t, int) {
    for_tiles(
        task, [](LaneBlock&, int64_t) {},
        [](LaneBlock& block, const PackedTile& keys, const int32_t* visible, const ProbeTile& at) {
          observe_block(block, keys, at.count, visible, Workspace::of_this_thread().scratch());
        },
        [&](LaneBlock& block, int64_t head, int64_t range) {
          LaneSums& sums = partial[static_cast<size_t>((head - first_head) * ranges + range)];
          std::copy_n(block.top, kBlockLanes, sums.top.begin());
          std::copy_n(block.sum, kBlockLanes, sums.sum.begin());
        });
  });

  // Merge the ranges, in order.
  std::vector<LaneSums> merged(static_cast<size_t>(what.kv_heads * shape.group));
  for (int64_t head = 0; head < what.kv_heads * shape.group; ++head) {
    LaneSums& total = merged[static_cast<size_t>(head)];
    for (size_t lane = 0; lane < kBlockLanes; ++lane) {
      float top = -std::numeric_limits<float>::infinity();
      const auto part = [&](int64_t range) -> const LaneSums& {
        return partial[static_cast<size_t>(head * ranges + range)];
      };
      for (int64_t range = 0; range < ranges; ++range) top = std::max(top, part(range).top[lane]);
      double sum = 0;
      for (int64_t range = 0; range < ranges; ++range) {
        if (part(range).sum[lane] > 0) {
          sum += part(range).sum[lane] * std::exp(static_cast<double>(shape.scale) * (part(range).top[lane] - top));
        }
      }
      total.top[lane] = top;
      total.sum[lane] = static_cast<float>(sum);
    }
  }

  pool.parallel_for(0, tasks, 1, [&](int64_t task, int64_t, int) {
    for_tiles(
        task,
        [&](LaneBlock& block, int64_t head) {
          std::copy_n(merged[static_cast<size_t>(head - first_head)].top.begin(), kBlockLanes, block.top);
          std::copy_n(merged[static_cast<size_t>(head - first_head)].sum.begin(), kBlockLanes, block.sum);
        },
        [&](LaneBlock& block, const PackedTile& keys, const int32_t* visible, const ProbeTile& at) {
          weigh_block(block, keys, at.count, visible, Workspace::of_this_thread().scratch());
          sink(at);
        },
        [](LaneBlock&, int64_t, int64_t) {});
  });
}

}  // namespace tessera::attention
