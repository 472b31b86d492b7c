// Pages: the unit of allocation of the cache, one tile of 64 rows of one KV head. Reference-counted RAII handles; a page
// returns to its pool's free list when the last handle goes. Thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "tessera/attention/tile.h"

namespace tessera::kv {

class PagePool;

// A pinned page. Copying the handle shares the page; writers must hold the only handle (see unique()).
class PageRef {
 public:
  PageRef() = default;

  const std::byte* data() const;
  std::byte* mutable_data();  // only while unique()
  bool unique() const;
  attention::TileFormat format() const;
  int64_t bytes() const;
  explicit operator bool() const { return page_ != nullptr; }

 private:
  friend class PagePool;
  struct Page;
  std::shared_ptr<Page> page_;
};

class PagePool : public std::enable_shared_from_this<PagePool> {
 public:
  // limit_bytes: allocation beyond it throws Error(limit_exceeded); 0 means no limit.
  explicit PagePool(int64_t limit_bytes = 0);
  ~PagePool();

  PageRef allocate(attention::TileFormat format, int64_t head_dim);

  int64_t bytes_in_use() const;
  int64_t peak_bytes() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tessera::kv
