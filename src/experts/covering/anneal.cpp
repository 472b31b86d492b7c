#include "experts/covering/anneal.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr int kCoolingSteps = 200;
constexpr size_t kLargestLoss = 32;          // a move that uncovers more is never accepted
constexpr int64_t kMovesPerQuestion = 8192;  // between two questions whether to stop

template <size_t Words>
struct Bits {
  std::array<uint64_t, Words> word{};

  void set(int i) { word[static_cast<size_t>(i) / 64] |= uint64_t{1} << (i % 64); }
  void clear(int i) { word[static_cast<size_t>(i) / 64] &= ~(uint64_t{1} << (i % 64)); }
  bool has(int i) const { return (word[static_cast<size_t>(i) / 64] >> (i % 64) & 1) != 0; }
};

template <size_t Words>
int common(const Bits<Words>& a, const Bits<Words>& b) {
  int count = 0;
  for (size_t w = 0; w < Words; ++w) count += std::popcount(a.word[w] & b.word[w]);
  return count;
}

template <size_t Words>
class Annealer {
 public:
  Annealer(const CoveringProblem& problem, int64_t sets, const AnnealOptions& options, const Design* start)
      : classes_(problem.classes),
        size_(std::min(problem.size, problem.classes)),
        lambda_(problem.lambda),
        sets_(sets),
        options_(options),
        random_(options.seed),
        slots_(static_cast<size_t>(sets * size_)),
        members_(static_cast<size_t>(sets)),
        counts_(static_cast<size_t>(classes_) * static_cast<size_t>(classes_), 0),
        open_(static_cast<size_t>(classes_)),
        tight_(static_cast<size_t>(classes_)) {
    for (int a = 0; a < classes_; ++a) {
      for (int b = 0; b < classes_; ++b) {
        if (a == b) continue;
        open_[static_cast<size_t>(a)].set(b);
        tight_[static_cast<size_t>(a)].set(b);
      }
    }
    cost_ = static_cast<int64_t>(classes_) * (classes_ - 1) / 2 * lambda_;
    for (int64_t j = 0; j < sets; ++j) place(j, start);
  }

  AnnealResult run() {
    AnnealResult result;
    const int64_t per_step = std::max<int64_t>(1, options_.moves / kCoolingSteps);
    const double ratio = std::pow(options_.cold / options_.hot, 1.0 / (kCoolingSteps - 1));
    double temperature = options_.hot;
    for (int step = 0; step < kCoolingSteps && cost_ > 0; ++step, temperature *= ratio) {
      for (size_t loss = 0; loss < kLargestLoss; ++loss) {
        threshold_[loss] = static_cast<uint64_t>(std::exp(-static_cast<double>(loss) / temperature) * 0x1.0p32);
      }
      if (!walk(per_step, result)) break;
    }
    result.cost = cost_;
    result.design.classes = classes_;
    for (int64_t j = 0; j < sets_; ++j) {
      const auto first = slots_.begin() + j * size_;
      result.design.sets.emplace_back(first, first + size_);
      std::sort(result.design.sets.back().begin(), result.design.sets.back().end());
    }
    return result;
  }

 private:
  void place(int64_t j, const Design* start) {
    const auto first = static_cast<size_t>(j * size_);
    Bits<Words>& members = members_[static_cast<size_t>(j)];
    int placed = 0;
    const auto add = [&](int item) {
      if (placed == size_ || members.has(item)) return;
      for (int i = 0; i < placed; ++i) cover(slots_[first + static_cast<size_t>(i)], item);
      members.set(item);
      slots_[first + static_cast<size_t>(placed++)] = static_cast<uint16_t>(item);
    };
    if (start != nullptr && static_cast<size_t>(j) < start->sets.size()) {
      for (const int item : start->sets[static_cast<size_t>(j)]) add(item);
    }
    while (placed < size_) add(static_cast<int>(random_.below(classes_)));
  }

  // `moves` proposals at one temperature; false when the attempt is over.
  bool walk(int64_t moves, AnnealResult& result) {
    const auto slots = static_cast<uint64_t>(sets_ * size_);
    const auto classes = static_cast<uint64_t>(classes_);
    for (int64_t done = 0; done < moves;) {
      const int64_t chunk = std::min(moves - done, kMovesPerQuestion);
      for (int64_t i = 0; i < chunk; ++i) {
        const uint64_t draw = random_.bits();
        const uint64_t slot = (draw >> 32) * slots >> 32;
        const auto added = static_cast<int>((draw & 0xffffffff) * classes >> 32);
        const uint64_t set = slot / static_cast<uint64_t>(size_);
        const Bits<Words>& members = members_[set];
        if (members.has(added)) continue;
        const int removed = slots_[slot];
        // `removed` is no partner of itself, so it does not count among its own tight partners.
        const int lost = common(members, tight_[static_cast<size_t>(removed)]);
        const int won = common(members, open_[static_cast<size_t>(added)]) -
                        (open_[static_cast<size_t>(added)].has(removed) ? 1 : 0);
        const int loss = lost - won;
        if (loss > 0) {
          if (static_cast<size_t>(loss) >= kLargestLoss) continue;
          if ((random_.bits() >> 32) >= threshold_[static_cast<size_t>(loss)]) continue;
        }
        replace(set, slot, added);
        ++result.accepted;
        if (cost_ == 0) {
          result.moves += i + 1;
          return false;
        }
      }
      done += chunk;
      result.moves += chunk;
      if (options_.stop && options_.stop()) return false;
    }
    return true;
  }

  void replace(uint64_t set, uint64_t slot, int added) {
    const int removed = slots_[slot];
    const uint64_t first = set * static_cast<uint64_t>(size_);
    slots_[slot] = static_cast<uint16_t>(added);
    for (uint64_t i = first; i < first + static_cast<uint64_t>(size_); ++i) {
      if (i == slot) continue;
      uncover(removed, slots_[i]);
      cover(added, slots_[i]);
    }
    members_[set].clear(removed);
    members_[set].set(added);
  }

  uint16_t& count(int a, int b) {
    return counts_[static_cast<size_t>(std::min(a, b)) * static_cast<size_t>(classes_) +
                   static_cast<size_t>(std::max(a, b))];
  }
  void cover(int a, int b) {
    const int now = ++count(a, b);
    if (now <= lambda_) --cost_;
    if (now == lambda_) {
      open_[static_cast<size_t>(a)].clear(b);
      open_[static_cast<size_t>(b)].clear(a);
    } else if (now == lambda_ + 1) {
      tight_[static_cast<size_t>(a)].clear(b);
      tight_[static_cast<size_t>(b)].clear(a);
    }
  }
  void uncover(int a, int b) {
    const int now = --count(a, b);
    if (now < lambda_) ++cost_;
    if (now == lambda_ - 1) {
      open_[static_cast<size_t>(a)].set(b);
      open_[static_cast<size_t>(b)].set(a);
    } else if (now == lambda_) {
      tight_[static_cast<size_t>(a)].set(b);
      tight_[static_cast<size_t>(b)].set(a);
    }
  }

  const int classes_, size_, lambda_;
  const int64_t sets_;
  const AnnealOptions& options_;
  Random random_;
  std::vector<uint16_t> slots_;       // [sets, size]: the classes of each set, in no order
  std::vector<Bits<Words>> members_;  // [sets]
  std::vector<uint16_t> counts_;      // [classes, classes], upper triangle: sets that hold the pair
  std::vector<Bits<Words>> open_;     // [classes]: partners in fewer than lambda common sets
  std::vector<Bits<Words>> tight_;    // [classes]: partners in at most lambda common sets
  std::array<uint64_t, kLargestLoss> threshold_{};
  int64_t cost_ = 0;
};

template <size_t Words>
AnnealResult run(const CoveringProblem& problem, int64_t sets, const AnnealOptions& options, const Design* start) {
  return Annealer<Words>(problem, sets, options, start).run();
}

}  // namespace

AnnealResult anneal(const CoveringProblem& problem, int64_t sets, const AnnealOptions& options, const Design* start) {
  TESSERA_ASSERT(problem.size < problem.classes && problem.classes <= kMostAnnealedClasses);
  TESSERA_ASSERT(sets >= 1 && sets < 65536);
  if (problem.classes <= 64) return run<1>(problem, sets, options, start);
  if (problem.classes <= 128) return run<2>(problem, sets, options, start);
  if (problem.classes <= 256) return run<4>(problem, sets, options, start);
  if (problem.classes <= 512) return run<8>(problem, sets, options, start);
  return run<16>(problem, sets, options, start);
}

}  // namespace tessera::experts
