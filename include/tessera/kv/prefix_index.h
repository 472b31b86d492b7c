// Prefix lookup: which cached sequence shares the longest prefix with a prompt, how many tokens can be reused, and when
// that is fewer than possible, why. Nothing about reuse is silent.
//
//   PrefixIndex index(/*capacity_bytes=*/int64_t{8} << 30);
//   index.insert({.tokens = tokens, .method = method.str(), .cache = cache});
//   const PrefixMatch match = index.find(prompt, method.str());
//   if (match.cache) {
//     KeyValueCache mine = match.cache->fork();
//     mine.truncate(match.reused);                   // go on with prompt[match.reused]
//   }
//   log::info("reused {} of {} tokens: {}", match.reused, prompt.size(), to_string(match.reason));
//
// Not synchronised: one thread at a time. The caches it hands out may be forked by any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "tessera/kv/cache.h"

namespace tessera::kv {

enum class MissReason {
  none,             // everything reusable was reused
  empty,            // the index never held anything
  different_start,  // no entry shares even the first token
  diverged,         // the best entry differs from the prompt after `reused` tokens
  rows_dropped,     // a longer match exists, but its policy dropped rows, so it is no exact prefix
  other_method,     // a longer match exists under another method string
  evicted,          // a longer match existed and was forgotten to stay within the capacity
  last_token,       // the whole prompt was cached; its last token is computed again for the logits
};
std::string to_string(MissReason reason);

struct PrefixMatch {
  int64_t reused = 0;                    // tokens, below the prompt's length
  MissReason reason = MissReason::none;  // why not more
  // Tokens that would have been reused but for the reason: what the longer match had more (rows_dropped, other_method,
  // evicted), 1 (last_token), else 0: no entry had them.
  int64_t lost = 0;
  std::shared_ptr<const KeyValueCache> cache = nullptr;  // null when reused == 0; fork it and truncate to `reused`
};

class PrefixIndex {
 public:
  // capacity_bytes >= 0: entries are forgotten, least recently used first, when their pages exceed it.
  explicit PrefixIndex(int64_t capacity_bytes);

  struct Entry {
    std::vector<int32_t> tokens;
    std::string method;                          // two entries under different method strings never mix
    bool exact_prefix = true;                    // false when a policy dropped rows
    std::shared_ptr<const KeyValueCache> cache;  // holds all tokens; nobody writes to it any more
  };
  // Replaces entries of the same method that the new one extends, when it is exact. False when the entry's own pages
  // exceed the capacity: it is not kept then, and later lookups call it evicted. Throws Error(invalid_argument) on an
  // entry without tokens or cache, or whose cache holds fewer positions than tokens. Cost: the entry's pages.
  bool insert(Entry entry);

  // The entry used becomes the most recently used. Cost: entries times matching tokens.
  PrefixMatch find(std::span<const int32_t> tokens, const std::string& method);

  // Bytes of the pages of all entries; pages that entries share count once.
  int64_t bytes() const { return bytes_; }
  size_t size() const { return entries_.size(); }

 private:
  struct Forgotten {  // an evicted entry, without its pages
    std::vector<int32_t> tokens;
    std::string method;
  };
  struct PageUse {
    int64_t entries = 0;  // that refer to the page
    int64_t bytes = 0;
  };

  void count_pages(const KeyValueCache& cache, int64_t sign);
  void drop_extended(const Entry& longer);
  void forget(Entry entry);

  int64_t capacity_bytes_;
  int64_t bytes_ = 0;
  std::vector<Entry> entries_;                   // least recently used first
  std::unordered_map<uint64_t, PageUse> pages_;  // by stamp; nobody writes to these pages
  std::deque<Forgotten> forgotten_;              // oldest first, a bounded number
};

}  // namespace tessera::kv
