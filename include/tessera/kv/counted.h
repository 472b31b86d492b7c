// A shared value whose sole holder may edit it: the copy-on-write cell of the cache.
//
//   Counted<HeadTable> mine = Counted<HeadTable>::make();
//   Counted<HeadTable> other = mine;                    // shares
//   if (!mine.unique()) mine = Counted<HeadTable>::make(*mine);
//   mine.edit().rows = 3;                               // `other` still sees the old value
//
// Unlike std::shared_ptr::use_count(), unique() is ordered after everything former holders did with the value, so
// editing after it is free of races even when they were other threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "tessera/base/error.h"

namespace tessera::kv {

template <typename T>
class Counted {
 public:
  Counted() = default;

  template <typename... Args>
  static Counted make(Args&&... args) {
    Counted made;
    made.box_ = new Box{.holders = 1, .value = T{std::forward<Args>(args)...}};
    return made;
  }

  Counted(const Counted& other) : box_(other.box_) {
    if (box_ != nullptr) box_->holders.fetch_add(1, std::memory_order_relaxed);
  }
  Counted(Counted&& other) noexcept : box_(std::exchange(other.box_, nullptr)) {}
  Counted& operator=(Counted other) noexcept {
    std::swap(box_, other.box_);
    return *this;
  }
  ~Counted() {
    if (box_ != nullptr && box_->holders.fetch_sub(1, std::memory_order_acq_rel) == 1) delete box_;
  }

  explicit operator bool() const { return box_ != nullptr; }
  const T& operator*() const { return box_->value; }
  const T* operator->() const { return &box_->value; }
  // Whether both hold the same value, not equal ones.
  bool operator==(const Counted& other) const { return box_ == other.box_; }

  bool unique() const { return box_ != nullptr && box_->holders.load(std::memory_order_acquire) == 1; }

  // Only while unique().
  T& edit() {
    TESSERA_ASSERT(unique());
    return box_->value;
  }

 private:
  struct Box {
    std::atomic<int64_t> holders;
    T value;
  };
  Box* box_ = nullptr;
};

}  // namespace tessera::kv
