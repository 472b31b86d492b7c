#include "tessera/kv/prefix_index.h"

#include <algorithm>

#include "tessera/base/error.h"

namespace tessera::kv {
namespace {

constexpr size_t kForgottenEntries = 64;  // whose tokens are remembered, to explain misses

int64_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t length = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(length), b.begin()).first - a.begin();
}

// The longest match that could not be used, and why. Of equally long ones the first offered wins.
struct LostMatch {
  int64_t length = 0;
  MissReason reason = MissReason::none;

  void offer(int64_t other_length, MissReason other_reason) {
    if (other_length > length) *this = {other_length, other_reason};
  }
};

}  // namespace

std::string to_string(MissReason reason) {
  switch (reason) {
    case MissReason::none:
      return "none";
    case MissReason::empty:
      return "empty";
    case MissReason::different_start:
      return "different_start";
    case MissReason::diverged:
      return "diverged";
    case MissReason::rows_dropped:
      return "rows_dropped";
    case MissReason::other_method:
      return "other_method";
    case MissReason::evicted:
      return "evicted";
    case MissReason::last_token:
      return "last_token";
  }
  TESSERA_ASSERT(false);
}

PrefixIndex::PrefixIndex(int64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {
  if (capacity_bytes < 0) {
    throw Error(ErrorCode::invalid_argument, "prefix index: expected a capacity of at least 0 bytes, found {}",
                capacity_bytes);
  }
}

bool PrefixIndex::insert(Entry entry) {
  if (entry.tokens.empty() || !entry.cache) {
    throw Error(ErrorCode::invalid_argument, "prefix index: expected an entry with tokens and a cache");
  }
  if (entry.cache->next_position() < std::ssize(entry.tokens)) {
    throw Error(ErrorCode::invalid_argument, "prefix index: expected a cache of at least {} positions, found {}",
                entry.tokens.size(), entry.cache->next_position());
  }
  if (entry.cache->bytes() > capacity_bytes_) {
    forget(std::move(entry));
    return false;
  }
  drop_extended(entry);
  count_pages(*entry.cache, +1);
  entries_.push_back(std::move(entry));
  while (bytes_ > capacity_bytes_) {
    Entry oldest = std::move(entries_.front());
    entries_.erase(entries_.begin());
    count_pages(*oldest.cache, -1);
    forget(std::move(oldest));
  }
  return true;
}

void PrefixIndex::count_pages(const KeyValueCache& cache, int64_t sign) {
  for (int layer = 0; layer < cache.layout().layers; ++layer) {
    for (int head = 0; head < cache.layout().kv_heads; ++head) {
      for (const PageRef& page : cache.pages(layer, head)) {
        const auto use = pages_.try_emplace(page.stamp(), PageUse{.bytes = page.bytes()}).first;
        if (use->second.entries == 0) bytes_ += page.bytes();
        use->second.entries += sign;
        if (use->second.entries > 0) continue;
        bytes_ -= use->second.bytes;
        pages_.erase(use);
      }
    }
  }
}

void PrefixIndex::drop_extended(const Entry& longer) {
  const auto extended = [&](const Entry& entry) {
    return entry.method == longer.method && longer.exact_prefix && entry.tokens.size() <= longer.tokens.size() &&
           common_prefix(entry.tokens, longer.tokens) == std::ssize(entry.tokens);
  };
  for (const Entry& entry : entries_) {
    if (extended(entry)) count_pages(*entry.cache, -1);
  }
  std::erase_if(entries_, extended);
}

void PrefixIndex::forget(Entry entry) {
  if (entry.exact_prefix) forgotten_.push_back({std::move(entry.tokens), std::move(entry.method)});
  if (forgotten_.size() > kForgottenEntries) forgotten_.pop_front();
}

PrefixMatch PrefixIndex::find(std::span<const int32_t> tokens, const std::string& method) {
  if (tokens.empty()) return {};
  if (entries_.empty() && forgotten_.empty()) return {.reason = MissReason::empty};

  // The last token is always computed, so of a match as long as the prompt one token less counts.
  const int64_t most = std::ssize(tokens) - 1;
  auto best = entries_.end();
  int64_t longest = 0;
  LostMatch lost;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    const int64_t length = common_prefix(tokens, entry->tokens);
    if (entry->method != method) {
      lost.offer(length, MissReason::other_method);
    } else if (!entry->exact_prefix) {
      lost.offer(length, MissReason::rows_dropped);
    } else if (length > 0 && length >= longest) {
      longest = length;
      best = entry;
    }
  }
  for (const Forgotten& entry : forgotten_) {
    if (entry.method == method) lost.offer(common_prefix(tokens, entry.tokens), MissReason::evicted);
  }

  PrefixMatch match{.reused = std::min(longest, most)};
  lost.length = std::min(lost.length, most);
  if (lost.length > match.reused) {
    match.reason = lost.reason;
    match.lost = lost.length - match.reused;
  } else if (longest > most) {
    match.reason = MissReason::last_token;
    match.lost = 1;
  } else if (longest == 0) {
    match.reason = MissReason::different_start;
  } else if (longest < std::ssize(best->tokens)) {
    match.reason = MissReason::diverged;
  }
  if (match.reused > 0) {
    match.cache = best->cache;
    std::rotate(best, best + 1, entries_.end());
  }
  return match;
}

}  // namespace tessera::kv
