// Vertical-slash by recall: per head, the cheapest tiles and columns whose probe mass reaches a target.
//
// The choice is made of two kinds of items, counted in what the kernel computes (tiles of 64 x 64):
//   band e     for every query tile the key tile e tiles before its own: all diagonals 64 e +- 63; costs one tile per
//   query
//              tile that has it
//   column j   costs 1/64 tile per query tile that sees it
// Probe rows come in groups of four from up to sixteen query tiles spread over the block. A band and a column may hold
// the same pair; its mass counts once. Items are taken greedily by new mass per cost.
//
// A column that one probe row happens to like is no evidence for other rows; where a sharp diagonal meets the probe
// rows, every row likes a column of its own. So a column's value leaves out the row that likes it best, and half of the
// groups choose while the other half check: the cost at which the target is reached on rows that had no say, the larger
// of both directions, is what the final choice, made on all rows, may and must spend.
#pragma once

#include <array>
#include <vector>

#include "tessera/attention/selector.h"
#include "tessera/attention/selectors.h"

namespace tessera::attention {

constexpr size_t kProbeGroups = 16;  // of four rows each: many places tell more than many rows of one place

// Probe mass of one query head. Group g lies in query tile group_tile[g], whose own key tile is own_tile[g].
struct GroupMass {
  size_t groups = 0;                            // 1..16
  std::array<int64_t, kProbeGroups> rows = {};  // probe rows of each group
  std::array<int64_t, kProbeGroups> own_tile = {};
  std::vector<std::array<float, kProbeGroups>> columns;  // [key rows] mass by group
  std::vector<std::array<float, kProbeGroups>> tops;     // [key rows] largest share of it that one probe row has
};

// What the items cost: geometry of the block to be computed.
struct ItemCosts {
  std::vector<double> column;  // [key tiles] tiles' worth of work of one column in this key tile
  std::vector<double> band;    // [bands] tiles
  double dense = 0;            // tiles of dense attention
};

struct RecallChoice {
  bool dense = false;            // the target is not reached for less than dense
  std::vector<int32_t> bands;    // ascending
  std::vector<int32_t> columns;  // ascending
  double cost = 0;               // tiles, columns inside chosen bands counted too
  double recall = 0;             // share of the mass of all probe rows
};

struct RecallTarget {
  double recall = 0.95;
  int64_t forced_bands = 1;    // bands 0 .. forced_bands - 1
  int64_t forced_columns = 0;  // columns 0 .. forced_columns - 1
  double dense_share = 0.9;    // a choice that costs more than this share of dense is dense
};

RecallChoice choose_by_recall(const GroupMass& mass, const ItemCosts& costs, const RecallTarget& target);

// The whole selector. Heads whose choice would cost about as much as dense are dense. At the end of a prompt of 32 or
// more query tiles the last one, where questions are, is dense too.
WorkList select_by_recall(const AttentionInput& input, const VerticalSlashOptions& options,
                          const SelectContext& context);

}  // namespace tessera::attention
