#include <coin/Cbc_C_Interface.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "experts/select/set_cover.h"

namespace tessera::experts {
namespace {

struct Deleter {
  void operator()(Cbc_Model* model) const { Cbc_deleteModel(model); }
};
using Model = std::unique_ptr<Cbc_Model, Deleter>;

Model load(const SetCover& problem, double seconds) {
  // Rows of the cover first, then one per cut.
  std::vector<std::vector<std::pair<int, double>>> columns(problem.columns.size());
  for (size_t c = 0; c < columns.size(); ++c) {
    for (const int r : problem.columns[c]) columns[c].emplace_back(r, 1.0);
  }
  auto rows = static_cast<int>(problem.rows);
  std::vector<double> low(static_cast<size_t>(problem.rows), 1.0);
  for (const Cut& cut : problem.cuts) {
    for (const auto& [c, factor] : cut.terms) columns[static_cast<size_t>(c)].emplace_back(rows, factor);
    low.push_back(cut.need);
    ++rows;
  }
  std::vector<CoinBigIndex> start{0};
  std::vector<int> index;
  std::vector<double> value;
  for (const auto& column : columns) {
    for (const auto& [r, factor] : column) {
      index.push_back(r);
      value.push_back(factor);
    }
    start.push_back(static_cast<CoinBigIndex>(index.size()));
  }
  const std::vector<double> zero(columns.size(), 0.0), one(columns.size(), 1.0), high(low.size(), INFINITY);
  Model model(Cbc_newModel());
  Cbc_loadProblem(model.get(), static_cast<int>(problem.columns.size()), rows, start.data(), index.data(), value.data(),
                  zero.data(), one.data(), problem.costs.data(), low.data(), high.data());
  Cbc_setLogLevel(model.get(), 0);
  Cbc_setMaximumSeconds(model.get(), std::max(0.1, seconds));
  return model;
}

}  // namespace

MipResult solve_relaxation(const SetCover& problem, double seconds) {
  MipResult result;
  const Model model = load(problem, seconds);
  Cbc_solve(model.get());
  if (Cbc_isProvenOptimal(model.get()) != 0) result.lp_bound = result.bound = Cbc_getObjValue(model.get());
  return result;
}

MipResult branch_and_cut(const SetCover& problem, const std::vector<int>& start, double seconds) {
  MipResult result;
  const Model model = load(problem, seconds);
  const auto columns = static_cast<int>(problem.columns.size());
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
