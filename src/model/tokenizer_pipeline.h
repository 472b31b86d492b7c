// The tokenizer that both file formats describe, put together from parts:
//
//   text -> added tokens -> normaliser -> added tokens of normalised text -> word steps -> split into words -> BPE
//
// Bytes that are not UTF-8 are encoded as they are, one by one, through the byte tokens; the UTF-8 around them is
// handled as texts of their own.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/text/regex.h"
#include "model/tokenizer_added.h"
#include "model/tokenizer_bpe.h"
#include "tessera/model/tokenizer.h"

namespace tessera::model {

inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

// One change of a text.
struct TextStep {
  enum class Kind : uint8_t {
    normal_form_c,
    replace,                      // every `pattern` by `content`
    prepend,                      // `content`, unless the text is empty
    prepend_if_missing,           // `content`, unless the text is empty or starts with it
    prepend_if_missing_at_start,  // the same, but only where the whole text starts
  };
  Kind kind = Kind::normal_form_c;
  std::string pattern = {};
  std::string content = {};
};

enum class TokenKind : uint8_t {
  absent,   // no token has this id
  normal,   // text by the rules of the vocabulary
  byte,     // one byte, spelled <0xXX>
  added,    // found in the text before it is split
  special,  // a control token: found only on request, left out when decoding
};

struct TokenEntry {
  std::string text;  // as the vocabulary spells it
  TokenKind kind = TokenKind::absent;
};

// How tokens become text again.
struct Decoding {
  bool byte_level = false;          // spellings are in the byte alphabet
  bool space_mark = false;          // U+2581 is a space
  bool strips_first_space = false;  // one space at the start of the text is not part of it
};

struct TokenizerParts {
  std::vector<TokenEntry> entries;  // [vocabulary]
  std::vector<AddedToken> added;
  std::vector<TextStep> normalizer;
  std::vector<TextStep> word_steps;
  std::vector<text::Regex> splits;  // applied in order, each to the pieces the one before left
  BpeTables tables;                 // the tokenizer fills in `whole` and `vocabulary`
  Decoding decoding;
  std::vector<int32_t> before;  // tokens around a text with add_special
  std::vector<int32_t> after;
  int32_t bos = -1;
  int32_t eos = -1;
};

// The byte that "<0xXX>" spells, or -1.
int byte_of_spelling(std::string_view spelling);

class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(TokenizerParts parts);

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string token_bytes(int32_t token) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  int64_t vocabulary() const override { return static_cast<int64_t>(kinds_.size()); }
  int32_t find(std::string_view text) const override;
  int32_t bos() const override { return bos_; }
  int32_t eos() const override { return eos_; }
  bool strips_first_space() const override { return decoding_.strips_first_space; }

 private:
  // Where a stretch of text stands; decides what is put in front of it.
  struct Place {
    bool at_start = false;        // at the start of the whole text
    bool after_bad_byte = false;  // goes on after a byte that is not UTF-8: nothing is put in front
  };

  void encode_plain(std::string_view text, Place place, bool parse_special, std::vector<int32_t>& tokens) const;
  void encode_utf8(std::string_view text, Place place, bool parse_special, std::vector<int32_t>& tokens) const;
  void encode_words(std::string_view text, Place place, std::vector<int32_t>& tokens) const;
  static std::string apply(const std::vector<TextStep>& steps, std::string_view text, Place place);
  BpeTables complete(BpeTables tables) const;

  Decoding decoding_;
  std::vector<TokenKind> kinds_;
  std::vector<std::string> bytes_;      // [vocabulary] what a token stands for; empty for control tokens
  std::vector<std::string> spellings_;  // [vocabulary] without byte_level: the keys of the model's table
  std::unordered_map<std::string, int32_t> added_ids_;
  AddedTokenFinder added_;
  AddedTokenFinder added_normalized_;
  std::vector<TextStep> normalizer_;
  std::vector<TextStep> word_steps_;
  std::vector<text::Regex> splits_;
  std::vector<int32_t> before_;
  std::vector<int32_t> after_;
  int32_t bos_;
  int32_t eos_;
  std::unique_ptr<BpeModel> model_;
};

}  // namespace tessera::model
