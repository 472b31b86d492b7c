// The word patterns of byte-level tokenizers. They are data of the file formats: a tokenizer.json spells its pattern
// out, a GGUF names it. One that is not known here is refused, since splitting words in another way gives other tokens
// without any visible fault.
#pragma once

#include <string_view>
#include <vector>

namespace tessera::model {

// GPT-2's pattern: what pre-tokenizer "ByteLevel" with use_regex stands for.
std::string_view gpt2_word_pattern();
// Every digit (Unicode N) alone; runs of them.
std::string_view single_digit_pattern();
std::string_view digit_run_pattern();

// True for the pattern texts known from tokenizer.json files.
bool is_known_word_pattern(std::string_view pattern);

// What the value of tokenizer.ggml.pre stands for.
struct GgufPreTokenizer {
  std::vector<std::string_view> patterns;  // applied one after the other, each to the pieces that the one before left
  bool ignore_merges = false;              // a word that is one token is taken whole
  bool add_bos = false;                    // unless the file says otherwise
  bool normal_form_c = false;              // llama.cpp does not normalise; the models' own tokenizers do
};

// Throws Error(unsupported) naming the value when it is not known; `file` stands for the file in the message.
GgufPreTokenizer gguf_pre_tokenizer(std::string_view pre, std::string_view file);

}  // namespace tessera::model
