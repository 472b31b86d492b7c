#include <coin/Cbc_C_Interface.h>
#include <coin/Clp_C_Interface.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "experts/select/set_cover.h"

namespace tessera::experts {
namespace {

// Both libraries hide their models behind void*.
struct DeleteCbc {
  void operator()(void* model) const { Cbc_deleteModel(model); }
};
struct DeleteClp {
  void operator()(void* model) const { Clp_deleteModel(model); }
};

// The matrix by columns: rows of the cover first, then one per cut.
struct Matrix {
  explicit Matrix(const SetCover& problem)
      : rows(static_cast<int>(problem.rows)),
        columns(static_cast<int>(problem.columns.size())),
        low(static_cast<size_t>(problem.rows), 1.0) {
    std::vector<std::vector<std::pair<int, double>>> entries(problem.columns.size());
    for (size_t c = 0; c < entries.size(); ++c) {
      for (const int r : problem.columns[c]) entries[c].emplace_back(r, 1.0);
    }
    for (const Cut& cut : problem.cuts) {
      for (const auto& [c, factor] : cut.terms) entries[static_cast<size_t>(c)].emplace_back(rows, factor);
      low.push_back(cut.need);
      ++rows;
    }
    for (const auto& column : entries) {
      for (const auto& [r, factor] : column) {
        index.push_back(r);
        value.push_back(factor);
      }
      start.push_back(static_cast<CoinBigIndex>(index.size()));
    }
    zero.assign(entries.size(), 0.0);
    one.assign(entries.size(), 1.0);
    high.assign(low.size(), INFINITY);
  }

  int rows, columns;
  std::vector<CoinBigIndex> start{0};
  std::vector<int> index;
  std::vector<double> value, low, high, zero, one;
};

}  // namespace

MipResult solve_relaxation(const SetCover& problem, double seconds) {
  MipResult result;
  const Matrix matrix(problem);
  const std::unique_ptr<void, DeleteClp> model(Clp_newModel());
  Clp_setLogLevel(model.get(), 0);
  Clp_loadProblem(model.get(), matrix.columns, matrix.rows, matrix.start.data(), matrix.index.data(),
                  matrix.value.data(), matrix.zero.data(), matrix.one.data(), problem.costs.data(), matrix.low.data(),
                  matrix.high.data());
  Clp_setMaximumSeconds(model.get(), std::max(0.1, seconds));
  Clp_initialSolve(model.get());
  if (Clp_status(model.get()) != 0) return result;
  result.lp_bound = result.bound = Clp_objectiveValue(model.get());
  const double* price = Clp_dualRowSolution(model.get());
  result.prices.assign(price, price + problem.rows);
  return result;
}

MipResult branch_and_cut(const SetCover& problem, const std::vector<int>& start, double seconds) {
  MipResult result;
  const Matrix matrix(problem);
  const int columns = matrix.columns;
  const std::unique_ptr<void, DeleteCbc> model(Cbc_newModel());
  Cbc_loadProblem(model.get(), columns, matrix.rows, matrix.start.data(), matrix.index.data(), matrix.value.data(),
                  matrix.zero.data(), matrix.one.data(), problem.costs.data(), matrix.low.data(), matrix.high.data());
  Cbc_setLogLevel(model.get(), 0);
  Cbc_setParameter(model.get(), "timeMode", "elapsed");  // not seconds of CPU
  Cbc_setMaximumSeconds(model.get(), std::max(0.1, seconds));
  for (int c = 0; c < columns; ++c) Cbc_setInteger(model.get(), c);
  std::vector<double> solution(problem.columns.size(), 0.0);
  for (const int c : start) solution[static_cast<size_t>(c)] = 1;
  std::vector<int> all(problem.columns.size());
  for (int c = 0; c < columns; ++c) all[static_cast<size_t>(c)] = c;
  Cbc_setMIPStartI(model.get(), columns, all.data(), solution.data());
  Cbc_solve(model.get());
  result.proven = Cbc_isProvenOptimal(model.get()) != 0;
  result.bound = Cbc_getBestPossibleObjValue(model.get());
  if (const double* best = Cbc_bestSolution(model.get())) {
    for (int c = 0; c < columns; ++c) {
      if (best[c] > 0.5) result.cover.push_back(c);
    }
  }
  return result;
}

}  // namespace tessera::experts
