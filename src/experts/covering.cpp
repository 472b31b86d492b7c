#include "tessera/experts/covering.h"

#include <algorithm>
#include <numeric>

#include "experts/covering/anneal.h"
#include "experts/covering/combinations.h"
#include "experts/covering/exact.h"
#include "experts/covering/fourfold_pair.h"
#include "experts/covering/greedy.h"
#include "experts/covering/hole_designs.h"
#include "experts/covering/incumbent.h"
#include "experts/covering/multiplier_holes.h"
#include "experts/covering/parts.h"
#include "experts/covering/planes.h"
#include "experts/covering/restarts.h"
#include "experts/covering/symmetric_anneal.h"
#include "experts/covering/triples.h"
#include "tessera/base/error.h"
#include "tessera/base/random.h"

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
  const std::vector<std::vector<int>> once = design.sets;
  for (int fold = 1; fold < problem.lambda; ++fold) design.sets.insert(design.sets.end(), once.begin(), once.end());
  return design;
}

// Above this many classes the pair counters of the greedy search would take more than 50 MB.
constexpr int kMostGreedyClasses = 5000;
constexpr double kFirstTurn = 0.05;       // seconds
constexpr int64_t kAttemptMoves = 1'000;  // per class and set, of the shortest annealing
constexpr int64_t kMostSetsTried = 16;    // by exact search
constexpr int64_t kFewSets = 24, kManySets = 100;

// Fewer and fewer sets by plain annealing for about `seconds`. Few long attempts find less than many short ones.
void anneal_down(Incumbent& incumbent, double seconds, int64_t& attempts, Random& random) {
  const CoveringProblem& problem = incumbent.problem();
  const double until = incumbent.seconds() + seconds;
  const auto stop = [&] { return incumbent.stop() || incumbent.seconds() >= until; };
  while (!stop()) {
    const int64_t moves = kAttemptMoves * problem.classes * incumbent.sets() * restart_length(attempts);
    const AnnealResult result =
        anneal(problem, incumbent.sets() - 1, {.moves = moves, .seed = random.bits(), .stop = stop});
    if (result.cost == 0) incumbent.offer(result.design, "simulated annealing");
    if (!stop()) ++attempts;
  }
}

// Few sets: looks for one fewer than the best so far in every possible way, or proves that there is none.
void search_exactly(Incumbent& incumbent, double seconds) {
  const CoveringProblem& problem = incumbent.problem();
  const double until = incumbent.seconds() + seconds;
  const auto stop = [&] { return incumbent.stop() || incumbent.seconds() >= until; };
  while (!stop() && problem.classes <= kMostExactClasses && incumbent.sets() - 1 <= kMostSetsTried) {
    const auto sets = static_cast<int>(incumbent.sets() - 1);
    ExactResult result = search_exactly(problem, sets, stop);
    if (result.outcome == ExactOutcome::stopped) return;
    if (result.outcome == ExactOutcome::found) {
      incumbent.offer(std::move(result.design), "exact search");
    } else {
      incumbent.prove(sets + 1, "exact search");
    }
  }
}

// Combinations of smaller coverings, difference families, plain annealing and annealing under automorphisms take turns
// of growing length. Plain annealing finds designs of few sets and gets more time for them; where many are needed, only
// what has structure comes near the bound.
void search_in_turns(Incumbent& incumbent) {
  Random random(incumbent.seed());
  Parts parts(random.bits(), [&] { return incumbent.seconds_left(); });
  HoleSearch holes(incumbent, parts);
  CombinationSearch combinations(incumbent, parts);
  FourfoldSearch fourfold(incumbent);
  MultiplierSearch multipliers(incumbent, parts);
  SymmetricSearch symmetric(incumbent);
  int64_t attempts = 1;
  double turn = kFirstTurn;
  for (uint64_t round = 0; !incumbent.stop(); ++round, turn *= 2) {
    // For lambda > 1 automorphisms find what plain annealing does not, even where the bound is small.
    const int64_t needed = incumbent.problem().lambda == 1 ? incumbent.target() : incumbent.sets();
    const bool few = needed <= kFewSets, many = needed > kManySets;
    if (few) anneal_down(incumbent, 3 * turn, attempts, random);
    fourfold.run(4 * turn);
    holes.run(many ? 2 * turn : turn);
    holes.run_above_bound(turn, round);
    if (round > 0) multipliers.run(turn);
    combinations.run(many ? 2 * turn : turn);
    if (!few && !many) anneal_down(incumbent, turn, attempts, random);
    symmetric.run(many ? turn / 2 : few ? 3 * turn : 4 * turn);
    search_exactly(incumbent, turn);
  }
}

void search(Incumbent& incumbent) {
  const CoveringProblem& problem = incumbent.problem();
  if (problem.lambda == 1 && problem.size == 3) {
    incumbent.offer(triple_covering(problem.classes, incumbent.seed()), "triple system");
  }
  if (problem.lambda == 1 && !incumbent.reached()) {
    for (NamedDesign& plane : plane_coverings(problem, incumbent.seed())) {
      incumbent.offer(std::move(plane.design), plane.name);
    }
  }
  if (incumbent.reached() || problem.classes > kMostGreedyClasses) return;
  incumbent.offer(greedy_covering(problem, incumbent.seed()), "greedy");
  if (problem.classes <= kMostAnnealedClasses) search_in_turns(incumbent);
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
  Incumbent incumbent(problem, options);
  if (problem.size >= problem.classes) {
    std::vector<int> all(static_cast<size_t>(problem.classes));
    std::iota(all.begin(), all.end(), 0);
    incumbent.best().design = {.classes = problem.classes,
                               .sets = std::vector<std::vector<int>>(static_cast<size_t>(problem.lambda), all)};
    incumbent.best().method = "sets of all classes";
  } else {
    incumbent.best().design = two_halves(problem);
    incumbent.best().method = "two halves";
    search(incumbent);
  }
  verify(problem, incumbent.best());
  return incumbent.best();
}

}  // namespace tessera::experts
