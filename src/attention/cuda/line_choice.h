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
// order of the threads does not matter. Cost: about ten reads of the column masses by a team of blocks.
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

TESSERA_SIMT inline SearchItem make_item(const LineChoice& choice, const ChoiceScale& scale, float gain, float mass,
                                         float cost) {
  if (cost <= 0) return {};
  const float worth = gain / cost;
  const bool by_mass = choice.target == ChoiceTarget::recall;
  const uint32_t weight = by_mass ? mass_weight(mass) : static_cast<uint32_t>(cost * scale.cost_units);
  return {worth > scale.poorest || (!by_mass && worth > 0) ? order_key(worth) : 0, weight, 0};
}

TESSERA_SIMT inline SearchItem band_item(const LineChoice& choice, const ChoiceScale& scale, int32_t band) {
  const float mass = choice.band_mass[band];
  const float gain = choice.band_mass[choice.geometry.key_tiles() + band];
  SearchItem item = make_item(choice, scale, gain, mass, static_cast<float>(choice.geometry.seen_by(band)));
  if (band < choice.forced_bands) item.key = 0xffffffffu;
  return item;
}

TESSERA_SIMT inline float column_cost(const LineChoice& choice, int32_t column) {
  return static_cast<float>(choice.geometry.seen_by(column / kBandRows)) / kBandRows;
}

// Step 0: the order of every column's worth. Keys may take the place of gains, so some gains are read before any key is
// written.
template <typename Team>
TESSERA_SIMT inline void write_column_keys(const LineChoice& choice, const ChoiceScale& scale, int thread) {
  constexpr int kBatch = 4;
  const int32_t rows = choice.geometry.key_rows;
  for (int32_t first = thread; first < rows; first += kBatch * Team::kThreads) {
    float gains[kBatch] = {};
    for (int k = 0; k < kBatch; ++k) {
      const int32_t column = first + k * Team::kThreads;
      if (column < rows) gains[k] = choice.column_gain[column];
    }
    for (int k = 0; k < kBatch; ++k) {
      const int32_t column = first + k * Team::kThreads;
      if (column >= rows) continue;
      const uint32_t key = make_item(choice, scale, gains[k], 0, column_cost(choice, column)).key;
      choice.column_key[column] = column < choice.forced_columns ? 0xffffffffu : key;
    }
  }
}

TESSERA_SIMT inline SearchItem column_item(const LineChoice& choice, const ChoiceScale& scale, int32_t column) {
  const uint32_t key = choice.column_key[column];
  if (key == 0) return {};
  const bool by_mass = choice.target == ChoiceTarget::recall;
  const uint32_t weight = by_mass ? mass_weight(choice.column_mass[column])
                                  : static_cast<uint32_t>(column_cost(choice, column) * scale.cost_units);
  return {key, weight, 1};
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
  float mass[2] = {};
  for (int32_t g = 0; g < choice.groups; ++g) {
    const int32_t tile = choice.own_tile[g] - band;
    if (tile >= 0) mass[1 - g % 2] += tile_mass[g * tiles + tile];
  }
  choice.band_mass[band] = mass[0];
  choice.band_mass[tiles + band] = mass[1];
}

// First of the ascending columns that is >= row.
TESSERA_SIMT inline int32_t first_column(const LineChoice& choice, int32_t row) {
  int32_t low = 0;
  int32_t high = *choice.column_count;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (choice.columns[middle] < row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
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

// Takes the chosen columns out of the tile masses and bands; adds up their mass and cost.
template <typename Team>
TESSERA_SIMT inline void subtract_columns(const Team& team, const LineChoice& choice, ChoiceShared& shared) {
  const ChoiceScale scale = choice_scale(choice);
  const int32_t tiles = choice.geometry.key_tiles();
  team.each_block([&](int thread) {
    ChoiceShared& own = Team::part(shared, thread);
    if (Team::within(thread) == 0) own.mass = own.cost = 0;
  });
  team.each([&](int thread) {
    ChoiceShared& own = Team::part(shared, thread);
    for (int32_t at = thread; at < tiles * kBandGroups; at += Team::kThreads) {
      const int32_t tile = at / kBandGroups;
      const int32_t g = at % kBandGroups;
      const int32_t first = first_column(choice, tile * kBandRows);
      const int32_t last = first_column(choice, (tile + 1) * kBandRows);
      if (g < choice.groups) {
        float rest = choice.tile_mass[g * tiles + tile];
        TESSERA_BATCHED
        for (int32_t c = first; c < last; ++c) rest -= choice.column_groups[c * kBandGroups + g];
        choice.tile_rest[g * tiles + tile] = rest > 0 ? rest : 0;
      }
      uint32_t mass = 0;
      uint32_t cost = 0;
      for (int32_t c = first + g; c < last; c += kBandGroups) {
        mass += mass_weight(choice.column_mass[choice.columns[c]]);
        cost += static_cast<uint32_t>(column_cost(choice, choice.columns[c]) * scale.cost_units);
      }
      if (cost == 0 && mass == 0) continue;
      Team::add(&own.mass, mass);
      Team::add(&own.cost, cost);
    }
  });
  team.each([&](int thread) {
    for (int32_t band = thread; band < tiles; band += Team::kThreads) sum_band(choice, choice.tile_rest, band);
  });
}

// Columns from the threshold on, ascending, as far as there is room.
template <typename Team>
TESSERA_SIMT inline void write_columns(const Team& team, const LineChoice& choice, ChoiceShared& shared) {
  const ChoiceScale scale = choice_scale(choice);
  const int32_t rows = choice.geometry.key_rows;
  const auto found_of = [](auto& own) -> auto& { return own.weight_scan; };
  team.each_block([&](int thread) {
    ChoiceShared& own = Team::part(shared, thread);
    const ThreadRange range = range_of<Team>(thread, rows);
    uint32_t found = 0;
    for (int32_t i = range.first; i < range.last; ++i) found += is_chosen(column_item(choice, scale, i), own) ? 1 : 0;
    own.weight_scan[0][Team::within(thread)] = found;
  });
  team.scan_parts(shared, found_of);
  team.each([](int) {});  // the others' scans are done
  team.each([&](int thread) {
    const ChoiceShared& own = Team::part(shared, thread);
    const auto room = static_cast<uint32_t>(choice.column_room);
    uint32_t at = before<Team>(shared, thread, found_of);
    const ThreadRange range = range_of<Team>(thread, rows);
    for (int32_t i = range.first; i < range.last; ++i) {
      if (!is_chosen(column_item(choice, scale, i), own)) continue;
      if (at < room) choice.columns[at] = i;
      ++at;
    }
    if (thread == Team::kThreads - 1) *choice.column_count = static_cast<int32_t>(at < room ? at : room);
  });
}

// Step 0 and 1; again: step 2, where columns and their groups are those of step 1.
template <typename Team>
TESSERA_SIMT inline void choose_columns(const Team& team, const LineChoice& choice, bool again, ChoiceShared& shared) {
  const ChoiceScale scale = choice_scale(choice);
  const int32_t bands = choice.geometry.key_tiles();
  const int32_t rows = choice.geometry.key_rows;
  if (again) subtract_columns(team, choice, shared);
  team.each([&](int thread) {
    ChoiceShared& own = Team::part(shared, thread);
    if (!again) {
      write_column_keys<Team>(choice, scale, thread);
      for (int32_t band = thread; band < bands; band += Team::kThreads) sum_band(choice, choice.tile_mass, band);
    }
    if (Team::within(thread) != 0) return;
    own.need = target_weight(choice);
    own.room = static_cast<uint32_t>(choice.column_room);
  });
  search_threshold(
      team, bands + rows,
      [&](int32_t i) { return i < bands ? band_item(choice, scale, i) : column_item(choice, scale, i - bands); },
      order_key(scale.poorest), shared);
  write_columns(team, choice, shared);
}

// Bands up to the threshold as bits; their mass and cost join the columns'.
template <typename Team>
TESSERA_SIMT inline void take_bands(const Team& team, const LineChoice& choice, ChoiceShared& shared) {
  const ChoiceScale scale = choice_scale(choice);
  const int32_t bands = choice.geometry.key_tiles();
  team.each([&](int thread) {
    for (int32_t word = thread; word < (bands + 31) / 32; word += Team::kThreads) choice.band_bits[word] = 0;
  });
  team.each([&](int thread) {
    ChoiceShared& own = Team::part(shared, thread);
    for (int32_t band = thread; band < bands; band += Team::kThreads) {
      if (!is_chosen(band_item(choice, scale, band), own)) continue;
      Team::add(&choice.band_bits[band / 32], 1u << (band % 32));
      Team::add(&own.mass, mass_weight(choice.band_mass[band]));
      Team::add(&own.cost, static_cast<uint32_t>(static_cast<float>(choice.geometry.seen_by(band)) * scale.cost_units));
    }
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
  search_threshold(
      team, choice.geometry.key_tiles(), [&](int32_t i) { return band_item(choice, scale, i); },
      order_key(scale.poorest), shared);
  take_bands(team, choice, shared);
  ChoiceTotal<Team> total = ChoiceTotal<Team>::of(shared);
  total.mass += columns.mass;
  total.cost += columns.cost;
  team.each([](int) {});  // all have read before anyone writes again
  return total;
}

// Step 3.
template <typename Team>
TESSERA_SIMT inline void choose_bands(const Team& team, LineChoice choice, ChoiceShared& shared) {
  const int32_t bands = choice.geometry.key_tiles();
  subtract_columns(team, choice, shared);
  const ChoiceTotal<Team> columns = ChoiceTotal<Team>::of(shared);
  team.each([](int) {});  // all have read before anyone writes again
  ChoiceTotal<Team> total = search_bands(team, choice, columns, shared);
  const auto most = static_cast<uint32_t>(choice.most_tiles * kCostUnits);
  const bool missed =
      choice.target == ChoiceTarget::recall && (choice.groups < 2 || total.mass < target_weight(choice));
  const bool costly = choice.target == ChoiceTarget::recall && total.cost > most;
  if ((missed || costly) && choice.dense_fits) {
    team.each([&](int thread) {
      for (int32_t word = thread; word < (bands + 31) / 32; word += Team::kThreads)
        choice.band_bits[word] = 0xffffffffu;
      if (thread != 0) return;
      *choice.column_count = 0;
      choice.report[0] = choice.report[1] = 1;
    });
    return;
  }
  if (costly) {
    choice.target = ChoiceTarget::tiles;
    choice.share = choice.most_tiles;
    total = search_bands(team, choice, columns, shared);
  }
  team.each([&](int thread) {
    if (thread != 0) return;
    const auto judged = static_cast<float>(judging_rows(choice));
    choice.report[0] = judged > 0 ? static_cast<float>(total.mass) / (kMassUnits * judged) : 0;
    choice.report[1] = static_cast<float>(total.cost) / kCostUnits;
  });
}

}  // namespace tessera::attention::cuda
