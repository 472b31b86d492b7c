#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "attention/block_state.h"
#include "attention/mean_correction.h"
#include "tessera/attention/attention.h"
#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

constexpr int64_t kUnitsWanted = 32;                   // units get shorter where there would be fewer
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

// Work of consecutive query tiles of one query head. Neighbours list mostly the same key tiles, and each of these is
// packed once for all of them.
struct Unit {
  int64_t head;
  int64_t first_tile;  // query tile
  int64_t tiles;       // 1..kBlocksPerUnit
  int64_t cost;        // key rows, an upper bound
};

// Query tiles per unit. Results do not depend on it.
int64_t tiles_per_unit(const InputShape& shape) {
  const int64_t most = shape.head_dim <= 128 ? kBlocksPerUnit : kBlocksPerUnit / 2;
  return std::clamp<int64_t>(query_tiles(shape) * shape.query_heads / kUnitsWanted, 1, most);
}

std::span<const int32_t> listed_tiles(const HeadWork& work, int64_t query_tile) {
  const auto first = static_cast<size_t>(work.tile_begin[static_cast<size_t>(query_tile)]);
  const auto last = static_cast<size_t>(work.tile_begin[static_cast<size_t>(query_tile) + 1]);
  return std::span(work.tiles).subspan(first, last - first);
}

// Key rows that a query tile computes, an upper bound; limits[row] is what each query row sees.
int64_t key_rows(const HeadWork& work, const std::vector<int64_t>& limits, int64_t query_tile) {
  if (work.dense) {
    const size_t past = std::min((static_cast<size_t>(query_tile) + 1) * kTileRows, limits.size());
    return limits[past - 1];
  }
  const int64_t columns = work.columns.empty() ? 0 : work.column_end[static_cast<size_t>(query_tile)];
  return static_cast<int64_t>(listed_tiles(work, query_tile).size()) * kTileRows + columns;
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

// Goes through the key tiles that a query tile lists, or through all of them.
struct TileCursor {
  static constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();
  std::span<const int32_t> listed;
  bool all = false;
  int64_t end = 0;  // first tile that no row sees
  int64_t at = 0;

  TileCursor() = default;
  TileCursor(const HeadWork& work, int64_t query_tile, int64_t largest_limit)
      : all(work.dense), end((largest_limit + kTileRows - 1) / kTileRows) {
    if (!all) listed = listed_tiles(work, query_tile);
  }
  // kEnd behind the last one.
  int64_t tile() const {
    if (!all && at >= static_cast<int64_t>(listed.size())) return kEnd;
    const int64_t tile = all ? at : listed[static_cast<size_t>(at)];
    return tile < end ? tile : kEnd;
  }
};

// Starts `state` with the rows of a query tile.
template <class State>
void start(State& state, const AttentionInput& input, const InputShape& shape, int64_t head, int64_t query_tile) {
  std::array<LaneName, kBlockLanes> lanes;
  const int64_t first_row = query_tile * kTileRows;
  const int64_t count = std::min<int64_t>(kTileRows, shape.rows - first_row);
  for (int64_t i = 0; i < count; ++i) lanes[static_cast<size_t>(i)] = {first_row + i, head};
  state.start(input, shape, std::span(lanes).first(static_cast<size_t>(count)));
}

// Adds the columns and writes the result.
template <class State>
void complete(State& state, int64_t query_tile, const UnitInput& with, AttentionPartial& result) {
  if (!with.work.dense) {
    thread_local ActiveColumns active;
    find_active_columns(with.work, query_tile, state.largest_limit(), active);
    const RowKeys keys{with.gathered.keys.get(), with.gathered.values.get(), active.places.data()};
    state.add_columns(keys, active.rows, Workspace::of_this_thread());
  }
  state.finish(result);
}

// At most kFewLanes query rows: tiles are read as stored.
void run_few(const AttentionInput& input, const InputShape& shape, const Unit& unit, const UnitInput& with,
             AttentionPartial& result) {
  Workspace& workspace = Workspace::of_this_thread();
  FewState& state = workspace.few;
  start(state, input, shape, unit.head, unit.first_tile);
  state.set_limits(with.limits);
  TileCursor cursor(with.work, unit.first_tile, state.largest_limit());
  for (int64_t tile = cursor.tile(); tile != TileCursor::kEnd;) {
    ++cursor.at;
    const int64_t next = cursor.tile();
    state.add_tile(with.head.tiles[static_cast<size_t>(tile)], tile,
                   next != TileCursor::kEnd ? &with.head.tiles[static_cast<size_t>(next)] : nullptr, workspace);
    tile = next;
  }
  complete(state, unit.first_tile, with, result);
}

void run_blocks(const AttentionInput& input, const InputShape& shape, const Unit& unit, const UnitInput& with,
                AttentionPartial& result) {
  Workspace& workspace = Workspace::of_this_thread();
  std::array<TileCursor, kBlocksPerUnit> all_cursors;
  const std::span<TileCursor> cursors = std::span(all_cursors).first(static_cast<size_t>(unit.tiles));
  for (size_t b = 0; b < cursors.size(); ++b) {
    const int64_t query_tile = unit.first_tile + static_cast<int64_t>(b);
    start(workspace.blocks[b], input, shape, unit.head, query_tile);
    workspace.blocks[b].set_limits(with.limits);
    cursors[b] = TileCursor(with.work, query_tile, workspace.blocks[b].largest_limit());
  }
  const auto first_tile = [&] {
    int64_t tile = TileCursor::kEnd;
    for (const TileCursor& cursor : cursors) tile = std::min(tile, cursor.tile());
    return tile;
  };
  std::array<size_t, kBlocksPerUnit> users;
  for (int64_t tile = first_tile(); tile != TileCursor::kEnd;) {
    size_t count = 0;
    for (size_t b = 0; b < cursors.size(); ++b) {
      if (cursors[b].tile() != tile) continue;
      users[count++] = b;
      ++cursors[b].at;
    }
    const int64_t next_tile = first_tile();
    const KeyValueTile* next =
        next_tile != TileCursor::kEnd ? &with.head.tiles[static_cast<size_t>(next_tile)] : nullptr;
    const std::span<const std::byte> ahead = stored_bytes(next, shape.head_dim);
    const size_t share = ahead.size() / count;
    PackedTile keys = workspace.pack(with.head.tiles[static_cast<size_t>(tile)], shape.head_dim);
    for (size_t i = 0; i < count; ++i) {
      keys.ahead = ahead.subspan(i * share, share);
      workspace.blocks[users[i]].add_tile(keys, tile, workspace.scratch());
    }
    tile = next_tile;
  }
  for (size_t b = 0; b < cursors.size(); ++b) {
    complete(workspace.blocks[b], unit.first_tile + static_cast<int64_t>(b), with, result);
  }
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

  const int64_t step = tiles_per_unit(shape);
  const auto group = static_cast<size_t>(shape.group);
  std::vector<GatheredColumns> gathered(work.heads.size());
  for (size_t begin = 0, end = 0; begin < work.heads.size(); begin = end) {
    int64_t bytes = 0;
    do {
      bytes += gathered_bytes(work.heads[end++], shape.head_dim);
    } while (end < work.heads.size() && bytes + gathered_bytes(work.heads[end], shape.head_dim) <= kGatheredBytes);

    std::vector<Unit> units;
    for (size_t h = begin; h < end; ++h) {
      const HeadWork& head = work.heads[h];
      for (int64_t t = 0; t < query_tiles(shape); t += step) {
        Unit unit{static_cast<int64_t>(h), t, std::min(step, query_tiles(shape) - t), 0};
        for (int64_t i = t; i < t + unit.tiles; ++i) unit.cost += key_rows(head, limits[h / group], i);
        units.push_back(unit);
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
      if (shape.rows <= kFewLanes) {
        run_few(input, shape, unit, with, result);
      } else {
        run_blocks(input, shape, unit, with, result);
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
