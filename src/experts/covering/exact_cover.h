// Exact cover: options that hold every item just once. The item with the fewest options is decided first, ties and the
// order of options are random, so that many short attempts find what one long search would not come to.
//
// Sources: Knuth, "Dancing links" (2000), with sparse sets in place of links (Knuth's "dancing cells", 2023); restarts:
// Gomes, Selman, Kautz (1998).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "tessera/base/random.h"

namespace tessera::experts {

enum class CoverOutcome { found, none, stopped };

class ExactCover {
 public:
  // Options list items 0..items - 1, each at most once.
  ExactCover(int items, const std::vector<std::vector<int>>& options);

  // Ends with `stopped` after `nodes` choices or when `stop` (asked every few hundred) says so; `none` is a proof.
  CoverOutcome attempt(int64_t nodes, Random& random, const std::function<bool()>& stop);

  // Numbers of the options of the last attempt that found a cover.
  const std::vector<size_t>& chosen() const { return chosen_; }

 private:
  size_t rarest_item(Random& random) const;
  void choose(size_t option);
  void undo(size_t option);
  void take_out(size_t option);
  CoverOutcome descend(Random& random, const std::function<bool()>& stop);

  struct Place {  // of an option in the list of one of its items
    size_t item, option, at;
  };
  std::vector<Place> places_;
  std::vector<size_t> first_;               // [options + 1]: an option's places
  std::vector<std::vector<size_t>> lists_;  // [items]: places, those of options that are still possible first
  std::vector<size_t> live_;                // [items]: how many these are
  std::vector<char> covered_;               // [items]
  std::vector<char> out_;                   // [options]
  std::vector<size_t> trail_;               // options taken out, oldest first
  std::vector<size_t> marks_;               // lengths of the trail before each choice
  std::vector<size_t> chosen_;
  int64_t nodes_left_ = 0;
};

}  // namespace tessera::experts
