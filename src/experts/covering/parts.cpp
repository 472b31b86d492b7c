#include "experts/covering/parts.h"

#include <algorithm>

#include "experts/covering/hole_designs.h"
#include "experts/covering/rotation.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr double kFirstSeconds = 0.12;  // of a part's search; doubled with its effort
constexpr double kShare = 0.3;          // of the time left, at most
constexpr int kAttempts = 3;            // coverings looked through for a set that serves a hole only

// Points of set j with a pair that no other set holds.
std::vector<char> needed_points(const Design& design, size_t j) {
  const auto n = static_cast<size_t>(design.classes);
  std::vector<int> held(n * n, 0);
  for (const std::vector<int>& set : design.sets) {
    for (const int a : set) {
      for (const int b : set) ++held[static_cast<size_t>(a) * n + static_cast<size_t>(b)];
    }
  }
  std::vector<char> needed(n, 0);
  for (const int a : design.sets[j]) {
    for (const int b : design.sets[j]) {
      if (a != b && held[static_cast<size_t>(a) * n + static_cast<size_t>(b)] == 1) needed[static_cast<size_t>(a)] = 1;
    }
  }
  return needed;
}

// Leaves out a set that is needed for at most `hole` points, which become the last ones; false when there is none.
bool open_hole(Design& design, int hole) {
  for (size_t j = 0; j < design.sets.size(); ++j) {
    std::vector<char> last = needed_points(design, j);
    auto count = std::count(last.begin(), last.end(), 1);
    if (count > hole) continue;
    const auto take = [&](int a) {
      if (count < hole && last[static_cast<size_t>(a)] == 0) {
        last[static_cast<size_t>(a)] = 1;
        ++count;
      }
    };
    for (const int a : design.sets[j]) take(a);
    for (int a = 0; a < design.classes; ++a) take(a);
    std::vector<int> label(last.size());
    int low = 0, high = design.classes - hole;
    for (size_t a = 0; a < last.size(); ++a) label[a] = last[a] != 0 ? high++ : low++;
    design.sets.erase(design.sets.begin() + static_cast<int64_t>(j));
    for (std::vector<int>& set : design.sets) {
      for (int& item : set) item = label[static_cast<size_t>(item)];
    }
    return true;
  }
  return false;
}

}  // namespace

double Parts::seconds(int effort) const {
  return std::clamp(kShare * seconds_left_(), 0.0, kFirstSeconds * (1 << std::min(effort - 1, 8)));
}

bool Parts::improve(const Key& key, Part& part, int effort) const {
  const uint64_t seed = Random(seed_).split(static_cast<uint64_t>(effort)).bits();
  const double time = seconds(effort);
  if (key.hole == 0) {
    Design found = find_covering({.classes = key.classes, .size = key.size}, {.seconds = time, .seed = seed}).design;
    if (part.design.sets.empty() || found.sets.size() < part.design.sets.size()) part.design = std::move(found);
    return static_cast<int64_t>(part.design.sets.size()) <= lower_bound(key.classes, key.size, 1).sets;
  }
  const int64_t sets = hole_bound(key.classes, key.hole, key.size);
  if (key.hole <= key.size && sets + 1 >= lower_bound(key.classes, key.size, 1).sets) {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      Design found = find_covering({.classes = key.classes, .size = key.size},
                                   {.seconds = time / (2 * kAttempts), .seed = seed + static_cast<uint64_t>(attempt)})
                         .design;
      if (static_cast<int64_t>(found.sets.size()) > sets + 1 || !open_hole(found, key.hole)) continue;
      part.design = std::move(found);
      return true;
    }
  }
  part.design =
      decompose_around_hole(key.classes, key.hole, key.size, {.sets = sets, .seconds = time / 2, .seed = seed});
  return !part.design.sets.empty();
}

const Design& Parts::covering(int classes, int size, int effort) {
  const Key key{classes, 0, size};
  Part& part = parts_[key];
  if (!part.done && part.effort < effort) {
    part.done = improve(key, part, effort);
    part.effort = effort;
  }
  return part.design;
}

const Design& Parts::with_hole(int classes, int hole, int size, int effort) {
  if (hole <= 1) return covering(classes, size, effort);
  const Key key{classes, hole, size};
  Part& part = parts_[key];
  if (!part.done && part.effort < effort) {
    part.done = improve(key, part, effort);
    part.effort = effort;
  }
  return part.design;
}

int64_t Parts::covering_sets(int classes, int size) const {
  if (classes <= 1) return 0;
  const auto found = parts_.find({classes, 0, size});
  if (found != parts_.end() && !found->second.design.sets.empty())
    return static_cast<int64_t>(found->second.design.sets.size());
  return lower_bound(classes, size, 1).sets;
}

int64_t Parts::hole_sets(int classes, int hole, int size) const {
  return hole <= 1 ? covering_sets(classes, size) : hole_bound(classes, hole, size);
}

}  // namespace tessera::experts
