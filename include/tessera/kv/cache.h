// The key/value cache of one sequence: pages of 64 rows per (layer, KV head), shared copy-on-write between forks.
//
// A row is not a position: every row knows its true position, and layers and heads may hold different rows after a
// policy dropped some. Rows are kept in ascending position, every page but the last of a head is full.
//
//   auto pool = std::make_shared<PagePool>();
//   KeyValueCache cache({.layers = 6, .kv_heads = 2, .head_dim = 64}, pool);
//   cache.append(layer, keys, values, first_position);         // [n, kv_heads, head_dim] f32
//   LayerView view = cache.view(layer);                        // pins the pages; view.heads feeds AttentionInput
//   KeyValueCache turn = cache.fork();                         // shares every page
//   turn.truncate(position);                                   // drops rows at and after a position
//
// Costs: append writes n rows and touches nothing else, unless a fork or a view shares the head's last page; then that
// page and the head's table (24 bytes a page, plus 4 bytes a row once rows were dropped) are copied first, once. view
// and fork are O(heads) and O(layers * heads), whatever the number of rows.
//
// Threads: const calls may run at the same time; keep_rows and encode_pages may too for different (layer, head). Forks
// and views are independent of each other: each may be used and destroyed by its own thread.
//
// Errors: shapes, positions, rows and indices that do not fit throw Error(invalid_argument), a full pool
// Error(limit_exceeded). The call has then changed nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tessera/attention/attention.h"
#include "tessera/kv/counted.h"
#include "tessera/kv/page_pool.h"

namespace tessera::kv {

struct CacheLayout {
  int layers = 0;                                             // >= 1
  int kv_heads = 0;                                           // >= 1
  int64_t head_dim = 0;                                       // a multiple of 32, >= 32
  attention::TileFormat format = attention::TileFormat::f32;  // of appended rows: f32, bf16 or f16
};

// The rows of one (layer, KV head). Shared by forks and views, edited only by a cache that is its sole holder.
struct HeadTable {
  std::vector<PageRef> pages;                  // [ceil(rows / 64)]
  std::vector<attention::KeyValueTile> tiles;  // [pages], the same pages as kernels read them
  std::vector<int32_t> positions;              // [rows], ascending; empty: row r has position r
  int64_t rows = 0;

  int64_t position(int64_t row) const { return positions.empty() ? row : positions[static_cast<size_t>(row)]; }
};

// The rows of one layer as kernels see them. Holds the pages: later writes to the cache copy, never change, what is
// seen. Let it go before the next append to the layer, or that append copies the last page of every head.
struct LayerView {
  std::vector<attention::HeadKeys> heads;  // [kv_heads]
  std::vector<Counted<HeadTable>> tables;  // [kv_heads], storage behind `heads`
};

class KeyValueCache {
 public:
  // Throws Error(invalid_argument) when the layout breaks its rules or pool is null.
  KeyValueCache(const CacheLayout& layout, std::shared_ptr<PagePool> pool);
  KeyValueCache(KeyValueCache&&) noexcept = default;
  KeyValueCache& operator=(KeyValueCache&&) noexcept = default;

  const CacheLayout& layout() const { return layout_; }

  // Appends n rows with positions first_position, first_position + 1, ...; they must lie after every row of the layer.
  // keys, values: [n, kv_heads, head_dim] f32, keys rotated at their positions.
  void append(int layer, const Tensor& keys, const Tensor& values, int64_t first_position);

  LayerView view(int layer) const;

  // A named copy that shares all pages; a shared page is copied when either side writes to it.
  KeyValueCache fork() const;

  // Drops every row whose position is >= position, in all layers. Rows of a quantised page that survive stay quantised
  // until the next append, which decodes that page to the append format.
  void truncate(int64_t position);

  // Keeps only the given rows (ascending, distinct) of one head. Leading pages that stay whole are not touched; the
  // other rows are copied to fresh pages of the append format.
  void keep_rows(int layer, int head, std::span<const int32_t> rows);

  // Re-encodes the full pages [first, last) of one head in a quantised format. Pages that have it already are left
  // alone; from one quantised format to another is refused.
  void encode_pages(int layer, int head, int64_t first, int64_t last, attention::TileFormat format);

  int64_t rows(int layer, int head) const;
  // One past the largest position ever appended (and not truncated): where the next token goes. Dropping rows leaves
  // it.
  int64_t next_position() const { return next_position_; }

  // The pages of one head, for their formats and byte counts.
  std::span<const PageRef> pages(int layer, int head) const;
  // Bytes of the pages this cache refers to; shared pages count in full.
  int64_t bytes() const;
  // Bytes of the pages that nothing else refers to, neither a cache nor a view: what destroying this cache gives back.
  int64_t unshared_bytes() const;

 private:
  KeyValueCache(const KeyValueCache&) = default;  // fork()

  const Counted<HeadTable>& head(int layer, int head) const;
  Counted<HeadTable>& head(int layer, int head);

  CacheLayout layout_;
  std::shared_ptr<PagePool> pool_;
  std::vector<Counted<HeadTable>> heads_;  // [layers * kv_heads]
  int64_t next_position_ = 0;
};

}  // namespace tessera::kv
