// The choice of pages by a cluster of blocks against a sort, and the division of the chosen pages among its blocks.
#include "attention/cuda/decode_cluster.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "attention/cuda/decode_pages.h"

namespace tessera::attention::cuda {
namespace {

std::size_t at(int64_t index) { return static_cast<std::size_t>(index); }

// The orders of a cluster's blocks and what they choose, as the kernel does it.
class Cluster {
 public:
  Cluster(std::vector<float> scores, int32_t budget)
      : scores_(std::move(scores)), pages_(static_cast<int32_t>(scores_.size())), total_(std::min(budget, pages_)) {
    const int32_t length = (std::min(own_pages(pages_, 0), budget) + 15) / 16 * 16;
    for (int32_t block = 0; block < kClusterBlocks; ++block) sort(block, length);
    for (int32_t block = 0; block < kClusterBlocks; ++block) count(block);
  }

  int32_t total() const { return total_; }
  const std::vector<int32_t>& chosen() const { return chosen_; }
  PageOrder order(int32_t block) const {
    return {keys_[at(block)].data(), indices_[at(block)].data(), counts_[at(block)], block};
  }

  std::vector<int32_t> pages() const {
    std::vector<int32_t> pages;
    for (int32_t block = 0; block < kClusterBlocks; ++block) {
      for (int32_t rank = 0; rank < chosen_[at(block)]; ++rank) {
        pages.push_back(OwnPage{block, order(block).indices[rank]}.page());
      }
    }
    std::sort(pages.begin(), pages.end());
    return pages;
  }

  std::vector<int32_t> wanted() const {
    std::vector<int32_t> pages(scores_.size());
    std::iota(pages.begin(), pages.end(), 0);
    std::stable_sort(pages.begin(), pages.end(), [&](int32_t a, int32_t b) { return scores_[at(a)] > scores_[at(b)]; });
    pages.resize(at(total_));
    std::sort(pages.begin(), pages.end());
    return pages;
  }

 private:
  void sort(int32_t block, int32_t length) {
    const int32_t own = own_pages(pages_, block);
    std::vector<uint32_t> unordered(at((own + 3) / 4 * 4), 0);
    for (int32_t i = 0; i < own; ++i) unordered[at(i)] = order_key(scores_[at(OwnPage{block, i}.page())]);
    const auto kept = at(std::min(own, length));
    std::vector<uint32_t> keys(at(length));
    std::vector<uint8_t> indices(at(length));
    for (int32_t i = 0; i < own; ++i) {
      const int32_t rank = preferred_before(unordered.data(), own, i);
      if (at(rank) >= kept) continue;
      keys[at(rank)] = unordered[at(i)];
      indices[at(rank)] = static_cast<uint8_t>(i);
    }
    counts_.push_back(static_cast<int32_t>(kept));
    keys_.push_back(keys);
    indices_.push_back(indices);
  }

  void count(int32_t block) {
    const PageOrder mine = order(block);
    int32_t chosen = 0;
    for (int32_t rank = 0; rank < mine.count; ++rank) {
      int32_t before = rank;
      for (int32_t other = 0; other < kClusterBlocks; ++other) {
        if (other != block) before += preceding(order(other), mine.keys[rank], {block, mine.indices[rank]});
      }
      if (before >= total_) continue;
      EXPECT_EQ(chosen, rank) << "the chosen pages are not the beginning of the order";
      ++chosen;
    }
    chosen_.push_back(chosen);
  }

  int32_t preceding(const PageOrder& order, uint32_t key, const OwnPage& page) const {
    PlaceInOrder place(key, page, order.block);
    for (int32_t step = first_step(static_cast<int32_t>(keys_[0].size())); step > 0; step /= 2) place.step(order, step);
    return place.found;
  }

  std::vector<float> scores_;
  int32_t pages_, total_;
  std::vector<std::vector<uint32_t>> keys_;
  std::vector<std::vector<uint8_t>> indices_;
  std::vector<int32_t> counts_, chosen_;
};

// Many values; few values often; the best of them all in one block; all infinite. First and last infinite.
std::vector<std::vector<float>> kinds_of_scores(int32_t size) {
  std::mt19937_64 random(6);
  std::normal_distribution<float> normal(30, 4);
  std::vector<std::vector<float>> kinds(4, std::vector<float>(at(size), INFINITY));
  for (int32_t i = 1; i + 2 < size; ++i) {
    kinds[0][at(i)] = normal(random);
    kinds[1][at(i)] = static_cast<float>(static_cast<int>(random() % 5)) - 2.0F;
    kinds[2][at(i)] = normal(random) + (i % kClusterBlocks == 5 ? 100.0F : 0.0F);
  }
  return kinds;
}

TEST(DecodeCluster, ChoosesTheLargestWithTiesByLowerPage) {
  for (const int32_t size : {0, 1, 15, 17, 100, 625, 2048, 4096}) {
    for (const std::vector<float>& scores : kinds_of_scores(size)) {
      for (const int32_t budget : {3, 16, 39, 128, size}) {
        if (budget < 3) continue;
        const Cluster cluster(scores, budget);
        EXPECT_EQ(cluster.pages(), cluster.wanted()) << size << " pages, budget " << budget;
      }
    }
  }
}

TEST(DecodeCluster, EveryChosenPageHasOneBlockAndSharesAreEqual) {
  for (const int32_t size : {0, 10, 100, 625, 2048}) {
    for (const std::vector<float>& scores : kinds_of_scores(size)) {
      for (const int32_t budget : {5, 39, 128}) {
        for (const int32_t room : {0, 1, 3, 6}) {
          const Cluster cluster(scores, budget);
          const PageShares shares = {cluster.chosen().data(), early_pages(room, cluster.total()), cluster.total()};
          std::vector<int32_t> pages;
          for (int32_t block = 0; block < kClusterBlocks; ++block) {
            ASSERT_GE(shares.extra(block), 0);
            const int32_t count = shares.kept(block) + shares.extra(block);
            EXPECT_EQ(count, cluster.total() / kClusterBlocks + (block < cluster.total() % kClusterBlocks));
            for (int32_t rank = 0; rank < shares.kept(block); ++rank) {
              pages.push_back(OwnPage{block, cluster.order(block).indices[rank]}.page());
            }
            for (int32_t number = 0; number < shares.extra(block); ++number) {
              const PageShares::Place place = shares.extra_page(block, number);
              ASSERT_LT(place.rank, cluster.chosen()[at(place.block)]);
              pages.push_back(OwnPage{place.block, cluster.order(place.block).indices[place.rank]}.page());
            }
          }
          std::sort(pages.begin(), pages.end());
          EXPECT_EQ(pages, cluster.pages()) << size << " pages, budget " << budget << ", room " << room;
        }
      }
    }
  }
}

TEST(DecodeCluster, PlacesInTheAscendingListAreCounted) {
  std::mt19937 random(7);
  std::set<int32_t> chosen;
  while (chosen.size() < 300) chosen.insert(static_cast<int32_t>(random() % 4096));
  std::vector<uint32_t> sets(kClusterBlocks * kSetWords, 0);
  for (const int32_t page : chosen) {
    const int32_t index = page / kClusterBlocks;
    sets[at(page % kClusterBlocks * kSetWords + index / 32)] |= 1U << (index % 32);
  }
  int32_t place = 0;
  for (const int32_t page : chosen) {
    int32_t below = 0;
    for (int32_t block = 0; block < kClusterBlocks; ++block) {
      below += members_below(sets.data() + block * kSetWords, block, {page % kClusterBlocks, page / kClusterBlocks});
    }
    EXPECT_EQ(below, place++);
  }
}

template <int kDim>
void expect_equal_bounds(int32_t heads) {
  std::mt19937_64 random(8);
  std::normal_distribution<float> normal;
  const auto numbers = [&](int32_t count) {
    std::vector<uint16_t> bits(at(count));
    for (uint16_t& x : bits) x = __bfloat16_as_ushort(__float2bfloat16(normal(random)));
    return bits;
  };
  std::vector<uint16_t> queries = numbers(heads * kDim);
  queries[3] = 0;
  std::vector<uint16_t> pages = numbers(kBoundPages * 2 * kDim);
  for (int page = 0; page < kBoundPages; ++page) {
    for (int c = 0; c < kDim; ++c) {
      uint16_t& low = pages[at(page * 2 * kDim + c)];
      uint16_t& high = pages[at((page * 2 + 1) * kDim + c)];
      if (Bfloat::decode(low) > Bfloat::decode(high)) std::swap(low, high);
    }
  }
  Lanes<const uint8_t*> bounds;
  for (int lane = 0; lane < kWarp; ++lane) {
    bounds[lane] = reinterpret_cast<const uint8_t*>(pages.data() + lane / kBoundLanes * 2 * kDim);
  }
  Lanes<float> wanted, best;
  page_bounds<kDim>(queries.data(), kDim, heads, bounds, wanted);
  std::vector<float> found(kWarp, -INFINITY);
  for (int32_t first = 0; first < heads; first += BoundScorer<kDim>::kHeads) {
    BoundScorer<kDim> scorer;
    scorer.load(queries.data() + first * kDim, kDim, heads - first);
    scorer.score(bounds, best);
    for (int lane = 0; lane < kWarp; ++lane) found[at(lane)] = std::max(found[at(lane)], best[lane]);
  }
  for (int lane = 0; lane < kWarp; ++lane) EXPECT_EQ(found[at(lane)], wanted[lane]) << kDim << ", heads " << heads;
}

TEST(DecodeCluster, BoundsWithQueriesInRegistersAreTheSameBits) {
  for (const int32_t heads : {1, 2, 4, 5, 8}) {
    expect_equal_bounds<64>(heads);
    expect_equal_bounds<96>(heads);
    expect_equal_bounds<128>(heads);
    expect_equal_bounds<256>(heads);
  }
}

}  // namespace
}  // namespace tessera::attention::cuda
