// Text to tokens and back.
//
//   auto tokenizer = model->tokenizer();
//   std::vector<int32_t> tokens = tokenizer.encode(text, {.add_special = true});
//   std::string text = tokenizer.decode(tokens);
//   Detokenizer stream(tokenizer);  std::string piece = stream.push(token);   // whole UTF-8 characters only
//
// Kinds: byte-level BPE (GPT-2, Llama-3, Qwen2, SmolLM2 pre-tokenizers; an unknown one is Error(unsupported)) and
// SentencePiece-style BPE with scores and byte fallback (Llama-2, Yi). Sources: tokenizer.json of Hugging Face, or
// GGUF metadata. Thread-safe: all methods are const.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::model {

struct EncodeOptions {
  bool add_special = true;     // the tokens the model expects around a prompt (BOS), as its own files say
  bool parse_special = false;  // text such as "<|im_start|>" becomes a control token; keep off for untrusted text.
                               // Added tokens that are no control tokens are always looked for.
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Never fails on any text: bytes that are not UTF-8 are encoded as they are, one by one. O(n log n).
  virtual std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const = 0;
  // The bytes of one token; empty for control tokens and ids that are none. A lone token may be an incomplete UTF-8
  // sequence.
  virtual std::string token_bytes(int32_t token) const = 0;
  // All tokens together, control tokens and ids that are none left out; always UTF-8: what is not becomes U+FFFD, as in
  // the reference library.
  virtual std::string decode(std::span<const int32_t> tokens) const = 0;

  // One above the highest token id.
  virtual int64_t vocabulary() const = 0;
  // Id of a token given by its text (control tokens included), or -1. The text is what the token stands for, not how
  // the vocabulary spells it: " of", not "Ġof" or "▁of".
  virtual int32_t find(std::string_view text) const = 0;
  virtual int32_t bos() const = 0;  // -1: none
  virtual int32_t eos() const = 0;  // -1: none
  // SentencePiece vocabularies with a dummy prefix: one space at the start of a decoded text is not part of it.
  virtual bool strips_first_space() const { return false; }
};

// Turns a stream of tokens into text: holds back incomplete UTF-8 and text that may be the start of a stop string.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, std::vector<std::string> stop_strings = {});

  // Text that can be shown now.
  std::string push(int32_t token);
  // What is still held back, invalid bytes replaced by U+FFFD. Ends the stream.
  std::string finish();
  // True once a stop string was met; text before it was returned, nothing after it will be.
  bool stopped() const { return stopped_; }

 private:
  std::string release(bool final);

  const Tokenizer& tokenizer_;
  std::vector<std::string> stop_strings_;
  std::string pending_;
  bool first_ = true;
  bool stopped_ = false;
};

}  // namespace tessera::model
