#include "tessera/experts/covering.h"

#include <algorithm>

#include "tessera/base/clock.h"
#include "tessera/base/error.h"

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

}  // namespace

Covering find_covering(const CoveringProblem& problem, const CoveringOptions&) {
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
  return covering;
}

}  // namespace tessera::experts
