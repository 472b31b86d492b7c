// Bodies of the kernels that choose columns and bands by recall or by computed tiles, one team of blocks per query
// head.
//
// Probe rows are spread over the prompt in groups of four. A band is the key tile e tiles before the own one, for every
// query tile; a column is one key row. The even groups choose, the odd ones judge: lines are ordered by what the even
// groups give them, and taken until they hold the wanted share of the odd groups' mass, who had no say. A column's
// worth leaves out the row that likes it best: where a sharp diagonal meets the probe rows, every row likes a column of
// its own, and none of them helps other rows.
//
//   0. columns are ordered by their worth;
//   1. bands and columns compete by mass per computed tile until their masses together reach the target; this stops too
//      early, for a pair counts in its column and in its band;
//   2. again, with what the columns of step 1 leave of the band masses: the columns of this choice stay;
//   3. bands, disjoint by nature, are taken by what all columns leave, until the target is reached exactly (no pair
//   counts
//      twice).
//
// The choice is of whole values: items of equal worth are all taken or all left. Masses are added as integers, so the
// order of the threads does not matter. Cost: about eight reads of the column masses by a team of blocks.
#pragma once

#include "attention/cuda/host_device.h"
#include "attention/cuda/line_lists.h"

namespace tessera::attention::cuda {

constexpr int kBandRows = 128;               // query and key rows of a band's tiles
constexpr int kBandGroups = 16;              // of probe rows
constexpr float kMassUnits = 16777216.0F;    // of one probe row
constexpr float kCostUnits = 1073741824.0F;  // of dense attention

// How many query tiles see a key tile.
struct BandGeometry {
  int32_t query_rows = 0;
  int32_t key_rows = 0;
  int32_t first_position = 0;  // first_position + query_rows <= key_rows

  TESSERA_SIMT int32_t query_tiles() const { return (query_rows + kBandRows - 1) / kBandRows; }
  TESSERA_SIMT int32_t key_tiles() const { return (key_rows + kBandRows - 1) / kBandRows; }
  TESSERA_SIMT int32_t own_tile(int32_t query_tile) const {
    const int32_t end = (query_tile + 1) * kBandRows;
    return (first_position + (end < query_rows ? end : query_rows) - 1) / kBandRows;
  }
  // Query tiles whose last row sees key tile `tile`; they are also those that have band `tile`.
  TESSERA_SIMT int32_t seen_by(int32_t tile) const {
    if (first_position + query_rows - 1 < tile * kBandRows) return 0;
    const int32_t rows = tile * kBandRows + 1 - first_position;  // first query row that sees it, plus one
    return query_tiles() - (rows > 0 ? (rows - 1) / kBandRows : 0);
  }
  TESSERA_SIMT float dense_tiles() const {
    float sum = 0;
    const int32_t tiles = query_tiles();
    // All query tiles but the last have full rows, so their own tiles ascend by one.
    sum =
        static_cast<float>(tiles) * (static_cast<float>(own_tile(0)) + static_cast<float>(own_tile(tiles - 1)) + 2) / 2;
    return sum;
  }
};

enum class ChoiceTarget : int32_t { recall, tiles };

struct LineChoice {
  const float* column_mass = nullptr;    // [key_rows] of the odd groups
  const float* column_gain = nullptr;    // [key_rows] of the even groups, but for the row that likes it best
  uint32_t* column_key = nullptr;        // [key_rows] written; may be the memory of column_gain
  const float* tile_mass = nullptr;      // [kBandGroups, key_tiles]
  float* tile_rest = nullptr;            // [kBandGroups, key_tiles] written: what the columns leave
  float* band_mass = nullptr;            // [2, key_tiles] written: of the odd groups, of the even ones
  int32_t* columns = nullptr;            // [column_room] written, ascending
  int32_t* column_count = nullptr;       // [1] written
  const float* column_groups = nullptr;  // [column_room, kBandGroups]
  uint32_t* band_bits = nullptr;         // [ceil(key_tiles / 32)] written
  float* report = nullptr;               // [2] recall on the probe rows, share of dense tiles
  BandGeometry geometry;
  int32_t groups = 0;
  int32_t row_count = 0;  // probe rows
  int32_t own_tile[kBandGroups] = {};
  ChoiceTarget target = ChoiceTarget::recall;
  float share = 0.95F;      // of the mass, or of dense attention's tiles
  float most_tiles = 0.9F;  // recall: beyond this share of dense tiles the head becomes dense
  bool dense_fits = true;   // false: it takes what `most_tiles` allows instead
  float poorest = 0.05F;    // an item below this share of the mean mass per tile is never taken
  int32_t column_room = 0;
  int32_t forced_columns = 0;
  int32_t forced_bands = 1;
};

// Each block of a team has one.
struct ChoiceShared : SearchShared {
  uint32_t mass;  // of what its threads took
  uint32_t cost;
};

TESSERA_SIMT inline uint32_t mass_weight(float mass) { return static_cast<uint32_t>(mass * kMassUnits); }

TESSERA_SIMT inline int32_t judging_rows(const LineChoice& choice) {
  return choice.groups > 0 ? choice.row_count / choice.groups * (choice.groups / 2) : 0;
}

// Of one head; computed once per phase.
struct ChoiceScale {
  float cost_units;  // per tile
  float poorest;     // mass per tile
};
TESSERA_SIMT inline ChoiceScale choice_scale(const LineChoice& choice) {
  const float dense = choice.geometry.dense_tiles();
  return {kCostUnits / dense, choice.poorest * static_cast<float>(choice.row_count - judging_rows(choice)) / dense};
}

// The order of what an item gives per tile; 0: it is never taken. Without branches: every column comes here.
TESSERA_SIMT inline uint32_t worth_key(const LineChoice& choice, const ChoiceScale& scale, float gain, float cost) {
  const float worth = gain * (1.0F / (cost > 0 ? cost : 1.0F));
  const float least = choice.target == ChoiceTarget::recall ? scale.poorest : 0;
  return cost > 0 && worth > least ? order_key(worth) : 0;
}

struct BandMass {
  float mass, gain;
};
TESSERA_SIMT inline BandMass load_band(const LineChoice& choice, int32_t band) {
  return {choice.band_mass[band], choice.band_mass[choice.geometry.key_tiles() + band]};
}

TESSERA_SIMT inline SearchItem band_item(const LineChoice& choice, const ChoiceScale& scale, int32_t band,
                                         const BandMass& from) {
  const auto cost = static_cast<float>(choice.geometry.seen_by(band));
  const bool by_mass = choice.target == ChoiceTarget::recall;
  const float units = by_mass ? from.mass * kMassUnits : cost * scale.cost_units;
  const uint32_t key = worth_key(choice, scale, from.gain, cost);
  return {band < choice.forced_bands ? 0xffffffffu : key, cost > 0 ? static_cast<uint32_t>(units) : 0, 0};
}

// All bands, for a search.
TESSERA_SIMT inline auto band_items(const LineChoice& choice, const ChoiceScale& scale) {
  return search_items<1>(
      choice.geometry.key_tiles(), [&](int32_t i) { return load_band(choice, i); },
      [&](int32_t i, const BandMass& from) { return band_item(choice, scale, i, from); });
}

TESSERA_SIMT inline float column_cost(const LineChoice& choice, int32_t column) {
  return static_cast<float>(choice.geometry.seen_by(column / kBandRows)) / kBandRows;
}

// Step 0: the order of every column's worth. Keys may take the place of gains, so some gains are read before any key is
// written.
template <typename Team>
TESSERA_SIMT inline void write_column_keys(const LineChoice& choice, const ChoiceScale& scale, int thread) {
  constexpr int kBatch = 8;
  const int32_t rows = choice.geometry.key_rows;
  TESSERA_ROLLED
  for (int32_t first = thread; first < rows; first += kBatch * Team::kThreads) {
    float gains[kBatch];
    TESSERA_UNROLL
    for (int k = 0; k < kBatch; ++k) {
      const int32_t column = first + k * Team::kThreads;
      gains[k] = choice.column_gain[column < rows ? column : rows - 1];
    }
    TESSERA_UNROLL
    for (int k = 0; k < kBatch; ++k) {
      const int32_t column = first + k * Team::kThreads;
      if (column >= rows) continue;
      const uint32_t key = worth_key(choice, scale, gains[k], column_cost(choice, column));
      choice.column_key[column] = column < choice.forced_columns ? 0xffffffffu : key;
    }
  }
}

struct ColumnMass {
  uint32_t key;
  float mass;
};

// All columns, for a search.
TESSERA_SIMT inline auto column_items(const LineChoice& choice, const ChoiceScale& scale) {
  return search_items<8>(
      choice.geometry.key_rows,
      [&](int32_t i) {
        return ColumnMass{choice.column_key[i], choice.column_mass[i]};
      },
      [&](int32_t i, const ColumnMass& from) {
        const bool by_mass = choice.target == ChoiceTarget::recall;
        const float units = by_mass ? from.mass * kMassUnits : column_cost(choice, i) * scale.cost_units;
        return SearchItem{from.key, static_cast<uint32_t>(units), 1};
      });
}

TESSERA_SIMT inline bool is_chosen(const SearchItem& item, const ChoiceShared& shared) {
  return item.key != 0 && item.key >= shared.threshold;
}

TESSERA_SIMT inline uint32_t target_weight(const LineChoice& choice) {
  const float units =
      choice.target == ChoiceTarget::recall ? kMassUnits * static_cast<float>(judging_rows(choice)) : kCostUnits;
  return static_cast<uint32_t>(choice.share * units);
}

TESSERA_SIMT inline void sum_band(const LineChoice& choice, const float* tile_mass, int32_t band) {
  const int32_t tiles = choice.geometry.key_tiles();
  float parts[kBandGroups];
  TESSERA_UNROLL
  for (int32_t g = 0; g < kBandGroups; ++g) {
    const int32_t tile = choice.own_tile[g] - band;
    const float part = tile_mass[g < choice.groups && tile >= 0 ? g * tiles + tile : 0];
    parts[g] = g < choice.groups && tile >= 0 ? part : 0;
  }
  float mass[2] = {};
  TESSERA_UNROLL
  for (int32_t g = 0; g < kBandGroups; ++g) mass[1 - g % 2] += parts[g];
  choice.band_mass[band] = mass[0];
  choice.band_mass[tiles + band] = mass[1];
}

// First of the ascending columns that is >= row.
TESSERA_SIMT inline int32_t first_column(const LineChoice& choice, int32_t row) {
  return partition_point(*choice.column_count, [&](int32_t i) { return choice.columns[i] < row; });
}

template <typename Team>
struct ChoiceTotal {
  uint32_t mass = 0;
  uint32_t cost = 0;

  // After a phase that added to the parts; before they are cleared, another must follow.
  TESSERA_SIMT static ChoiceTotal of(const ChoiceShared& shared) {
    ChoiceTotal total;
    for (int block = 0; block < Team::kBlocks; ++block) {
      total.mass += Team::peer(shared, block).mass;
      total.cost += Team::peer(shared, block).cost;
    }
    return total;
  }
};

struct TileSpan {
  int32_t first, count;
};

// own.weight[t]: the first column of tile span.first + t.
template <typename Team>
TESSERA_SIMT inline void subtract_tiles(const LineChoice& choice, const TileSpan& span, int thread,
                                        const ChoiceShared& own) {
  constexpr int kBatch = 8;
  const int32_t tiles = choice.geometry.key_tiles();
  TESSERA_ROLLED
  for (int32_t at = Team::within(thread); at < span.count * kBandGroups; at += Team::kBlockThreads) {
    const int32_t t = at / kBandGroups;
    const int32_t g = at % kBandGroups;
    const auto first = static_cast<int32_t>(own.weight[t]);
    const auto last = static_cast<int32_t>(own.weight[t + 1]);
    if (g >= choice.groups) continue;
    float rest = choice.tile_mass[g * tiles + span.first + t];
    TESSERA_ROLLED
    for (int32_t c = first; c < last; c += kBatch) {
      float parts[kBatch];
      TESSERA_UNROLL
      for (int k = 0; k < kBatch; ++k) {
        const float part = choice.column_groups[(c + k < last ? c + k : c) * kBandGroups + g];
        parts[k] = c + k < last ? part : 0;
      }
      TESSERA_UNROLL
      for (int k = 0; k < kBatch; ++k) rest -= parts[k];
    }
    choice.tile_rest[g * tiles + span.first + t] = rest > 0 ? rest : 0;
  }
}

// Mass and cost of the chosen columns.
template <typename Team>
TESSERA_SIMT inline void add_columns(const LineChoice& choice, int thread, ChoiceShared& own) {
  const float cost_units = choice_scale(choice).cost_units;
  uint32_t mass = 0;
  uint32_t cost = 0;
  TESSERA_ROLLED
  for (int32_t c = thread; c < *choice.column_count; c += Team::kThreads) {
    const int32_t column = choice.columns[c];
    mass += mass_weight(choice.column_mass[column]);
    cost += static_cast<uint32_t>(column_cost(choice, column) * cost_units);
  }
  Team::add_of_all(&own.mass, mass);
  Team::add_of_all(&own.cost, cost);
}

// Takes the chosen columns out of the tile masses. All blocks see the rests after the next phase of all.
template <typename Team>
TESSERA_SIMT inline void subtract_columns(const Team& team, const LineChoice& choice, ChoiceShared& shared) {
  const int32_t tiles = choice.geometry.key_tiles();
  // Each block has consecutive tiles, as many at a time as it has memory for where their columns begin.
  constexpr int32_t kAtOnce = kSearchBins - 1;
  const int32_t tiles_each = (tiles + Team::kBlocks - 1) / Team::kBlocks;
  TESSERA_ROLLED
  for (int32_t round = 0; round < tiles_each; round += kAtOnce) {
    const auto tiles_of = [&](int thread) {
      const int32_t first = Team::rank(thread) * tiles_each + round;
      const int32_t end = (Team::rank(thread) + 1) * tiles_each;
      const int32_t last = first + kAtOnce < end ? first + kAtOnce : end;
      return TileSpan{first, (last < tiles ? last : tiles) - first};
    };
    team.each_block([&](int thread) {
      ChoiceShared& own = Team::part(shared, thread);
      const TileSpan span = tiles_of(thread);
      TESSERA_ROLLED
      for (int32_t t = Team::within(thread); t <= span.count; t += Team::kBlockThreads) {
        own.weight[t] = static_cast<uint32_t>(first_column(choice, (span.first + t) * kBandRows));
      }
    });
    team.each_block(
        [&](int thread) { subtract_tiles<Team>(choice, tiles_of(thread), thread, Team::part(shared, thread)); });
  }
}

template <typename Team>
TESSERA_SIMT inline void sum_bands(const LineChoice& choice, const float* tile_mass, int thread) {
  const int32_t bands = choice.geometry.key_tiles();
  TESSERA_ROLLED
  for (int32_t band = thread; band < bands; band += Team::kThreads) sum_band(choice, tile_mass, band);
}

// Columns from the threshold on, ascending, as far as there is room.
template <typename Team>
TESSERA_SIMT inline void write_columns(const Team& team, const LineChoice& choice, ChoiceShared& shared) {
  const auto room = static_cast<uint32_t>(choice.column_room);
  const uint32_t threshold = shared.threshold;
  const auto class_of = [&](int32_t i) {
    const uint32_t key = choice.column_key[i];
    return key != 0 && key >= threshold ? 1 : 0;
  };
  const auto take = [&](int32_t i, int, const CountPair& before) {
    if (before.first < room) choice.columns[before.first] = i;
  };
  const uint32_t all = visit_in_order(team, choice.geometry.key_rows, class_of, take, shared).first;
  team.each([&](int thread) {
    if (thread == 0) *choice.column_count = static_cast<int32_t>(all < room ? all : room);
  });
}

// Step 0 and 1; again: step 2, where columns and their groups are those of step 1.
template <typename Team>
TESSERA_SIMT inline void choose_columns(const Team& team, const LineChoice& choice, bool again, ChoiceShared& shared) {
  const ChoiceScale scale = choice_scale(choice);
  if (again) {
    subtract_columns(team, choice, shared);
    team.each([](int) {});  // the others' rests are there
  }
  team.each([&](int thread) {
    ChoiceShared& own = Team::part(shared, thread);
    if (!again) write_column_keys<Team>(choice, scale, thread);
    sum_bands<Team>(choice, again ? choice.tile_rest : choice.tile_mass, thread);
    if (Team::within(thread) != 0) return;
    own.need = target_weight(choice);
    own.room = static_cast<uint32_t>(choice.column_room);
  });
  const JoinedItems items{band_items(choice, scale), column_items(choice, scale)};
  search_threshold(team, items, order_key(scale.poorest), shared);
  write_columns(team, choice, shared);
}

// Bands up to the threshold as bits; their mass and cost join the columns'.
template <typename Team>
TESSERA_SIMT inline void take_bands(const Team& team, const LineChoice& choice, ChoiceShared& shared) {
  const ChoiceScale scale = choice_scale(choice);
  const int32_t bands = choice.geometry.key_tiles();
  team.each([&](int thread) {
    TESSERA_ROLLED
    for (int32_t word = thread; word < (bands + 31) / 32; word += Team::kThreads) choice.band_bits[word] = 0;
  });
  team.each([&](int thread) {
    ChoiceShared& own = Team::part(shared, thread);
    uint32_t mass = 0;
    uint32_t cost = 0;
    TESSERA_ROLLED
    for (int32_t band = thread; band < bands; band += Team::kThreads) {
      if (!is_chosen(band_item(choice, scale, band, load_band(choice, band)), own)) continue;
      Team::add(&choice.band_bits[band / 32], 1u << (band % 32));
      mass += mass_weight(choice.band_mass[band]);
      cost += static_cast<uint32_t>(static_cast<float>(choice.geometry.seen_by(band)) * scale.cost_units);
    }
    Team::add_of_all(&own.mass, mass);
    Team::add_of_all(&own.cost, cost);
  });
}

// Finds and takes the bands beyond what the columns bring.
template <typename Team>
TESSERA_SIMT inline ChoiceTotal<Team> search_bands(const Team& team, const LineChoice& choice,
                                                   const ChoiceTotal<Team>& columns, ChoiceShared& shared) {
  const ChoiceScale scale = choice_scale(choice);
  team.each_block([&](int thread) {
    ChoiceShared& own = Team::part(shared, thread);
    if (Team::within(thread) != 0) return;
    const uint32_t spent = choice.target == ChoiceTarget::recall ? columns.mass : columns.cost;
    const uint32_t wanted = target_weight(choice);
    own.need = wanted > spent ? wanted - spent : 0;
    own.room = 0xffffffffu;
    own.mass = own.cost = 0;
  });
  search_threshold(team, band_items(choice, scale), order_key(scale.poorest), shared);
  take_bands(team, choice, shared);
  ChoiceTotal<Team> total = ChoiceTotal<Team>::of(shared);
  total.mass += columns.mass;
  total.cost += columns.cost;
  team.each([](int) {});  // all have read before anyone writes again
  return total;
}

template <typename Team>
TESSERA_SIMT inline void make_dense(const Team& team, const LineChoice& choice) {
  const int32_t words = (choice.geometry.key_tiles() + 31) / 32;
  team.each([&](int thread) {
    TESSERA_ROLLED
    for (int32_t word = thread; word < words; word += Team::kThreads) choice.band_bits[word] = 0xffffffffu;
    if (thread != 0) return;
    *choice.column_count = 0;
    choice.report[0] = choice.report[1] = 1;
  });
}

// Step 3.
template <typename Team>
TESSERA_SIMT inline void choose_bands(const Team& team, LineChoice choice, ChoiceShared& shared) {
  subtract_columns(team, choice, shared);
  team.each([&](int thread) {
    if (Team::within(thread) == 0) Team::part(shared, thread).mass = Team::part(shared, thread).cost = 0;
  });
  team.each([&](int thread) {
    sum_bands<Team>(choice, choice.tile_rest, thread);
    add_columns<Team>(choice, thread, Team::part(shared, thread));
  });
  const ChoiceTotal<Team> columns = ChoiceTotal<Team>::of(shared);
  team.each([](int) {});  // all have read before anyone writes again
  const auto most = static_cast<uint32_t>(choice.most_tiles * kCostUnits);
  ChoiceTotal<Team> total;
  for (bool again = true; again;) {
    total = search_bands(team, choice, columns, shared);
    const bool by_recall = choice.target == ChoiceTarget::recall;
    const bool missed = by_recall && (choice.groups < 2 || total.mass < target_weight(choice));
    const bool costly = by_recall && total.cost > most;
    if ((missed || costly) && choice.dense_fits) return make_dense(team, choice);
    again = costly;
    if (!costly) continue;
    choice.target = ChoiceTarget::tiles;
    choice.share = choice.most_tiles;
  }
  team.each([&](int thread) {
    if (thread != 0) return;
    const auto judged = static_cast<float>(judging_rows(choice));
    choice.report[0] = judged > 0 ? static_cast<float>(total.mass) / (kMassUnits * judged) : 0;
    choice.report[1] = static_cast<float>(total.cost) / kCostUnits;
  });
}

}  // namespace tessera::attention::cuda
