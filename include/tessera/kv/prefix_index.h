// Prefix lookup: which cached sequence shares the longest prefix with a prompt, how many tokens can be reused, and when
// that is fewer than possible, why. Nothing about reuse is silent.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tessera/kv/cache.h"

namespace tessera::kv {

enum class MissReason {
  none,             // everything reusable was reused
  empty,            // the index holds nothing
  different_start,  // no entry shares even the first token
  diverged,         // the best entry differs from the prompt after `reused` tokens
  rows_dropped,     // a longer match exists, but its policy dropped rows, so it is no exact prefix
  other_method,     // a longer match exists under another method string
  last_token,       // the whole prompt was cached; its last token is computed again for the logits
};
std::string to_string(MissReason reason);

struct PrefixMatch {
  int64_t reused = 0;                    // tokens
  MissReason reason = MissReason::none;  // why not more
  int64_t lost = 0;                      // tokens that would have been reusable but for the reason
  std::shared_ptr<const KeyValueCache> cache;  // null when reused == 0; fork it and truncate to `reused`
};

class PrefixIndex {
 public:
  // capacity_bytes: entries are forgotten, least recently used first, when their pages exceed it.
  explicit PrefixIndex(int64_t capacity_bytes);

  struct Entry {
    std::vector<int32_t> tokens;
    std::string method;        // two entries under different method strings never mix
    bool exact_prefix = true;  // false when a policy dropped rows
    std::shared_ptr<const KeyValueCache> cache;
  };
  void insert(Entry entry);

  PrefixMatch find(std::span<const int32_t> tokens, const std::string& method);

  int64_t bytes() const;
  size_t size() const { return entries_.size(); }

 private:
  int64_t capacity_bytes_;
  std::vector<Entry> entries_;  // least recently used first
};

}  // namespace tessera::kv
