// Reads tokenizer.json of Hugging Face's `tokenizers` library (format version 1.0).
//
//   model           BPE; merges as "left right" or ["left", "right"]
//   added_tokens    with special, lstrip, rstrip, normalized
//   normalizer      null, NFC, Prepend, Replace (of a string), Sequence
//   pre_tokenizer   ByteLevel; Split (known patterns, Isolated), Digits and ByteLevel in a Sequence; Metaspace; null
//   post_processor  null, ByteLevel, TemplateProcessing, Sequence
//   decoder         ByteLevel; Replace, ByteFallback, Fuse and Strip in a Sequence
//
// truncation and padding are ignored, as are offsets. Everything else is Error(unsupported) naming what was found;
// damage is Error(bad_file).
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "model/tokenizer_pipeline.h"

namespace tessera::model {

class JsonFields;

inline constexpr int64_t kLargestVocabulary = int64_t{1} << 22;  // a bound on what a damaged id makes us allocate

// `bos` and `eos`: texts of these tokens, empty for none. `name` stands for the file in messages.
std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view json, std::string_view bos, std::string_view eos,
                                               const std::string& name);

// The sections that surround the model; they fill in the parts they are about. Called by tokenizer_from_json.
struct JsonPreTokenizer {
  bool byte_level = false;
};
void read_normalizer(const JsonFields& file, TokenizerParts& parts);
JsonPreTokenizer read_pre_tokenizer(const JsonFields& file, TokenizerParts& parts);
void read_post_processor(const JsonFields& file, TokenizerParts& parts);
// True when <0xXX> tokens are bytes.
bool read_decoder(const JsonFields& file, bool byte_level, TokenizerParts& parts);

}  // namespace tessera::model
