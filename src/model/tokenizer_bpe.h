// Byte-pair encoding of one piece of text: start from bytes or characters, then merge neighbours, always the pair of
// lowest rank and of those the leftmost, until no pair can be merged (Sennrich et al. 2016, arXiv 1508.07909).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tessera::model {

// (left token, right token) -> rank and merged token; an open-addressing hash table.
class MergeTable {
 public:
  struct Merge {
    uint64_t pair = kEmpty;  // left << 32 | right
    uint32_t rank = 0;
    int32_t merged = -1;
  };

  void reserve(size_t merges);
  // False, and nothing changes, when the pair is there already.
  bool add(int32_t left, int32_t right, uint32_t rank, int32_t merged);
  // Null when the two do not merge.
  const Merge* find(int32_t left, int32_t right) const;
  size_t size() const { return size_; }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  size_t slot_of(uint64_t pair) const;

  std::vector<Merge> slots_;  // a power of two
  size_t size_ = 0;
};

enum class Alphabet : uint8_t { bytes, characters };

// What a vocabulary says about encoding. Token ids are 0 <= id < vocabulary; `merges` may also name helper symbols
// above that: characters that occur within tokens but are none themselves.
struct BpeTables {
  Alphabet alphabet = Alphabet::bytes;
  std::array<int32_t, 256> byte_tokens{};                  // bytes: the alphabet; characters: byte fallback; -1: none
  std::unordered_map<uint32_t, int32_t> character_tokens;  // by code point; Alphabet::characters only
  std::vector<std::string> helper_characters;              // text of symbol `vocabulary + i`
  std::unordered_map<std::string_view, int32_t> whole;     // text of a piece -> token; the texts outlive the tables
  MergeTable merges;
  int32_t vocabulary = 0;
  int32_t unknown = -1;        // for what has no token at all; -1: it is dropped
  bool fuse_unknown = false;   // one unknown token per run
  bool ignore_merges = false;  // a piece that is a token is that token, whatever the merges say

  BpeTables() { byte_tokens.fill(-1); }
};

// Thread-safe.
class BpeModel {
 public:
  explicit BpeModel(BpeTables tables);

  // Appends the tokens of one piece, which must be UTF-8 for Alphabet::characters. O(n log n), n = piece.size().
  void encode(std::string_view piece, std::vector<int32_t>& tokens) const;
  // Appends the tokens of one byte that is not part of any character.
  void encode_byte(uint8_t byte, std::vector<int32_t>& tokens) const;
  // The token with this text, or -1.
  int32_t find(std::string_view piece) const;

 private:
  enum class Whole : uint8_t { not_yet_known, yes, no };

  void encode_by_merging(std::string_view piece, std::vector<int32_t>& tokens) const;
  std::vector<int32_t>& first_symbols(std::string_view piece) const;
  void append(int32_t symbol, std::vector<int32_t>& tokens) const;

  BpeTables tables_;
  size_t longest_whole_ = 0;
  // [vocabulary] Does merging the token's own text give the token? Found out at the first use; most words of a text are
  // then one look-up.
  std::unique_ptr<std::atomic<Whole>[]> whole_;
};

}  // namespace tessera::model
