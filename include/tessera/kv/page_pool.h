// Pages: the unit of allocation of the cache, one tile of 64 rows of one KV head. Reference-counted RAII handles; a
// page returns to its pool's free list when the last handle goes, also after the pool itself is gone. Thread-safe.
//
//   PagePool pool(/*limit_bytes=*/1 << 30);
//   PageRef page = pool.allocate(attention::TileFormat::f32, head_dim);          // zeroed
//   attention::write_rows(page.claim_rows(0, 3), page.format(), head_dim, 0, 3, source);
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tessera/attention/tile.h"
#include "tessera/kv/counted.h"

namespace tessera::kv {

struct PoolState;

// A pinned page. Copying the handle shares the page; writers must hold the only handle (see unique()).
class PageRef {
 public:
  PageRef() = default;

  const std::byte* data() const { return page_->data; }
  attention::TileFormat format() const { return page_->format; }
  int64_t bytes() const { return page_->bytes; }
  bool unique() const { return page_.unique(); }

  // Names the content: two pages, or one page at two times, under one stamp agree in every row both have. What is
  // computed from a page (bounds, statistics) stays valid while the stamp stays, and needs no other notice.
  uint64_t stamp() const { return page_->stamp; }

  // The page's bytes, for writing rows [first, first + count); only while unique(). Appending keeps the stamp; writing
  // a row a second time changes it. `first` lies at most one past the rows written so far.
  std::byte* claim_rows(int first, int count);

  explicit operator bool() const { return static_cast<bool>(page_); }

 private:
  friend class PagePool;
  struct Page {
    std::shared_ptr<PoolState> pool;
    std::byte* data = nullptr;  // `bytes` bytes, aligned to 64
    int64_t bytes = 0;
    attention::TileFormat format = attention::TileFormat::f32;
    int written = 0;  // rows claimed under this stamp
    uint64_t stamp = 0;

    Page(std::shared_ptr<PoolState> owner, attention::TileFormat tile_format, int64_t size);
    Page(const Page&) = delete;
    Page& operator=(const Page&) = delete;
    ~Page();
  };
  Counted<Page> page_;
};

class PagePool {
 public:
  // limit_bytes: allocation beyond it throws Error(limit_exceeded); 0 means no limit. Negative:
  // Error(invalid_argument).
  explicit PagePool(int64_t limit_bytes = 0);
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // A zeroed page of tile_bytes(format, head_dim) bytes.
  PageRef allocate(attention::TileFormat format, int64_t head_dim);

  // Bytes of the pages that somebody holds; and their largest sum so far.
  int64_t bytes_in_use() const;
  int64_t peak_bytes() const;
  // Bytes of free pages kept for the next allocation; they count towards the limit only until it would be reached.
  int64_t bytes_free() const;
  // Gives the free pages back to the system.
  void trim();

 private:
  std::shared_ptr<PoolState> state_;  // outlives the pool while pages do
};

}  // namespace tessera::kv
