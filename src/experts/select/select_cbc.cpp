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
  std::vector<CoinBigIndex> start{0};
  std::vector<int> index;
  for (const std::vector<int>& column : problem.columns) {
    index.insert(index.end(), column.begin(), column.end());
    start.push_back(static_cast<CoinBigIndex>(index.size()));
  }
  const std::vector<double> value(index.size(), 1.0), zero(problem.columns.size(), 0.0),
      one(problem.columns.size(), 1.0), low(static_cast<size_t>(problem.rows), 1.0),
      high(static_cast<size_t>(problem.rows), INFINITY);
  Model model(Cbc_newModel());
  Cbc_loadProblem(model.get(), static_cast<int>(problem.columns.size()), static_cast<int>(problem.rows), start.data(),
                  index.data(), value.data(), zero.data(), one.data(), problem.costs.data(), low.data(), high.data());
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
