#include "experts/covering/exact_cover.h"

#include <algorithm>

namespace tessera::experts {
namespace {

constexpr int64_t kNodesPerQuestion = 128;

}  // namespace

ExactCover::ExactCover(int items, const std::vector<std::vector<int>>& options)
    : first_{0},
      lists_(static_cast<size_t>(items)),
      live_(static_cast<size_t>(items)),
      covered_(static_cast<size_t>(items), 0),
      out_(options.size(), 0) {
  for (size_t o = 0; o < options.size(); ++o) {
    for (const int item : options[o]) {
      std::vector<size_t>& list = lists_[static_cast<size_t>(item)];
      list.push_back(places_.size());
      places_.push_back({static_cast<size_t>(item), o, list.size() - 1});
    }
    first_.push_back(places_.size());
  }
  for (size_t i = 0; i < lists_.size(); ++i) live_[i] = lists_[i].size();
}

// The open item with the fewest options, any of them; the number of items when all are covered.
size_t ExactCover::rarest_item(Random& random) const {
  size_t rarest = lists_.size(), fewest = first_.size();
  int64_t ties = 0;
  for (size_t i = 0; i < lists_.size(); ++i) {
    if (covered_[i] != 0 || live_[i] > fewest) continue;
    if (live_[i] < fewest) ties = 0;
    if (random.below(++ties) == 0) rarest = i;
    fewest = live_[i];
  }
  return rarest;
}

// Lists of covered items stay as they are: they say what comes back.
void ExactCover::take_out(size_t option) {
  if (out_[option] != 0) return;
  out_[option] = 1;
  trail_.push_back(option);
  for (size_t p = first_[option]; p < first_[option + 1]; ++p) {
    Place& place = places_[p];
    if (covered_[place.item] != 0) continue;
    std::vector<size_t>& list = lists_[place.item];
    const size_t last = --live_[place.item], other = list[last];
    std::swap(list[place.at], list[last]);
    std::swap(place.at, places_[other].at);
  }
}

void ExactCover::choose(size_t option) {
  chosen_.push_back(option);
  marks_.push_back(trail_.size());
  for (size_t p = first_[option]; p < first_[option + 1]; ++p) covered_[places_[p].item] = 1;
  for (size_t p = first_[option]; p < first_[option + 1]; ++p) {
    const size_t item = places_[p].item;
    for (size_t i = 0; i < live_[item]; ++i) take_out(places_[lists_[item][i]].option);
  }
}

void ExactCover::undo(size_t option) {
  for (; trail_.size() > marks_.back(); trail_.pop_back()) {
    const size_t back = trail_.back();
    out_[back] = 0;
    for (size_t p = first_[back]; p < first_[back + 1]; ++p) {
      if (covered_[places_[p].item] == 0) ++live_[places_[p].item];
    }
  }
  for (size_t p = first_[option]; p < first_[option + 1]; ++p) covered_[places_[p].item] = 0;
  marks_.pop_back();
}

CoverOutcome ExactCover::descend(Random& random, const std::function<bool()>& stop) {
  if (--nodes_left_ < 0 || (nodes_left_ % kNodesPerQuestion == 0 && stop())) return CoverOutcome::stopped;
  const size_t item = rarest_item(random);
  if (item == lists_.size()) return CoverOutcome::found;
  std::vector<size_t> options;
  for (size_t i = 0; i < live_[item]; ++i) options.push_back(places_[lists_[item][i]].option);
  random.shuffle(options);
  for (const size_t option : options) {
    choose(option);
    const CoverOutcome outcome = descend(random, stop);
    undo(option);
    if (outcome != CoverOutcome::none) return outcome;
    chosen_.pop_back();
  }
  return CoverOutcome::none;
}

CoverOutcome ExactCover::attempt(int64_t nodes, Random& random, const std::function<bool()>& stop) {
  chosen_.clear();
  nodes_left_ = nodes;
  return descend(random, stop);
}

}  // namespace tessera::experts
