#include "tessera/kv/page_pool.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "tessera/base/error.h"

namespace tessera::kv {
namespace {

constexpr std::align_val_t kAlignment{64};

uint64_t next_stamp() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

struct PoolState {
  explicit PoolState(int64_t limit_bytes) : limit(limit_bytes) {}
  PoolState(const PoolState&) = delete;
  PoolState& operator=(const PoolState&) = delete;
  ~PoolState() { trim(); }

  std::byte* take(int64_t bytes) {
    const std::lock_guard lock(mutex);
    if (limit > 0 && in_use + bytes > limit) {
      throw Error(
          ErrorCode::limit_exceeded,
          "KV cache: a page of {} bytes does not fit into the limit of {} bytes, {} are in use; shorten the text, "
          "drop sessions or raise the limit",
          bytes, limit, in_use);
    }
    std::byte* data = nullptr;
    if (std::vector<std::byte*>& list = free_lists[bytes]; !list.empty()) {
      data = list.back();
      list.pop_back();
      free -= bytes;
    } else {
      if (limit > 0 && in_use + free + bytes > limit) trim();
      data = static_cast<std::byte*>(::operator new(static_cast<size_t>(bytes), kAlignment));
    }
    in_use += bytes;
    peak = std::max(peak, in_use);
    return data;
  }

  void give(std::byte* data, int64_t bytes) noexcept {
    const std::lock_guard lock(mutex);
    in_use -= bytes;
    try {
      free_lists[bytes].push_back(data);
      free += bytes;
    } catch (const std::bad_alloc&) {
      ::operator delete(data, kAlignment);
    }
  }

  // The caller holds the mutex or is the only user.
  void trim() noexcept {
    for (auto& [bytes, list] : free_lists) {
      for (std::byte* data : list) ::operator delete(data, kAlignment);
      list.clear();
    }
    free = 0;
  }

  std::mutex mutex;
  const int64_t limit;
  int64_t in_use = 0;
  int64_t peak = 0;
  int64_t free = 0;
  std::map<int64_t, std::vector<std::byte*>> free_lists;  // by page size
};

PageRef::Page::Page(std::shared_ptr<PoolState> owner, attention::TileFormat tile_format, int64_t size)
    : pool(std::move(owner)), data(pool->take(size)), bytes(size), format(tile_format), stamp(next_stamp()) {
  std::memset(data, 0, static_cast<size_t>(size));
}

PageRef::Page::~Page() { pool->give(data, bytes); }

std::byte* PageRef::claim_rows(int first, int count) {
  TESSERA_ASSERT(first >= 0 && count >= 1 && first + count <= attention::kTileRows);
  Page& page = page_.edit();
  TESSERA_ASSERT(first <= page.written);
  if (first < page.written) page.stamp = next_stamp();
  page.written = first + count;
  return page.data;
}

PagePool::PagePool(int64_t limit_bytes) {
  if (limit_bytes < 0) {
    throw Error(ErrorCode::invalid_argument, "KV cache limit: expected at least 0 bytes (0: none), found {}",
                limit_bytes);
  }
  state_ = std::make_shared<PoolState>(limit_bytes);
}

PageRef PagePool::allocate(attention::TileFormat format, int64_t head_dim) {
  PageRef page;
  page.page_ = Counted<PageRef::Page>::make(state_, format, attention::tile_bytes(format, head_dim));
  return page;
}

int64_t PagePool::bytes_in_use() const {
  const std::lock_guard lock(state_->mutex);
  return state_->in_use;
}

int64_t PagePool::peak_bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->peak;
}

int64_t PagePool::bytes_free() const {
  const std::lock_guard lock(state_->mutex);
  return state_->free;
}

void PagePool::trim() {
  const std::lock_guard lock(state_->mutex);
  state_->trim();
}

}  // namespace tessera::kv
