#include <algorithm>
#include <numeric>
#include <vector>

#include "attention/block_state.h"
#include "attention/mean_correction.h"
#include "tessera/attention/attention.h"
#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

constexpr int64_t kGatheredBytes = int64_t{64} << 20;  // gathered columns held at a time, unless one head needs more

int64_t query_tiles(const InputShape& shape) { return (shape.rows + kTileRows - 1) / kTileRows; }

// The columns of one query head, copied out of the tiles once for all its query tiles.
struct GatheredColumns {
  hwy::AlignedFreeUniquePtr<float[]> keys;    // [columns][head_dim]
  hwy::AlignedFreeUniquePtr<float[]> values;  // [columns][head_dim]
};

int64_t gathered_bytes(const HeadWork& work, int64_t head_dim) {
  return static_cast<int64_t>(work.columns.size()) * head_dim * 2 * static_cast<int64_t>(sizeof(float));
}

GatheredColumns gather(const HeadKeys& head, const HeadWork& work, int64_t head_dim) {
  GatheredColumns gathered;
  if (work.columns.empty()) return gathered;
  const auto size = static_cast<size_t>(static_cast<int64_t>(work.columns.size()) * head_dim);
  gathered.keys = hwy::AllocateAligned<float>(size);
  gathered.values = hwy::AllocateAligned<float>(size);
  Workspace& workspace = Workspace::of_this_thread();
  for (size_t begin = 0, end = 0; begin < work.columns.size(); begin = end) {
    const int32_t tile = work.columns[begin] / kTileRows;
    while (end < work.columns.size() && work.columns[end] / kTileRows == tile) ++end;
    const TileKeys source = workspace.expand(head.tiles[static_cast<size_t>(tile)], head_dim);
    float* keys = gathered.keys.get();
    for (int64_t c = 0; c < head_dim; ++c) {
      for (size_t i = begin; i < end; ++i) {
        keys[static_cast<int64_t>(i) * head_dim + c] = source.keys[c * kTileRows + work.columns[i] % kTileRows];
      }
    }
    for (size_t i = begin; i < end; ++i) {
      std::copy_n(source.values + work.columns[i] % kTileRows * head_dim, head_dim,
                  gathered.values.get() + static_cast<int64_t>(i) * head_dim);
    }
  }
  return gathered;
}

// Work of one query tile of one query head.
struct Unit {
  int64_t head;
  int64_t query_tile;
  int64_t cost;  // key rows, an upper bound
};

std::span<const int32_t> listed_tiles(const HeadWork& work, int64_t query_tile) {
  const auto first = static_cast<size_t>(work.tile_begin[static_cast<size_t>(query_tile)]);
  const auto last = static_cast<size_t>(work.tile_begin[static_cast<size_t>(query_tile) + 1]);
  return std::span(work.tiles).subspan(first, last - first);
}

// Columns of a query tile that it sees and that lie in none of its tiles: their rows and their places in the gathered
// copy.
struct ActiveColumns {
  std::vector<int32_t> rows;
  std::vector<int32_t> places;
};
void find_active_columns(const HeadWork& work, int64_t query_tile, int64_t limit, ActiveColumns& active) {
  active.rows.clear();
  active.places.clear();
  if (work.columns.empty()) return;
  const std::span<const int32_t> tiles = listed_tiles(work, query_tile);
  auto tile = tiles.begin();
  for (int32_t place = 0; place < work.column_end[static_cast<size_t>(query_tile)]; ++place) {
    const int32_t row = work.columns[static_cast<size_t>(place)];
    if (row >= limit) return;
    while (tile != tiles.end() && *tile < row / kTileRows) ++tile;
    if (tile != tiles.end() && *tile == row / kTileRows) continue;
    active.rows.push_back(row);
    active.places.push_back(place);
  }
}

struct UnitInput {
  const HeadKeys& head;
  const HeadWork& work;
  const GatheredColumns& gathered;
  const std::vector<int64_t>& limits;  // [query rows]
};

template <class State>
void run_unit(const AttentionInput& input, const InputShape& shape, const Unit& unit, const UnitInput& with,
              State& state, AttentionPartial& result) {
  std::array<LaneName, kBlockLanes> lanes;
  const int64_t first_row = unit.query_tile * kTileRows;
  const int64_t count = std::min<int64_t>(kTileRows, shape.rows - first_row);
  for (int64_t i = 0; i < count; ++i) lanes[static_cast<size_t>(i)] = {first_row + i, unit.head};
  state.start(input, shape, std::span(lanes).first(static_cast<size_t>(count)));
  state.set_limits(with.limits);

  Workspace& workspace = Workspace::of_this_thread();
  const std::span<const KeyValueTile> tiles = with.head.tiles;
  const int64_t visible_tiles = (state.largest_limit() + kTileRows - 1) / kTileRows;
  if (with.work.dense) {
    for (int64_t tile = 0; tile < visible_tiles; ++tile) {
      const KeyValueTile* stored = &tiles[static_cast<size_t>(tile)];
      state.add_tile(*stored, tile, tile + 1 < visible_tiles ? stored + 1 : nullptr, workspace);
    }
  } else {
    const std::span<const int32_t> listed = listed_tiles(with.work, unit.query_tile);
    for (size_t i = 0; i < listed.size() && listed[i] < visible_tiles; ++i) {
      const KeyValueTile* next = i + 1 < listed.size() ? &tiles[static_cast<size_t>(listed[i + 1])] : nullptr;
      state.add_tile(tiles[static_cast<size_t>(listed[i])], listed[i], next, workspace);
    }
    thread_local ActiveColumns active;
    find_active_columns(with.work, unit.query_tile, state.largest_limit(), active);
    const RowKeys keys{with.gathered.keys.get(), with.gathered.values.get(), active.places.data()};
    state.add_columns(keys, active.rows, workspace);
  }
  state.finish(result);
}

void check_fits(const InputShape& shape, const AttentionInput& input, const WorkList& work) {
  if (work.query_rows != shape.rows || static_cast<int64_t>(work.heads.size()) != shape.query_heads) {
    throw Error(ErrorCode::invalid_argument,
                "attend: expected a work list for {} query rows and {} query heads, found {} and {}", shape.rows,
                shape.query_heads, work.query_rows, work.heads.size());
  }
  for (size_t h = 0; h < work.heads.size(); ++h) {
    const HeadWork& head = work.heads[h];
    const int64_t rows = input.heads[h / static_cast<size_t>(shape.group)].rows;
    const bool columns_fit = head.columns.empty() || head.columns.back() < rows;
    const bool tiles_fit =
        head.tiles.empty() || *std::max_element(head.tiles.begin(), head.tiles.end()) * int64_t{64} < rows;
    const bool begins_fit = head.dense || static_cast<int64_t>(head.tile_begin.size()) == work.query_tiles() + 1;
    if (!columns_fit || !tiles_fit || !begins_fit) {
      throw Error(ErrorCode::invalid_argument, "attend: the work list of query head {} does not fit its {} key rows", h,
                  rows);
    }
  }
}

}  // namespace

AttentionPartial attend(const AttentionInput& input, const WorkList& work, const AttentionOptions& options) {
  check(input);
  const InputShape shape(input);
  check_fits(shape, input, work);
  if (options.correction_levels < 0 || options.correction_levels > 2) {
    throw Error(ErrorCode::invalid_argument, "attend: expected correction_levels 0, 1 or 2, found {}",
                options.correction_levels);
  }
  if (std::all_of(work.heads.begin(), work.heads.end(), [](const HeadWork& head) { return head.dense; })) {
    return attend_dense(input, options);
  }
  AttentionPartial result = empty_partial(shape.rows, shape.query_heads, shape.head_dim);
  if (shape.rows == 0) return result;
  std::vector<std::vector<int64_t>> limits;  // [kv_heads][rows]
  for (const HeadKeys& head : input.heads) limits.push_back(visible_rows(input, head));
  ThreadPool& pool = options.pool != nullptr ? *options.pool : ThreadPool::shared();

  std::vector<GatheredColumns> gathered(work.heads.size());
  for (size_t begin = 0, end = 0; begin < work.heads.size(); begin = end) {
    int64_t bytes = 0;
    do {
      bytes += gathered_bytes(work.heads[end++], shape.head_dim);
    } while (end < work.heads.size() && bytes + gathered_bytes(work.heads[end], shape.head_dim) <= kGatheredBytes);

    std::vector<Unit> units;
    for (size_t h = begin; h < end; ++h) {
      const HeadWork& head = work.heads[h];
      for (int64_t t = 0; t < query_tiles(shape); ++t) {
        const int64_t last_row = std::min((t + 1) * kTileRows, shape.rows) - 1;
        int64_t cost = limits[h / static_cast<size_t>(shape.group)][static_cast<size_t>(last_row)];
        if (!head.dense) {
          const int64_t columns = head.columns.empty() ? 0 : head.column_end[static_cast<size_t>(t)];
          cost = static_cast<int64_t>(listed_tiles(head, t).size()) * kTileRows + columns;
        }
        units.push_back({static_cast<int64_t>(h), t, cost});
      }
    }
    std::stable_sort(units.begin(), units.end(), [](const Unit& a, const Unit& b) { return a.cost > b.cost; });

    pool.parallel_for(static_cast<int64_t>(begin), static_cast<int64_t>(end), 1, [&](int64_t h, int64_t, int) {
      const auto index = static_cast<size_t>(h);
      gathered[index] = gather(input.heads[static_cast<size_t>(h / shape.group)], work.heads[index], shape.head_dim);
    });
    pool.parallel_for(0, static_cast<int64_t>(units.size()), 1, [&](int64_t u, int64_t, int) {
      const Unit& unit = units[static_cast<size_t>(u)];
      const auto head = static_cast<size_t>(unit.head);
      const auto kv_head = static_cast<size_t>(unit.head / shape.group);
      const UnitInput with{input.heads[kv_head], work.heads[head], gathered[head], limits[kv_head]};
      Workspace& workspace = Workspace::of_this_thread();
      if (shape.rows <= kFewLanes) {
        run_unit(input, shape, unit, with, workspace.few, result);
      } else {
        run_unit(input, shape, unit, with, workspace.blocks[0], result);
      }
    });
    for (size_t h = begin; h < end; ++h) gathered[h] = {};
  }
  if (options.correction_levels > 0) {
    merge_into(result, attend_means(input, work, options.correction_levels, pool));
  }
  return result;
}

}  // namespace tessera::attention
