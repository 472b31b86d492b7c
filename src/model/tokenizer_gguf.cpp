// Tokenizers from the keys tokenizer.ggml.* of a GGUF file: model "gpt2" (byte-level BPE with merges) and "llama"
// (SentencePiece BPE, where a pair's rank is the score of what it makes).
#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <unordered_map>

#include "model/quote.h"
#include "model/text/byte_alphabet.h"
#include "model/text/utf8.h"
#include "model/tokenizer_factory.h"
#include "model/tokenizer_json.h"
#include "model/tokenizer_patterns.h"
#include "model/tokenizer_pipeline.h"
#include "tessera/base/error.h"

namespace tessera::model {
namespace {

// Values of tokenizer.ggml.token_type.
enum class GgufTokenType : int64_t { undefined, normal, unknown, control, user_defined, unused, byte };

class GgufTokenizerReader {
 public:
  explicit GgufTokenizerReader(const GgufMetadata& metadata) : metadata_(metadata) {}

  TokenizerParts read() {
    const std::string& model = metadata_.require_string("tokenizer.ggml.model");
    if (model != "gpt2" && model != "llama") {
      throw Error(ErrorCode::unsupported, "{}: tokenizer model {} is not supported; known are gpt2 and llama",
                  metadata_.name(), quote(model));
    }
    const bool byte_level = model == "gpt2";
    read_entries(byte_level);
    if (byte_level) {
      read_byte_level();
    } else {
      read_sentencepiece();
    }
    return std::move(parts_);
  }

 private:
  [[noreturn]] void damaged(const std::string& what) const {
    throw Error(ErrorCode::bad_file, "{}: {}", metadata_.name(), what);
  }

  void read_entries(bool byte_level) {
    const std::vector<std::string>& texts = metadata_.require_strings("tokenizer.ggml.tokens");
    const std::vector<int64_t>* types = metadata_.find_integers("tokenizer.ggml.token_type");
    if (texts.empty() || static_cast<int64_t>(texts.size()) > kLargestVocabulary) {
      damaged(fmt::format("expected 1 to {} tokens, found {}", kLargestVocabulary, texts.size()));
    }
    if (types != nullptr && types->size() != texts.size()) {
      damaged(fmt::format("expected one token_type for each of {} tokens, found {}", texts.size(), types->size()));
    }
    std::set<int64_t> roles;  // control tokens whatever their type says
    for (const char* role : {"bos", "eos", "eot", "unknown"}) {
      const int32_t id = token_of_role(role, texts.size());
      if (id >= 0) roles.insert(id);
    }
    parts_.entries.resize(texts.size());
    ids_.reserve(texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      if (texts[i].empty() || !is_utf8(texts[i]))
        damaged(fmt::format("token {}: expected text, found {}", i, quote(texts[i])));
      if (!ids_.emplace(texts[i], id).second) damaged(fmt::format("the token {} is there twice", quote(texts[i])));
      const auto type = types == nullptr ? GgufTokenType::normal : static_cast<GgufTokenType>((*types)[i]);
      const TokenKind kind = roles.contains(id) ? TokenKind::special : kind_of(type, texts[i], byte_level);
      parts_.entries[i] = {texts[i], kind};
      if (kind != TokenKind::special && kind != TokenKind::added) continue;
      parts_.added.push_back({.id = id, .content = texts[i], .special = kind == TokenKind::special});
    }
  }

  TokenKind kind_of(GgufTokenType type, const std::string& text, bool byte_level) const {
    switch (type) {
      case GgufTokenType::undefined:
      case GgufTokenType::normal:
      case GgufTokenType::unused:
        return TokenKind::normal;
      case GgufTokenType::unknown:
      case GgufTokenType::control:
        return TokenKind::special;
      case GgufTokenType::user_defined:
        return TokenKind::added;
      case GgufTokenType::byte:
        if (byte_level || byte_of_spelling(text) < 0) damaged("a byte token is spelled " + quote(text));
        return TokenKind::byte;
    }
    damaged(fmt::format("the token {} has the unknown type {}", quote(text), static_cast<int64_t>(type)));
  }

  // -1 when the file does not name it.
  int32_t token_of_role(const std::string& role, size_t tokens) const {
    const std::string key = "tokenizer.ggml." + role + "_token_id";
    const std::optional<int64_t> id = metadata_.find_integer(key);
    if (!id) return -1;
    if (*id < 0 || *id >= static_cast<int64_t>(tokens)) {
      damaged(fmt::format("{}: expected a token id below {}, found {}", key, tokens, *id));
    }
    return static_cast<int32_t>(*id);
  }

  struct Defaults {
    bool add_bos = false;
    bool add_eos = false;
  };
  void read_surroundings(const Defaults& defaults) {
    const size_t tokens = parts_.entries.size();
    parts_.bos = token_of_role("bos", tokens);
    parts_.eos = token_of_role("eos", tokens);
    parts_.tables.unknown = token_of_role("unknown", tokens);
    if (metadata_.find_bool("tokenizer.ggml.add_bos_token").value_or(defaults.add_bos)) {
      if (parts_.bos < 0) damaged("a BOS token is to be added, but tokenizer.ggml.bos_token_id is missing");
      parts_.before = {parts_.bos};
    }
    if (metadata_.find_bool("tokenizer.ggml.add_eos_token").value_or(defaults.add_eos)) {
      if (parts_.eos < 0) damaged("an EOS token is to be added, but tokenizer.ggml.eos_token_id is missing");
      parts_.after = {parts_.eos};
    }
  }

  void read_byte_level() {
    const std::string* pre = metadata_.find_string("tokenizer.ggml.pre");
    if (pre == nullptr) {
      throw Error(
          ErrorCode::unsupported,
          "{}: the file does not say how words are split (tokenizer.ggml.pre is missing, as in files made before "
          "May 2024); convert the model again",
          metadata_.name());
    }
    const GgufPreTokenizer splitting = gguf_pre_tokenizer(*pre, metadata_.name());
    for (const std::string_view pattern : splitting.patterns) parts_.splits.emplace_back(pattern);
    if (splitting.normal_form_c) parts_.normalizer.push_back({.kind = TextStep::Kind::normal_form_c});
    if (metadata_.find_bool("tokenizer.ggml.add_space_prefix").value_or(false)) {
      parts_.word_steps.push_back({TextStep::Kind::prepend_if_missing, "", " "});
    }
    parts_.decoding.byte_level = true;
    read_surroundings({.add_bos = splitting.add_bos});
    BpeTables& tables = parts_.tables;
    tables.ignore_merges = splitting.ignore_merges;
    for (size_t byte = 0; byte < 256; ++byte) {
      const auto place = ids_.find(text::spelling_of_bytes(std::string(1, static_cast<char>(byte))));
      if (place != ids_.end()) tables.byte_tokens[byte] = place->second;
    }
    const std::vector<std::string>& merges = metadata_.require_strings("tokenizer.ggml.merges");
    tables.merges.reserve(merges.size());
    for (size_t rank = 0; rank < merges.size(); ++rank) add_merge(merges[rank], static_cast<uint32_t>(rank));
  }

  void add_merge(const std::string& merge, uint32_t rank) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos) damaged(fmt::format("merge {}: expected two tokens, found {}", rank, quote(merge)));
    const std::string left = merge.substr(0, space);
    const std::string right = merge.substr(space + 1);
    const auto id_of = [&](const std::string& text) {
      const auto place = ids_.find(text);
      if (place == ids_.end()) damaged(fmt::format("merge {}: {} is not a token", rank, quote(text)));
      return place->second;
    };
    if (!parts_.tables.merges.add(id_of(left), id_of(right), rank, id_of(left + right))) {
      damaged(fmt::format("the merge {} is there twice", quote(merge)));
    }
  }

  void read_sentencepiece() {
    const std::vector<double>* scores = metadata_.find_floats("tokenizer.ggml.scores");
    if (scores == nullptr || scores->size() != parts_.entries.size()) {
      damaged(fmt::format("expected one score (tokenizer.ggml.scores) for each of {} tokens, found {}",
                          parts_.entries.size(), scores == nullptr ? 0 : scores->size()));
    }
    if (!std::all_of(scores->begin(), scores->end(), [](double score) { return std::isfinite(score); })) {
      damaged("tokenizer.ggml.scores holds a value that is not finite");
    }
    const bool prefix = metadata_.find_bool("tokenizer.ggml.add_space_prefix").value_or(true);
    if (prefix) parts_.word_steps.push_back({TextStep::Kind::prepend, "", " "});
    parts_.word_steps.push_back({TextStep::Kind::replace, " ", std::string(kSpaceMark)});
    parts_.decoding = {.space_mark = true, .strips_first_space = prefix};
    read_surroundings({.add_bos = true});
    read_characters();
    add_scored_merges(*scores);
  }

  static bool is_piece(const TokenEntry& entry) { return entry.kind == TokenKind::normal; }

  // Symbols that merging starts from. A character that is no token but occurs in one is a helper symbol.
  void read_characters() {
    BpeTables& tables = parts_.tables;
    tables.alphabet = Alphabet::characters;
    for (size_t id = 0; id < parts_.entries.size(); ++id) {
      const TokenEntry& entry = parts_.entries[id];
      if (entry.kind == TokenKind::byte) {
        tables.byte_tokens[static_cast<size_t>(byte_of_spelling(entry.text))] = static_cast<int32_t>(id);
      }
      if (!is_piece(entry)) continue;
      symbols_.emplace(entry.text, static_cast<int32_t>(id));
      const text::CodePoint first = text::first_code_point(entry.text);
      if (first.length == entry.text.size()) tables.character_tokens.emplace(first.value, static_cast<int32_t>(id));
    }
    for (const TokenEntry& entry : parts_.entries) {
      if (is_piece(entry)) add_helpers(entry.text);
    }
  }

  void add_helpers(std::string_view text) {
    BpeTables& tables = parts_.tables;
    while (!text.empty()) {
      const text::CodePoint next = text::first_code_point(text);
      const auto helper = static_cast<int32_t>(parts_.entries.size() + tables.helper_characters.size());
      if (tables.character_tokens.emplace(next.value, helper).second) {
        tables.helper_characters.emplace_back(text.substr(0, next.length));
        symbols_.emplace(text.substr(0, next.length), helper);
      }
      text.remove_prefix(next.length);
    }
  }

  // Every way to cut a token into two symbols is a merge, of a rank that all tokens of the same score share.
  void add_scored_merges(const std::vector<double>& scores) {
    constexpr size_t kLongestPiece = 1024;
    std::vector<double> order = scores;
    std::sort(order.begin(), order.end(), std::greater<>());
    order.erase(std::unique(order.begin(), order.end()), order.end());
    struct Cut {
      int32_t left, right, merged;
    };
    std::vector<Cut> cuts;
    for (size_t id = 0; id < parts_.entries.size(); ++id) {
      const std::string_view text = parts_.entries[id].text;
      if (!is_piece(parts_.entries[id])) continue;
      if (text.size() > kLongestPiece) damaged(fmt::format("token {} is longer than {} bytes", id, kLongestPiece));
      for (size_t at = text::first_code_point(text).length; at < text.size();) {
        const auto left = symbols_.find(text.substr(0, at));
        const auto right = symbols_.find(text.substr(at));
        if (left != symbols_.end() && right != symbols_.end()) {
          cuts.push_back({left->second, right->second, static_cast<int32_t>(id)});
        }
        at += text::first_code_point(text.substr(at)).length;
      }
    }
    parts_.tables.merges.reserve(cuts.size());
    for (const Cut& cut : cuts) {
      const double score = scores[static_cast<size_t>(cut.merged)];
      const auto rank = std::lower_bound(order.begin(), order.end(), score, std::greater<>()) - order.begin();
      parts_.tables.merges.add(cut.left, cut.right, static_cast<uint32_t>(rank), cut.merged);
    }
  }

  const GgufMetadata& metadata_;
  TokenizerParts parts_;
  std::unordered_map<std::string, int32_t> ids_;           // every token by spelling
  std::unordered_map<std::string_view, int32_t> symbols_;  // SentencePiece: pieces and helper characters
};

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_gguf(const GgufMetadata& metadata) {
  return std::make_unique<PipelineTokenizer>(GgufTokenizerReader(metadata).read());
}

}  // namespace tessera::model
