// Seeded random numbers that are the same on every platform and standard library.
//
// xoshiro256** (Blackman and Vigna, 2018) seeded through splitmix64. Independent streams come from `split`, so that a
// parallel loop draws the same numbers whatever the thread count.
//
//   Random random(seed);
//   Random mine = random.split(row);
//   int64_t pick = mine.below(10);
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

namespace tessera {

class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {
    uint64_t state = seed;
    for (uint64_t& word : state_) word = splitmix(state);
  }

  // A generator for one stream of this seed; does not depend on what was drawn before.
  Random split(uint64_t stream) const {
    uint64_t state = seed_ ^ (0x9E3779B97F4A7C15ULL * (stream + 1));
    return Random(splitmix(state));
  }

  uint64_t bits() {
    const uint64_t result = rotate_left(state_[1] * 5, 7) * 9;
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rotate_left(state_[3], 45);
    return result;
  }

  // Uniform in [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }

  // Uniform in [0, limit), without bias; limit >= 1 (Lemire, 2019).
  int64_t below(int64_t limit) {
    const auto range = static_cast<uint64_t>(limit);
    Wide product = static_cast<Wide>(bits()) * range;
    if (static_cast<uint64_t>(product) < range) {
      const uint64_t threshold = (0 - range) % range;
      while (static_cast<uint64_t>(product) < threshold) product = static_cast<Wide>(bits()) * range;
    }
    return static_cast<int64_t>(product >> 64);
  }

  // Standard normal (Box and Muller).
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

  // Fisher and Yates.
  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (int64_t i = static_cast<int64_t>(items.size()) - 1; i > 0; --i) {
      std::swap(items[static_cast<size_t>(i)], items[static_cast<size_t>(below(i + 1))]);
    }
  }

 private:
  __extension__ using Wide = unsigned __int128;

  static uint64_t rotate_left(uint64_t value, int by) { return (value << by) | (value >> (64 - by)); }
  static uint64_t splitmix(uint64_t& state) {
    uint64_t z = (state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }

  uint64_t seed_;
  uint64_t state_[4] = {};
};

}  // namespace tessera
