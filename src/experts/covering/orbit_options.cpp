#include "experts/covering/orbit_options.h"

#include <algorithm>
#include <map>

namespace tessera::experts {
namespace {

class Collector {
 public:
  Collector(const PermutationGroup& group, int size, const std::function<bool(int, int)>& done, size_t most)
      : group_(group),
        size_(static_cast<size_t>(size)),
        most_(most),
        points_(group.points()),
        pairs_(group.pair_classes()),
        open_(pairs_.size.size(), -1) {
    for_pairs([&](int a, int b, size_t number) {
      if (open_[number] < 0 && !done(a, b)) open_[number] = cover_.open_classes++;
    });
  }

  // Every orbit has one set that holds the first pair of its first class.
  OrbitCover collect() {
    std::vector<char> seen(open_.size(), 0);
    for_pairs([&](int a, int b, size_t number) {
      if (open_[number] < 0 || seen[number] != 0) return;
      seen[number] = 1;
      first_ = number;
      std::vector<int> partners;
      for (int x = 0; x < points_; ++x) {
        if (x != a && x != b && fits(a, x) && fits(b, x)) partners.push_back(x);
      }
      std::vector<int> set = {a, b};
      extend(set, partners, 0);
    });
    if (cover_.options.size() > most_) cover_.options.clear();
    return std::move(cover_);
  }

 private:
  template <typename Visit>
  void for_pairs(const Visit& visit) const {
    for (int a = 0; a < points_; ++a) {
      for (int b = a + 1; b < points_; ++b) visit(a, b, pair_class(a, b));
    }
  }

  size_t pair_class(int a, int b) const {
    return static_cast<size_t>(
        pairs_.of[static_cast<size_t>(a) * static_cast<size_t>(points_) + static_cast<size_t>(b)]);
  }
  bool fits(int a, int b) const {
    const size_t number = pair_class(a, b);
    return open_[number] >= 0 && number >= first_;
  }

  // `set` with partners[from], ... that fit all of its points.
  void extend(std::vector<int>& set, const std::vector<int>& partners, size_t from) {
    if (set.size() == size_) return add(set);
    for (size_t i = from; i < partners.size() && cover_.options.size() <= most_; ++i) {
      const int x = partners[i];
      if (!std::all_of(set.begin() + 2, set.end(), [&](int y) { return fits(x, y); })) continue;
      set.push_back(x);
      extend(set, partners, i + 1);
      set.pop_back();
    }
  }

  // Unless its images hold some pair twice.
  void add(const std::vector<int>& set) {
    std::map<size_t, int> held;
    for (size_t i = 0; i < set.size(); ++i) {
      for (size_t j = 0; j < i; ++j) ++held[pair_class(set[i], set[j])];
    }
    int images = group_.order();
    const auto once = [&] {
      return std::all_of(held.begin(), held.end(),
                         [&](const auto& item) { return item.second * images == pairs_.size[item.first]; });
    };
    if (!once()) {  // a set that some of the group maps to itself has fewer images
      images = static_cast<int>(group_.images(set).size());
      if (images == group_.order() || !once()) return;
    }
    OrbitOption option{.base = set, .classes = {}};
    for (const auto& [number, count] : held) option.classes.push_back(open_[number]);
    cover_.options.push_back(std::move(option));
  }

  const PermutationGroup& group_;
  size_t size_, most_;
  int points_;
  PermutationGroup::PairClasses pairs_;
  std::vector<int> open_;  // [pair classes]: number among those to be covered, or -1
  size_t first_ = 0;       // class of the first two points of the sets that are being built
  OrbitCover cover_;
};

}  // namespace

std::vector<std::vector<int>> OrbitCover::items() const {
  std::vector<std::vector<int>> items;
  for (const OrbitOption& option : options) items.push_back(option.classes);
  return items;
}

OrbitCover orbit_options(const PermutationGroup& group, int size, const std::function<bool(int, int)>& done,
                         size_t most) {
  return Collector(group, size, done, most).collect();
}

void append_orbits(const PermutationGroup& group, const OrbitCover& cover, const std::vector<size_t>& chosen,
                   Design& design) {
  for (const size_t option : chosen) {
    for (std::vector<int>& image : group.images(cover.options[option].base)) design.sets.push_back(std::move(image));
  }
}

}  // namespace tessera::experts
