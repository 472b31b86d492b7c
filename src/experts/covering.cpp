#include "tessera/experts/covering.h"

#include <algorithm>

#include "experts/greedy_covering.h"
#include "tessera/base/clock.h"
#include "tessera/base/error.h"
#include "tessera/base/interrupt.h"

namespace tessera::experts {
namespace {

void check_problem(const CoveringProblem& problem) {
  if (problem.classes < 1 || problem.classes > kMaxClasses) {
    throw Error(ErrorCode::invalid_argument, "a design needs 1 to {} classes, found {}", kMaxClasses, problem.classes);
  }
  if (problem.size < 1 || (problem.size < 2 && problem.classes > 1)) {
    throw Error(ErrorCode::invalid_argument, "sets of size {} cannot hold two classes; the size must be at least 2",
                problem.size);
  }
  if (problem.lambda < 1 || problem.lambda > 1000) {
    throw Error(ErrorCode::invalid_argument, "lambda must be in 1..1000, found {}", problem.lambda);
  }
}

// The classes in groups of floor(R / 2); one set per two groups.
Design two_halves(const CoveringProblem& problem) {
  Design design{.classes = problem.classes, .sets = {}};
  const int half = problem.size / 2;
  const int groups = (problem.classes + half - 1) / half;
  for (int a = 0; a < groups; ++a) {
    for (int b = a + 1; b < groups; ++b) {
      std::vector<int> set;
      for (const int group : {a, b}) {
        for (int i = group * half; i < std::min(problem.classes, (group + 1) * half); ++i) set.push_back(i);
      }
      design.sets.push_back(std::move(set));
    }
  }
  return design;
}

// Above this many classes the pair counters of the greedy search would take more than 50 MB.
constexpr int kMostGreedyClasses = 5000;

void search(const CoveringProblem& problem, const CoveringOptions& options, Covering& best) {
  const Stopwatch watch;
  const auto sets = [&] { return static_cast<int64_t>(best.design.sets.size()); };
  const auto seconds = [&] { return watch.elapsed().wall_ms / 1000; };
  for (uint64_t restart = 0; sets() > std::max(best.bound.sets, options.stop_at); ++restart) {
    if (interrupted() || (restart > 0 && seconds() >= options.seconds)) break;
    if (options.progress && !options.progress(sets(), seconds(), best.method)) break;
    Design design = greedy_covering(problem, options.seed + restart);
    if (static_cast<int64_t>(design.sets.size()) >= sets()) continue;
    best.design = std::move(design);
    best.method = "greedy, restart " + std::to_string(restart);
    best.seconds = seconds();
  }
}

// The last word before a design leaves: an answer that does not cover is our mistake, not the user's.
void verify(const CoveringProblem& problem, const Covering& covering) {
  check_design(covering.design);
  const PairCoverage pairs = count_pairs(covering.design, 1);
  if (problem.classes > 1 && pairs.lambda_min < problem.lambda) {
    throw Error(ErrorCode::internal, "the design found by {} covers some pair {} times instead of {}", covering.method,
                pairs.lambda_min, problem.lambda);
  }
}

}  // namespace

Covering find_covering(const CoveringProblem& problem, const CoveringOptions& options) {
  check_problem(problem);
  Covering covering{.bound = lower_bound(problem.classes, problem.size, problem.lambda), .method = "two halves"};
  if (problem.size >= problem.classes) {
    std::vector<int> all;
    for (int i = 0; i < problem.classes; ++i) all.push_back(i);
    covering.design = {.classes = problem.classes, .sets = {all}};
    covering.method = "one set of all classes";
  } else {
    covering.design = two_halves(problem);
  }
  const std::vector<std::vector<int>> once = covering.design.sets;
  for (int fold = 1; fold < problem.lambda; ++fold) {
    covering.design.sets.insert(covering.design.sets.end(), once.begin(), once.end());
  }
  if (problem.size < problem.classes && problem.classes <= kMostGreedyClasses) search(problem, options, covering);
  verify(problem, covering);
  return covering;
}

}  // namespace tessera::experts
