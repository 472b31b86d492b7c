// Predicts which share of listed key tiles misses the L2 cache, by the order of items and the start of their walks.
//
//   g++ -O2 -std=c++20 -Isrc -Iinclude tools/gpu/cache_model.cpp -o cache_model
//   ./cache_model QUERY_TILES random|lines CACHE_MB
//
// Four query heads of one KV head of 128 channels. 132 blocks take items from a counter; a unit takes one step (10 %
// jitter, and blocks differ by 2 %), the start of an item three; the cache drops what was used longest ago. `random`: 5
// % of the 128x128 tiles; `lines`: MInference's (1000, 6096) in tiles of 128x64. No GPU is needed; 1,024 query tiles
// take 1 s, 8,192 half a minute.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "attention/cuda/list_phases.h"

namespace {

namespace cuda = tessera::attention::cuda;
using cuda::cost_class;

constexpr int kHeads = 4;
constexpr int kBlocks = 132;
constexpr int kColumnUnits = 8;

struct Lists {
  int query_tiles = 0;
  int tiles_per_unit = 1;
  int column_units = 0;
  std::vector<std::vector<int>> tiles;  // [head * query_tiles + query tile], last to first

  int tile_units(int row) const { return (static_cast<int>(tiles[row].size()) + tiles_per_unit - 1) / tiles_per_unit; }
  int units(int row) const { return tile_units(row) + std::min(column_units, row % query_tiles + 1); }
};

Lists random_lists(int query_tiles, std::mt19937& random) {
  Lists lists{.query_tiles = query_tiles, .tiles = {}};
  std::uniform_real_distribution<double> uniform;
  for (int row = 0; row < kHeads * query_tiles; ++row) {
    auto& list = lists.tiles.emplace_back();
    for (int key = row % query_tiles; key >= 0; --key) {
      if (key == row % query_tiles || uniform(random) < 0.05) list.push_back(key);
    }
  }
  return lists;
}

Lists line_lists(int query_tiles, std::mt19937& random) {
  Lists lists{.query_tiles = query_tiles, .tiles_per_unit = 2, .column_units = kColumnUnits, .tiles = {}};
  const int length = query_tiles * 128;
  for (int head = 0; head < kHeads; ++head) {
    std::vector<int> before(length + 257);  // wanted distances below each one
    std::vector<bool> wanted(length + 256);
    std::fill_n(wanted.begin(), 4064, true);
    std::uniform_int_distribution<int> start(4064, length - 33);
    for (int run = 0; run < 64; ++run) std::fill_n(wanted.begin() + start(random), 32, true);
    for (int i = 0; i < length + 256; ++i) before[i + 1] = before[i] + wanted[i];
    for (int tile = 0; tile < query_tiles; ++tile) {
      auto& list = lists.tiles.emplace_back();
      for (int key = 2 * tile + 1; key >= 0; --key) {
        const int base = tile * 128 - key * 64;
        if (before[std::max(0, base + 128)] > before[std::max(0, base - 63)]) list.push_back(key);
      }
    }
  }
  return lists;
}

// Least recently used tiles leave first.
class Cache {
 public:
  Cache(int tiles, int room) : where_(tiles, used_.end()), room_(room) {}
  bool hit(int tile) {
    const bool here = where_[tile] != used_.end();
    if (here) {
      used_.splice(used_.begin(), used_, where_[tile]);
    } else {
      used_.push_front(tile);
      where_[tile] = used_.begin();
      if (static_cast<int>(used_.size()) > room_) {
        where_[used_.back()] = used_.end();
        used_.pop_back();
      }
    }
    return here;
  }

 private:
  std::list<int> used_;
  std::vector<std::list<int>::iterator> where_;
  int room_;
};

using Item = cuda::WorkItem;

enum class Order { by_head, like_dense };
enum class Start { last_tile, aligned };

std::vector<Item> items_of(const Lists& lists, Order order) {
  const int rows = kHeads * lists.query_tiles;
  int64_t total = 0;
  for (int row = 0; row < rows; ++row) total += lists.units(row);
  const auto limit = static_cast<int>(std::max((2 * total + rows - 1) / rows, (2 * total + 1023) / 1024));
  std::vector<std::vector<Item>> classes(cuda::kCostClasses);
  for (int index = 0; index < rows; ++index) {
    const int row =
        order == Order::by_head ? index : index % kHeads * lists.query_tiles + lists.query_tiles - 1 - index / kHeads;
    const int units = lists.units(row);
    const int parts = std::max(1, (units + limit - 1) / limit);
    for (int part = 0; part < parts; ++part) {
      const int begin = units * part / parts;
      const int count = units * (part + 1) / parts - begin;
      classes[cost_class(count)].push_back({row, begin, count, -1, 0});
    }
  }
  std::vector<Item> items;
  for (const auto& level : classes) items.insert(items.end(), level.begin(), level.end());
  return items;
}

void align(std::vector<Item>& items) {
  auto shared = std::make_unique<cuda::PhaseShared>();
  cuda::plan_phases(cuda::PhaseBlock{}, items.data(), static_cast<int32_t>(items.size()), kBlocks, *shared);
}

double miss_share(const Lists& lists, const std::vector<Item>& items, int cache_mb) {
  struct Block {
    double time;
    int item, step;
    double pace;  // time of a step
    bool operator<(const Block& other) const { return time > other.time; }
  };
  Cache cache(lists.query_tiles * lists.tiles_per_unit, cache_mb * 16 * lists.tiles_per_unit);
  std::mt19937 random(3);
  std::uniform_real_distribution<double> jitter(-0.1, 0.1);
  std::uniform_real_distribution<double> pace(0.98, 1.02);
  std::priority_queue<Block> blocks;
  const int count = static_cast<int>(items.size());
  int next = 0;
  for (; next < std::min(kBlocks, count); ++next) blocks.push({0.5 + jitter(random), next, 0, pace(random)});
  int64_t units = 0, missed = 0;
  while (!blocks.empty()) {
    const Block block = blocks.top();
    blocks.pop();
    const Item& item = items[block.item];
    if (block.step >= item.count) {
      if (next < count) blocks.push({block.time + cuda::kItemOverhead, next++, 0, block.pace});
      continue;
    }
    const int unit = item.begin + (item.first + block.step) % item.count;
    const auto& list = lists.tiles[item.row];
    for (int t = 0; t < lists.tiles_per_unit && unit < lists.tile_units(item.row); ++t) {
      const int at = unit * lists.tiles_per_unit + t;
      if (at < static_cast<int>(list.size())) missed += !cache.hit(list[at]);
    }
    ++units;
    blocks.push({block.time + block.pace * (1 + jitter(random)), block.item, block.step + 1, block.pace});
  }
  return static_cast<double>(missed) / static_cast<double>(units * lists.tiles_per_unit);
}

}  // namespace

int main(int count, char** arguments) {
  const std::string kind = count == 4 ? arguments[2] : "";
  const int query_tiles = count == 4 ? std::atoi(arguments[1]) : 0;
  const int cache_mb = count == 4 ? std::atoi(arguments[3]) : 0;
  if (query_tiles < 64 || cache_mb < 1 || (kind != "random" && kind != "lines")) {
    std::fprintf(stderr, "usage: cache_model QUERY_TILES(>= 64) random|lines CACHE_MB\n");
    return 2;
  }
  std::mt19937 random(1);
  const Lists lists = kind == "random" ? random_lists(query_tiles, random) : line_lists(query_tiles, random);
  for (Order order : {Order::by_head, Order::like_dense}) {
    for (Start start : {Start::last_tile, Start::aligned}) {
      std::vector<Item> items = items_of(lists, order);
      if (start == Start::aligned) align(items);
      std::printf("%-10s %-9s %5.1f %% of the units' tiles miss %d MB\n",
                  order == Order::by_head ? "by head" : "like dense", start == Start::aligned ? "aligned" : "last tile",
                  100 * miss_share(lists, items, cache_mb), cache_mb);
      std::fflush(stdout);
    }
  }
}
