// Smaller coverings that larger ones are filled with: each is searched for once and kept.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "tessera/experts/covering.h"

namespace tessera::experts {

class Parts {
 public:
  // `seconds_left` says how much time the search that needs the parts still has.
  Parts(uint64_t seed, std::function<double()> seconds_left) : seed_(seed), seconds_left_(std::move(seconds_left)) {}

  // The best covering found in a short search; searched again when `effort` (1, 2, ...) grows, longer every time.
  const Design& covering(int classes, int size, int effort);

  // Sets that hold every pair but those among the last `hole` classes, hole_bound() of them, or none when no such
  // design was found.
  const Design& with_hole(int classes, int hole, int size, int effort);

  // Fewest sets that these can have, or have when they were searched for.
  int64_t covering_sets(int classes, int size) const;
  int64_t hole_sets(int classes, int hole, int size) const;

 private:
  struct Part {
    Design design;
    int effort = 0;
    bool done = false;  // meets its bound
  };
  struct Key {
    int classes, hole, size;
    auto operator<=>(const Key&) const = default;
  };
  double seconds(int effort) const;
  bool improve(const Key& key, Part& part, int effort) const;

  uint64_t seed_;
  std::function<double()> seconds_left_;
  std::map<Key, Part> parts_;
};

}  // namespace tessera::experts
