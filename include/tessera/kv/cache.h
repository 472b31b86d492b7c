// The key/value cache of one sequence: pages of 64 rows per (layer, KV head), shared copy-on-write between forks.
//
// A row is not a position: every row knows its true position, and layers and heads may hold different rows after a policy
// dropped some. Rows are kept in ascending position, every page but the last of a head is full.
//
//   auto pool = std::make_shared<PagePool>();
//   KeyValueCache cache({.layers = 6, .kv_heads = 2, .head_dim = 64}, pool);
//   cache.append(layer, keys, values, first_position);         // [n, kv_heads, head_dim] f32
//   LayerView view = cache.view(layer);                        // pins the pages; view.heads feeds AttentionInput
//   KeyValueCache turn = cache.fork();                         // shares every page
//   turn.truncate(position);                                   // drops rows at and after a position
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tessera/attention/attention.h"
#include "tessera/kv/page_pool.h"

namespace tessera::kv {

struct CacheLayout {
  int layers = 0;
  int kv_heads = 0;
  int64_t head_dim = 0;
  attention::TileFormat format = attention::TileFormat::f32;  // of appended rows
};

// The rows of one layer as kernels see them. Holds the pages: later writes to the cache copy, never change, what is seen.
struct LayerView {
  std::vector<attention::HeadKeys> heads;  // [kv_heads]

  // Storage behind `heads`.
  std::vector<std::vector<attention::KeyValueTile>> tiles;          // [kv_heads][pages]
  std::vector<std::shared_ptr<const std::vector<int32_t>>> positions;  // [kv_heads], null when rows are positions
  std::vector<PageRef> pins;
};

class KeyValueCache {
 public:
  KeyValueCache(const CacheLayout& layout, std::shared_ptr<PagePool> pool);

  const CacheLayout& layout() const;

  // Appends n rows with positions first_position, first_position + 1, ...; they must lie after every row of the layer.
  void append(int layer, const Tensor& keys, const Tensor& values, int64_t first_position);

  LayerView view(int layer) const;

  // A named copy that shares all pages; a shared page is copied when either side writes to it.
  KeyValueCache fork() const;

  // Drops every row whose position is >= position, in all layers.
  void truncate(int64_t position);

  // Keeps only the given rows (ascending, distinct) of one head.
  void keep_rows(int layer, int head, std::span<const int32_t> rows);

  // Re-encodes full pages [first, last) of one head; appendable to kivi formats only.
  void encode_pages(int layer, int head, int64_t first, int64_t last, attention::TileFormat format);

  int64_t rows(int layer, int head) const;
  // One past the largest position ever appended (and not truncated): where the next token goes.
  int64_t next_position() const;
  // Bytes of the pages this cache refers to; shared pages count in full.
  int64_t bytes() const;
  // Bytes of the pages that no other cache refers to.
  int64_t unshared_bytes() const;

 private:
  struct HeadRows;
  CacheLayout layout_;
  std::shared_ptr<PagePool> pool_;
  std::vector<HeadRows> heads_;  // [layers * kv_heads]
  int64_t next_position_ = 0;
};

}  // namespace tessera::kv
