// Weighted set cover on sparse columns, what is left of a selection after reductions.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace tessera::experts {

// An inequality that every cover satisfies: sum of factor x over (column, factor) >= need.
struct Cut {
  std::vector<std::pair<int, int>> terms;
  int need = 0;
};

struct SetCover {
  int64_t rows = 0;
  std::vector<std::vector<int>> columns;  // rows of each column, ascending
  std::vector<double> costs;              // > 0, one per column
  bool whole_costs = false;               // all costs are whole numbers
  std::vector<Cut> cuts;                  // they sharpen the linear relaxation; the heuristics do not read them
};

// Columns of a cover: best ratio of newly covered rows to cost first, then reverse deletion. Every row must lie in a
// column.
std::vector<int> greedy_cover(const SetCover& problem);

double cost_of(const SetCover& problem, const std::vector<int>& cover);

// Improves a cover until `stop(cost)` says so.
std::vector<int> search_cover(const SetCover& problem, std::vector<int> start, uint64_t seed,
                              const std::function<bool(double cost)>& stop);

enum class TreeOutcome { found, none, stopped };

// Looks for a cover that costs `budget` or less in every possible way (cover_tree.cpp); good where some rows lie in few
// columns. `prices` of the rows (any numbers of 0 or more; those of the relaxation cut most) bound what is left to pay.
// `cover` is written when one is found.
struct TreeOptions {
  double budget = 0, seconds = 1;
  std::vector<double> prices = {};  // [rows] or empty
};
TreeOutcome search_tree(const SetCover& problem, const TreeOptions& options, std::vector<int>& cover);

struct MipResult {
  double lp_bound = 0;         // 0: not solved in time
  double bound = 0;            // best proved
  std::vector<int> cover;      // empty: nothing better than the start
  bool proven = false;         // the search tree is finished
  std::vector<double> prices;  // [rows], of the relaxation when it was solved
};

// The linear relaxation, and branch and cut from the given cover when `branch` seconds are positive. select_cbc.cpp is
// the only file that knows CBC and its Clp.
MipResult solve_relaxation(const SetCover& problem, double seconds);
MipResult branch_and_cut(const SetCover& problem, const std::vector<int>& start, double seconds);

}  // namespace tessera::experts
