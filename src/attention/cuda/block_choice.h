// Body of the kernel that turns scores of key tiles into the list of a query tile.
#pragma once

#include "attention/cuda/line_lists.h"

namespace tessera::attention::cuda {

// The forced tiles of `rule` (sinks, window, dense last rows) and, of those visible, either the top_k best or those
// whose score is at least the best one's minus `margin`.
struct BlockChoice {
  TileRule rule;
  float margin = 0;          // natural logarithm
  int32_t top_k = 0;         // 0: by margin
  int32_t entry_rows = 128;  // key rows of an entry, rule.key_tile or half of it: then a tile becomes two entries

  TESSERA_SIMT int32_t entries(int32_t tile, int32_t key) const {
    const int32_t parts = rule.key_tile / entry_rows;
    const int32_t visible = rule.own(rule.end(tile) - 1) / entry_rows + 1 - key * parts;
    return visible < parts ? visible : parts;
  }
  TESSERA_SIMT bool is_masked(int32_t tile, int32_t entry) const {
    return (entry + 1) * entry_rows - 1 > rule.own(tile * rule.query_tile);
  }
};

struct BlockListShared {
  LargestShared largest;
  uint32_t scan[2][kSearchThreads];
  uint32_t best;  // order key
  uint32_t before;
};

// scores: [visible tiles] of query tile `tile`; marks: [ceil(visible / 32)] scratch; chosen: [top_k] scratch. Counts
// the entries (tiles null) or writes them, ascending. Returns the count.
TESSERA_SIMT inline uint32_t write_block_list(const SearchBlock& block, const BlockChoice& choice, int32_t tile,
                                              const float* scores, uint32_t* marks, int32_t* chosen, uint32_t* tiles,
                                              BlockListShared& shared) {
  const int32_t visible = choice.rule.visible_tiles(tile);
  block.each([&](int thread) {
    if (thread == 0) shared.best = shared.before = 0;
    for (int32_t word = thread; word < (visible + 31) / 32; word += kSearchThreads) marks[word] = 0;
  });
  if (choice.top_k > 0) {
    const int32_t kept = choice.top_k < visible ? choice.top_k : visible;
    write_largest(block, {scores, visible, 0, kept, chosen}, shared.largest);
    block.each([&](int thread) {
      for (int32_t i = thread; i < kept; i += kSearchThreads) {
        SearchBlock::add(&marks[chosen[i] / 32], 1u << (chosen[i] % 32));
      }
    });
  } else {
    block.each([&](int thread) {
      uint32_t best = 0;
      for (int32_t key = thread; key < visible; key += kSearchThreads) {
        const uint32_t order = order_key(scores[key]);
        best = order > best ? order : best;
      }
      SearchBlock::highest(&shared.best, best);
    });
    block.each([&](int thread) {
      const float least = value_of_key(shared.best) - choice.margin;
      for (int32_t key = thread; key < visible; key += kSearchThreads) {
        if (scores[key] >= least) SearchBlock::add(&marks[key / 32], 1u << (key % 32));
      }
    });
  }
  for (int32_t chunk = 0; chunk < visible; chunk += kSearchThreads) {
    block.each([&](int thread) {
      const int32_t key = chunk + thread;
      const bool listed = key < visible && ((marks[key / 32] >> (key % 32) & 1u) != 0 || choice.rule.lists(tile, key));
      shared.scan[0][thread] = listed ? static_cast<uint32_t>(choice.entries(tile, key)) : 0;
    });
    block.inclusive_scan(shared.scan);
    block.each([&](int thread) {
      const uint32_t before = thread > 0 ? shared.scan[0][thread - 1] : 0;
      if (tiles == nullptr) return;
      int32_t entry = (chunk + thread) * (choice.rule.key_tile / choice.entry_rows);
      for (uint32_t at = before; at < shared.scan[0][thread]; ++at, ++entry) {
        tiles[shared.before + at] = static_cast<uint32_t>(entry) | (choice.is_masked(tile, entry) ? kMaskedTile : 0u);
      }
    });
    block.each([&](int thread) {
      if (thread == 0) shared.before += shared.scan[0][kSearchThreads - 1];
    });
  }
  return shared.before;
}

}  // namespace tessera::attention::cuda
