#include "model/tokenizer_bpe.h"

#include <algorithm>
#include <bit>

#include "model/text/utf8.h"
#include "tessera/base/error.h"

namespace tessera::model {
namespace {

constexpr size_t kShort = 32;  // symbols up to which scanning for the best pair beats a heap

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// Merges in place by scanning; O(n^2) with a small constant.
void merge_short(std::vector<int32_t>& symbols, const MergeTable& merges) {
  constexpr uint32_t kNone = ~uint32_t{0};
  struct Pair {
    uint32_t rank = kNone;
    int32_t merged = -1;
  };
  std::array<Pair, kShort> pairs;  // pair i: symbols i and i + 1
  size_t count = symbols.size();
  const auto look_up = [&](size_t i) {
    const MergeTable::Merge* merge = merges.find(symbols[i], symbols[i + 1]);
    pairs[i] = merge == nullptr ? Pair{} : Pair{merge->rank, merge->merged};
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].merged < 0) break;
    symbols[best] = pairs[best].merged;
    for (size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i] = symbols[i + 1];
      pairs[i - 1] = pairs[i];
    }
    --count;
    if (best > 0) look_up(best - 1);
    if (best + 1 < count) look_up(best);
  }
  symbols.resize(count);
}

// Merges in place with a heap of candidate pairs over a linked list of symbols; O(n log n).
class LongMerger {
 public:
  LongMerger(std::vector<int32_t>& symbols, const MergeTable& merges) : symbols_(symbols), merges_(merges) {
    const auto count = static_cast<int32_t>(symbols.size());
    links_.reserve(symbols.size());
    for (int32_t i = 0; i < count; ++i) links_.push_back({i - 1, i + 1 < count ? i + 1 : -1});
    for (int32_t i = 0; i + 1 < count; ++i) propose(i, i + 1);
    std::make_heap(heap_.begin(), heap_.end(), later);
    heap_ready_ = true;
  }

  void run() {
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const Candidate candidate = heap_.back();
      heap_.pop_back();
      apply(candidate);
    }
    size_t kept = 0;
    for (int32_t i = 0; i >= 0; i = links_[index(i)].next) symbols_[kept++] = symbols_[index(i)];
    symbols_.resize(kept);
  }

 private:
  struct Link {
    int32_t previous;
    int32_t next;  // -1: none
  };
  struct Candidate {
    uint32_t rank;
    int32_t left;  // place of the left symbol
    int32_t merged;
  };
  static constexpr int32_t kGone = -1;

  static size_t index(int32_t place) { return static_cast<size_t>(place); }
  static bool later(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  }

  void propose(int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const MergeTable::Merge* merge = merges_.find(symbols_[index(left)], symbols_[index(right)]);
    if (merge == nullptr) return;
    heap_.push_back({merge->rank, left, merge->merged});
    if (heap_ready_) std::push_heap(heap_.begin(), heap_.end(), later);
  }

  void apply(const Candidate& candidate) {
    const int32_t left = candidate.left;
    const int32_t right = links_[index(left)].next;
    if (symbols_[index(left)] == kGone || right < 0) return;
    const MergeTable::Merge* merge = merges_.find(symbols_[index(left)], symbols_[index(right)]);
    if (merge == nullptr || merge->merged != candidate.merged) return;  // one of the two has changed since
    symbols_[index(left)] = candidate.merged;
    symbols_[index(right)] = kGone;
    const int32_t next = links_[index(right)].next;
    links_[index(left)].next = next;
    if (next >= 0) links_[index(next)].previous = left;
    propose(links_[index(left)].previous, left);
    propose(left, next);
  }

  std::vector<int32_t>& symbols_;
  const MergeTable& merges_;
  std::vector<Link> links_;
  std::vector<Candidate> heap_;
  bool heap_ready_ = false;
};

}  // namespace

void MergeTable::reserve(size_t merges) {
  TESSERA_ASSERT(size_ == 0);
  slots_.assign(std::bit_ceil(std::max<size_t>(16, 2 * merges)), Merge{});
}

size_t MergeTable::slot_of(uint64_t pair) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = (pair * 0x9E3779B97F4A7C15U >> 20) & mask;
  while (slots_[slot].pair != kEmpty && slots_[slot].pair != pair) slot = (slot + 1) & mask;
  return slot;
}

bool MergeTable::add(int32_t left, int32_t right, uint32_t rank, int32_t merged) {
  TESSERA_ASSERT(2 * size_ < slots_.size());
  Merge& merge = slots_[slot_of(pair_of(left, right))];
  if (merge.pair != kEmpty) return false;
  merge = {pair_of(left, right), rank, merged};
  ++size_;
  return true;
}

const MergeTable::Merge* MergeTable::find(int32_t left, int32_t right) const {
  if (size_ == 0) return nullptr;
  const Merge& merge = slots_[slot_of(pair_of(left, right))];
  return merge.pair == kEmpty ? nullptr : &merge;
}

BpeModel::BpeModel(BpeTables tables)
    : tables_(std::move(tables)),
      whole_(std::make_unique<std::atomic<Whole>[]>(static_cast<size_t>(tables_.vocabulary))) {
  for (const auto& [text, token] : tables_.whole) longest_whole_ = std::max(longest_whole_, text.size());
}

void BpeModel::encode(std::string_view piece, std::vector<int32_t>& tokens) const {
  const auto place = piece.size() <= longest_whole_ ? tables_.whole.find(piece) : tables_.whole.end();
  if (place == tables_.whole.end()) return encode_by_merging(piece, tokens);
  const int32_t token = place->second;
  if (tables_.ignore_merges) return tokens.push_back(token);
  std::atomic<Whole>& whole = whole_[static_cast<size_t>(token)];
  if (whole.load(std::memory_order_relaxed) == Whole::yes) return tokens.push_back(token);
  const size_t before = tokens.size();
  encode_by_merging(piece, tokens);
  const bool is_whole = tokens.size() == before + 1 && tokens.back() == token;
  whole.store(is_whole ? Whole::yes : Whole::no, std::memory_order_relaxed);
}

void BpeModel::encode_by_merging(std::string_view piece, std::vector<int32_t>& tokens) const {
  std::vector<int32_t>& symbols = first_symbols(piece);
  if (symbols.size() <= kShort) {
    merge_short(symbols, tables_.merges);
  } else {
    LongMerger(symbols, tables_.merges).run();
  }
  for (const int32_t symbol : symbols) append(symbol, tokens);
}

// The symbols merging starts from, in a buffer that each thread keeps.
std::vector<int32_t>& BpeModel::first_symbols(std::string_view piece) const {
  thread_local std::vector<int32_t> symbols;
  constexpr size_t kKeep = 1 << 16;
  if (symbols.capacity() > kKeep && piece.size() < kKeep) std::vector<int32_t>().swap(symbols);
  symbols.clear();
  bool in_unknown = false;
  const auto unknown = [&] {
    if (tables_.unknown >= 0 && !(in_unknown && tables_.fuse_unknown)) symbols.push_back(tables_.unknown);
    in_unknown = true;
  };
  const auto known = [&](int32_t symbol) {
    symbols.push_back(symbol);
    in_unknown = false;
  };
  const auto byte_token = [&](char byte) { return tables_.byte_tokens[static_cast<uint8_t>(byte)]; };
  if (tables_.alphabet == Alphabet::bytes) {
    for (const char byte : piece) byte_token(byte) >= 0 ? known(byte_token(byte)) : unknown();
    return symbols;
  }
  while (!piece.empty()) {
    const text::CodePoint next = text::first_code_point(piece);
    const std::string_view bytes = piece.substr(0, next.length);
    piece.remove_prefix(next.length);
    const auto place = tables_.character_tokens.find(next.value);
    if (place != tables_.character_tokens.end()) {
      known(place->second);
    } else if (std::all_of(bytes.begin(), bytes.end(), [&](char byte) { return byte_token(byte) >= 0; })) {
      for (const char byte : bytes) known(byte_token(byte));
    } else {
      unknown();
    }
  }
  return symbols;
}

void BpeModel::append(int32_t symbol, std::vector<int32_t>& tokens) const {
  if (symbol < tables_.vocabulary) return tokens.push_back(symbol);
  for (const char byte : tables_.helper_characters[static_cast<size_t>(symbol - tables_.vocabulary)]) {
    encode_byte(static_cast<uint8_t>(byte), tokens);
  }
}

int32_t BpeModel::find(std::string_view piece) const {
  const auto place = tables_.whole.find(piece);
  if (place != tables_.whole.end()) return place->second;
  return piece.size() == 1 ? tables_.byte_tokens[static_cast<uint8_t>(piece[0])] : -1;
}

void BpeModel::encode_byte(uint8_t byte, std::vector<int32_t>& tokens) const {
  const int32_t token = tables_.byte_tokens[byte] >= 0 ? tables_.byte_tokens[byte] : tables_.unknown;
  if (token >= 0) tokens.push_back(token);
}

}  // namespace tessera::model
