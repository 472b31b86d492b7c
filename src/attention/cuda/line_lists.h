// Bodies of the kernels that turn line masses into lists: the largest columns and diagonals, and the key tiles that
// diagonals, sinks, a window and dense last rows touch. Equal to the CPU selectors on the same masses, entry by entry.
//
// Sizes per head: columns + key_rows / 32 words of diagonals + one entry per listed tile; never rows x lines.
#pragma once

#include <cstring>

#include "attention/cuda/ordered_items.h"
#include "attention/cuda/partition_point.h"
#include "attention/cuda/radix_search.h"
#include "tessera/attention/cuda.h"

namespace tessera::attention::cuda {

constexpr int kLineThreads = 32;  // of the block that writes one list
constexpr int kLineItems = 8;     // consecutive values of one thread
using LineBlock = Block<kLineThreads>;

using LargestShared = SearchShared;  // one per block of a team

// Orders like the floats themselves; -0 equals 0. No NaN.
TESSERA_SIMT inline uint32_t order_key(float value) {
  value += 0.0F;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// The float of an order key.
TESSERA_SIMT inline float value_of_key(uint32_t key) {
  const uint32_t bits = (key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Largest values of one head: `forced` leading ones win every comparison.
struct LargestArguments {
  const float* values = nullptr;  // [size]
  int32_t size = 0;
  int32_t forced = 0;
  int32_t count = 0;           // kept, clipped to size
  int32_t* indices = nullptr;  // [count], ascending; ties go to the lower index
  uint32_t window = 0;         // order key a little below the kept values', see search_threshold()
};

TESSERA_SIMT inline uint32_t line_key(const LargestArguments& line, int32_t index, float value) {
  return index < line.forced ? 0xffffffffu : order_key(value);
}

// Cost: about three reads of the values by the team.
template <typename Team = SearchBlock>
TESSERA_SIMT inline void write_largest(const Team& team, const LargestArguments& line, LargestShared& shared) {
  if (line.count <= 0) return;
  team.each_block([&](int thread) {
    SearchShared& own = Team::part(shared, thread);
    if (Team::within(thread) != 0) return;
    own.need = static_cast<uint32_t>(line.count);
    own.room = 0xffffffffu;
  });
  const auto items = search_items<8>(
      line.size, [&](int32_t i) { return line.values[i]; },
      [&](int32_t i, float value) {
        return SearchItem{line_key(line, i, value), 1, 0};
      });
  search_threshold(team, items, line.window, shared);
  // 1: greater than the threshold, all kept; 2: equal to it, the first ones kept.
  const uint32_t threshold = shared.threshold;
  const uint32_t ties = shared.need;
  const auto class_of = [&](int32_t i) {
    const uint32_t key = line_key(line, i, line.values[i]);
    return key > threshold ? 1 : key == threshold ? 2 : 0;
  };
  const auto take = [&](int32_t i, int found, const CountPair& before) {
    if (found == 2 && before.second >= ties) return;
    line.indices[before.first + (before.second < ties ? before.second : ties)] = i;
  };
  visit_in_order(team, line.size, class_of, take, shared);
}

struct BitArguments {
  const int32_t* distances = nullptr;  // [count], distinct
  int32_t count = 0;
  int32_t words = 0;
  uint32_t* bits = nullptr;     // [words]
  uint32_t* summary = nullptr;  // [ceil(words / 32)] bit per word that is not 0; null: not wanted
};

template <typename Team = SearchBlock>
TESSERA_SIMT inline void write_bits(const Team& team, const BitArguments& line) {
  team.each([&](int thread) {
    TESSERA_ROLLED
    for (int32_t word = thread; word < line.words; word += Team::kThreads) line.bits[word] = 0;
  });
  team.each([&](int thread) {
    TESSERA_ROLLED
    for (int32_t i = thread; i < line.count; i += Team::kThreads) {
      Team::add(&line.bits[line.distances[i] / 32], 1u << (line.distances[i] % 32));
    }
  });
  if (line.summary == nullptr) return;
  team.each([&](int thread) {
    TESSERA_ROLLED
    for (int32_t at = thread; at < (line.words + 31) / 32; at += Team::kThreads) {
      uint32_t bits = 0;
      TESSERA_BATCHED
      for (int32_t word = at * 32; word < line.words && word < at * 32 + 32; ++word) {
        bits |= line.bits[word] != 0 ? 1u << (word % 32) : 0;
      }
      line.summary[at] = bits;
    }
  });
}

// Which key tiles a query tile computes. Row i of the queries has its own key row min(key_rows, first_position + i + 1)
// - 1; distances are counted back from it.
struct TileRule {
  int32_t query_rows = 0;
  int32_t key_rows = 0;
  int32_t first_position = 0;
  int32_t query_tile = 128;             // rows
  int32_t key_tile = 128;               // rows
  int32_t sink_rows = 0;                // whole tiles of them are listed; the rest are columns
  int32_t window = 0;                   // most recent rows, the own row included; 0: none
  int32_t dense_from = 0x7fffffff;      // query tiles that end after this query row are dense
  const uint32_t* distances = nullptr;  // [ceil(key_rows / 32)] bit per wanted distance; null: none
  const uint32_t* summary = nullptr;    // bit w: word w of `distances` is not 0; null: look at every word
  const uint32_t* bands = nullptr;      // bit e: the 128 key rows e tiles before the own ones; null: none

  TESSERA_SIMT int32_t query_tiles() const { return (query_rows + query_tile - 1) / query_tile; }
  TESSERA_SIMT int32_t own(int32_t row) const {
    const int32_t seen = first_position + row + 1;
    return (seen < key_rows ? seen : key_rows) - 1;
  }
  TESSERA_SIMT int32_t end(int32_t tile) const {
    const int32_t rows = (tile + 1) * query_tile;
    return rows < query_rows ? rows : query_rows;
  }
  TESSERA_SIMT int32_t full_tiles() const { return query_rows / query_tile; }
  TESSERA_SIMT int32_t visible_tiles(int32_t tile) const { return (own(end(tile) - 1) + key_tile) / key_tile; }

  TESSERA_SIMT bool any_distance(int32_t first, int32_t last) const {
    if (distances == nullptr) return false;
    first = first > 0 ? first : 0;
    last = last < key_rows - 1 ? last : key_rows - 1;
    if (first > last) return false;
    for (int32_t word = first / 32; word <= last / 32; ++word) {
      if (summary != nullptr && (summary[word / 32] >> (word % 32) & 1u) == 0) continue;
      uint32_t bits = distances[word];
      if (word == first / 32) bits &= 0xffffffffu << (first % 32);
      if (word == last / 32) bits &= 0xffffffffu >> (31 - last % 32);
      if (bits != 0) return true;
    }
    return false;
  }

  // Sinks and dense last rows; key < visible_tiles(tile).
  TESSERA_SIMT bool forces(int32_t tile, int32_t key) const {
    return end(tile) > dense_from || key < sink_rows / key_tile;
  }
  // What depends on the offset between the tiles alone, but for a last query tile that is not full.
  TESSERA_SIMT bool lists_offset(int32_t tile, int32_t key) const {
    const int32_t first_own = own(tile * query_tile);
    const int32_t first_key = key * key_tile;
    if (window > 0 && first_key + key_tile > first_own - window + 1) return true;
    if (bands != nullptr) {
      const int32_t band = own(end(tile) - 1) / 128 - first_key / 128;
      if ((bands[band / 32] >> (band % 32) & 1u) != 0) return true;
    }
    return any_distance(first_own - (first_key + key_tile - 1), own(end(tile) - 1) - first_key);
  }

  TESSERA_SIMT bool lists(int32_t tile, int32_t key) const { return forces(tile, key) || lists_offset(tile, key); }

  // Offset of (tile, key): tile * ratio() - key. Bit offset + flag_zero() of the flags says whether such pairs are
  // listed; flags exist when offsets() is true.
  TESSERA_SIMT bool offsets() const { return query_tile % key_tile == 0 && first_position + query_rows <= key_rows; }
  TESSERA_SIMT int32_t ratio() const { return query_tile / key_tile; }
  TESSERA_SIMT int32_t flag_zero() const { return (first_position + query_tile) / key_tile + 33; }
  TESSERA_SIMT int32_t flag_words() const { return (flag_zero() + query_tiles() * ratio() + 31) / 32 + 1; }
  // One bit of the flags, from the first full query tile that has its offset.
  TESSERA_SIMT bool flag(int32_t bit) const {
    const int32_t offset = bit - flag_zero();
    const int32_t tile = offset > 0 ? (offset + ratio() - 1) / ratio() : 0;
    const int32_t key = tile * ratio() - offset;
    return (tile + 1) * query_tile <= query_rows && key < visible_tiles(tile) && lists_offset(tile, key);
  }
  TESSERA_SIMT uint32_t flag_word(int32_t word) const {
    uint32_t bits = 0;
    for (int32_t bit = 0; bit < 32; ++bit) bits |= flag(word * 32 + bit) ? 1u << bit : 0;
    return bits;
  }

  // The kernel must apply causality or the end of the rows inside it.
  TESSERA_SIMT bool is_masked(int32_t tile, int32_t key) const {
    return (key + 1) * key_tile - 1 > own(tile * query_tile);
  }
};

struct TileListShared {
  uint32_t scan[2][kLineThreads];
  uint32_t words[kLineThreads];
  uint32_t before;
};

TESSERA_SIMT inline uint32_t reverse_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __brev(bits);
#else
  uint32_t reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (bits >> i & 1u) << (31 - i);
  return reversed;
#endif
}

// Which of 32 key tiles from `first` on are listed. flags: [rule.flag_words()] of rule.flag_word(), or null.
TESSERA_SIMT inline uint32_t listed_word(const TileRule& rule, int32_t tile, int32_t first, const uint32_t* flags) {
  const int32_t visible = rule.visible_tiles(tile);
  if (first >= visible) return 0;
  const uint32_t seen = visible - first >= 32 ? 0xffffffffu : (1u << (visible - first)) - 1;
  const bool full = (tile + 1) * rule.query_tile <= rule.query_rows;
  if (flags == nullptr || !full) {
    uint32_t bits = 0;
    for (int32_t key = first; key < visible && key < first + 32; ++key) {
      bits |= rule.lists(tile, key) ? 1u << (key - first) : 0;
    }
    return bits;
  }
  if (rule.end(tile) > rule.dense_from) return seen;
  // Keys ascend as offsets descend: bits low .. low + 31 of the flags, turned around.
  const int32_t low = tile * rule.ratio() - first + rule.flag_zero() - 31;
  const uint32_t below = flags[low / 32] >> (low % 32);
  const uint32_t above = low % 32 == 0 ? 0 : flags[low / 32 + 1] << (32 - low % 32);
  uint32_t bits = reverse_bits(below | above);
  const int32_t sinks = rule.sink_rows / rule.key_tile - first;
  if (sinks > 0) bits |= sinks >= 32 ? 0xffffffffu : (1u << sinks) - 1;
  return bits & seen;
}

// Counts the key tiles of one query tile (tiles null) or writes them, ascending. Returns the count. A thread takes 32
// key tiles.
TESSERA_SIMT inline uint32_t write_tiles(const LineBlock& block, const TileRule& rule, int32_t tile, uint32_t* tiles,
                                         TileListShared& shared, const uint32_t* flags = nullptr) {
  block.each([&](int thread) {
    if (thread == 0) shared.before = 0;
  });
  const int32_t visible = rule.visible_tiles(tile);
  for (int32_t chunk = 0; chunk < visible; chunk += 32 * kLineThreads) {
    block.each([&](int thread) {
      shared.words[thread] = listed_word(rule, tile, chunk + 32 * thread, flags);
      shared.scan[0][thread] = count_bits(shared.words[thread]);
    });
    block.inclusive_scan(shared.scan);
    block.each([&](int thread) {
      if (tiles == nullptr) return;
      uint32_t at = shared.before + (thread > 0 ? shared.scan[0][thread - 1] : 0);
      for (uint32_t bits = shared.words[thread]; bits != 0; bits &= bits - 1) {
        const int32_t key = chunk + 32 * thread + static_cast<int32_t>(count_bits((bits & (0 - bits)) - 1));
        tiles[at++] = static_cast<uint32_t>(key) | (rule.is_masked(tile, key) ? kMaskedTile : 0u);
      }
    });
    block.each([&](int thread) {
      if (thread == 0) shared.before += shared.scan[0][kLineThreads - 1];
    });
  }
  return shared.before;
}

// Key tiles of a full query tile, by one thread: what write_tiles() counts with the same flags.
TESSERA_SIMT inline int32_t count_tiles(const TileRule& rule, int32_t tile, const uint32_t* flags) {
  const int32_t visible = rule.visible_tiles(tile);
  uint32_t count = 0;
  TESSERA_ROLLED
  for (int32_t first = 0; first < visible; first += 32) count += count_bits(listed_word(rule, tile, first, flags));
  return static_cast<int32_t>(count);
}

// Leading columns that a query tile may use: those that its last row sees.
TESSERA_SIMT inline int32_t column_cut(const TileRule& rule, int32_t tile, const int32_t* columns, int32_t count) {
  const int32_t last = rule.own(rule.end(tile) - 1);
  return partition_point(count, [&](int32_t i) { return columns[i] <= last; });
}

}  // namespace tessera::attention::cuda
