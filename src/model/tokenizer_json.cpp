#include "model/tokenizer_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "model/json_fields.h"
#include "model/quote.h"
#include "model/text/byte_alphabet.h"
#include "model/text/utf8.h"
#include "model/tokenizer_factory.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::model {
namespace {

using Json = nlohmann::json;

// Reads the sections of one file into the parts of a tokenizer.
class JsonReader {
 public:
  JsonReader(const Json& json, const std::string& name) : file_(json, name) {}

  TokenizerParts read(std::string_view bos, std::string_view eos) {
    const std::optional<JsonFields> model = file_.find_object("model");
    if (!model) file_.fail("model", "an object");
    check_model(*model);
    bound_ids(*model);
    read_vocabulary(*model);
    read_added_tokens();
    read_normalizer(file_, parts_);
    byte_level_ = read_pre_tokenizer(file_, parts_).byte_level;
    read_post_processor(file_, parts_);
    byte_tokens_ = read_decoder(file_, byte_level_, parts_);
    read_alphabet(*model);
    read_merges(*model);
    for (const std::vector<int32_t>* side : {&parts_.before, &parts_.after}) {
      for (const int32_t id : *side) require_token(id, "post_processor");
    }
    parts_.bos = named_token(bos, "bos_token");
    parts_.eos = named_token(eos, "eos_token");
    return std::move(parts_);
  }

 private:
  [[noreturn]] void damaged(const std::string& what) const {
    throw Error(ErrorCode::bad_file, "{}: {}", file_.name(), what);
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorCode::unsupported, "{}: {} is not supported", file_.name(), what);
  }

  void check_model(const JsonFields& model) const {
    const std::string type = model.find_string("type").value_or("BPE");  // files of 2020 leave it out
    if (type != "BPE") refuse("a tokenizer model of type " + quote(type) + " (only BPE)");
    if (model.find_number("dropout").value_or(0) != 0) refuse("BPE with dropout");
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!model.find_string(affix).value_or("").empty()) refuse(fmt::format("BPE with {}", affix));
    }
  }

  // Ids may have gaps, but a damaged one must not make us allocate out of proportion to the file.
  void bound_ids(const JsonFields& model) {
    size_t tokens = 0;
    if (const Json* const vocabulary = model.find("vocab")) tokens += vocabulary->size();
    if (const Json* const added = file_.find("added_tokens")) tokens += added->size();
    id_end_ = std::min<int64_t>(kLargestVocabulary, 4 * static_cast<int64_t>(tokens) + 4096);
  }

  int32_t check_id(const Json& id, std::string_view text) const {
    const bool fits = id.is_number_integer() && id >= 0 && id < id_end_;
    if (!fits) {
      damaged(fmt::format("token {}: expected an id from 0 to {}, found {}", quote(text), id_end_ - 1,
                          id.is_number() ? id.dump() : id.type_name()));
    }
    return id.get<int32_t>();
  }

  void read_vocabulary(const JsonFields& model) {
    const Json* const vocabulary = model.find("vocab");
    if (vocabulary == nullptr || !vocabulary->is_object()) model.fail("vocab", "an object of tokens and their ids");
    ids_.reserve(vocabulary->size());
    for (const auto& [text, id] : vocabulary->items()) add_entry(text, check_id(id, text), TokenKind::normal);
  }

  void add_entry(const std::string& text, int32_t id, TokenKind kind) {
    if (static_cast<size_t>(id) >= parts_.entries.size()) parts_.entries.resize(static_cast<size_t>(id) + 1);
    TokenEntry& entry = parts_.entries[static_cast<size_t>(id)];
    if (entry.kind != TokenKind::absent) {
      damaged(fmt::format("the id {} is given to two tokens, {} and {}", id, quote(entry.text), quote(text)));
    }
    entry = {text, kind};
    ids_.emplace(text, id);
  }

  void read_added_tokens() {
    const Json* const list = file_.find("added_tokens");
    if (list == nullptr) return;
    if (!list->is_array()) file_.fail("added_tokens", "a list");
    for (const Json& item : *list) {
      const JsonFields fields(item, file_.name());
      AddedToken token;
      const std::optional<std::string> content = fields.find_string("content");
      if (!content) fields.fail("content", "a string");
      const Json* const id = fields.find("id");
      token.content = *content;
      token.id = check_id(id == nullptr ? Json() : *id, token.content);
      token.special = fields.find_bool("special").value_or(false);
      token.strip_left = fields.find_bool("lstrip").value_or(false);
      token.strip_right = fields.find_bool("rstrip").value_or(false);
      token.normalized = fields.find_bool("normalized").value_or(!token.special);
      if (fields.find_bool("single_word").value_or(false)) {
        refuse("the added token " + quote(token.content) + " with single_word");
      }
      add_added(token);
    }
  }

  void add_added(AddedToken& token) {
    const TokenKind kind = token.special ? TokenKind::special : TokenKind::added;
    const auto place = ids_.find(token.content);
    if (place == ids_.end()) {
      add_entry(token.content, token.id, kind);
    } else {
      TokenKind& known = parts_.entries[static_cast<size_t>(place->second)].kind;
      if (place->second != token.id || known != TokenKind::normal) {
        damaged(fmt::format("the token {} is there twice, with ids {} and {}", quote(token.content), place->second,
                            token.id));
      }
      known = kind;
    }
    parts_.added.push_back(std::move(token));
  }

  // The tokens of single bytes and characters, and what stands for text without any.
  void read_alphabet(const JsonFields& model) {
    BpeTables& tables = parts_.tables;
    tables.alphabet = byte_level_ ? Alphabet::bytes : Alphabet::characters;
    tables.ignore_merges = model.find_bool("ignore_merges").value_or(false);
    tables.fuse_unknown = model.find_bool("fuse_unk").value_or(false);
    if (const std::optional<std::string> unknown = model.find_string("unk_token")) {
      tables.unknown = named_token(*unknown, "unk_token");
    }
    const bool fallback = model.find_bool("byte_fallback").value_or(false);
    if (byte_level_) {
      for (int byte = 0; byte < 256; ++byte) {
        const auto place = ids_.find(text::spelling_of_bytes(std::string(1, static_cast<char>(byte))));
        if (place != ids_.end()) tables.byte_tokens[static_cast<size_t>(byte)] = place->second;
        if (place == ids_.end() && fallback) refuse("byte_fallback with a byte-level vocabulary that lacks bytes");
      }
      return;
    }
    for (const auto& [spelling, id] : ids_) {
      const int byte = byte_of_spelling(spelling);
      TokenKind& kind = parts_.entries[static_cast<size_t>(id)].kind;
      if (byte >= 0 && fallback) tables.byte_tokens[static_cast<size_t>(byte)] = id;
      if (byte >= 0 && byte_tokens_ && kind == TokenKind::normal) kind = TokenKind::byte;
      if (spelling.empty() || kind == TokenKind::special) continue;
      const text::CodePoint first = text::first_code_point(spelling);
      if (first.length == spelling.size()) tables.character_tokens.emplace(first.value, id);
    }
  }

  void read_merges(const JsonFields& model) {
    const Json* const merges = model.find("merges");
    if (merges == nullptr || !merges->is_array()) model.fail("merges", "a list");
    parts_.tables.merges.reserve(merges->size());
    uint32_t rank = 0;
    for (const Json& merge : *merges) {
      if (merge.is_string()) {
        const std::string& text = merge.get_ref<const std::string&>();
        if (text.starts_with("#version")) continue;
        const size_t space = text.find(' ');
        if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
          damaged(fmt::format("merge {}: expected two tokens with one space between, found {}", rank, quote(text)));
        }
        add_merge(text.substr(0, space), text.substr(space + 1), rank++);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        add_merge(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(), rank++);
      } else {
        damaged(fmt::format("merge {}: expected two tokens, found {}", rank, merge.type_name()));
      }
    }
  }

  void add_merge(const std::string& left, const std::string& right, uint32_t rank) {
    const auto id_of = [&](const std::string& text) {
      const auto place = ids_.find(text);
      if (place == ids_.end()) {
        damaged(fmt::format("merge {}, {} and {}: {} is not a token", rank, quote(left), quote(right), quote(text)));
      }
      return place->second;
    };
    const int32_t left_id = id_of(left);
    const int32_t right_id = id_of(right);
    if (!parts_.tables.merges.add(left_id, right_id, rank, id_of(left + right))) {
      damaged(fmt::format("the merge of {} and {} is there twice", quote(left), quote(right)));
    }
  }

  void require_token(int32_t id, std::string_view where) const {
    const auto index = static_cast<size_t>(id);
    if (index >= parts_.entries.size() || parts_.entries[index].kind == TokenKind::absent) {
      damaged(fmt::format("{}: no token has the id {}", where, id));
    }
  }

  int32_t named_token(std::string_view text, std::string_view role) const {
    if (text.empty()) return -1;
    const auto place = ids_.find(std::string(text));
    if (place == ids_.end()) damaged(fmt::format("{} {} is not a token", role, quote(text)));
    return place->second;
  }

  JsonFields file_;
  TokenizerParts parts_;
  std::unordered_map<std::string, int32_t> ids_;  // by spelling
  int64_t id_end_ = 0;                            // one above the highest id allowed
  bool byte_level_ = false;
  bool byte_tokens_ = false;
};

// The text of "bos_token" or "eos_token" in tokenizer_config.json: a string or an object with `content`.
std::string token_text(const JsonFields& config, std::string_view key) {
  const Json* const value = config.find(key);
  if (value == nullptr) return {};
  if (value->is_object()) return JsonFields(*value, config.name()).find_string("content").value_or("");
  return config.find_string(key).value_or("");
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view json, std::string_view bos, std::string_view eos,
                                               const std::string& name) {
  const Json parsed = parse_strict_json(json, name);
  return std::make_unique<PipelineTokenizer>(JsonReader(parsed, name).read(bos, eos));
}

std::unique_ptr<Tokenizer> tokenizer_from_huggingface(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "tokenizer.json";
  const std::filesystem::path config_path = directory / "tokenizer_config.json";
  std::string bos;
  std::string eos;
  if (std::filesystem::exists(config_path)) {
    const std::string config_name = config_path.string();
    const Json config = parse_strict_json(read_file(config_path), config_name);
    const JsonFields fields(config, config_name);
    bos = token_text(fields, "bos_token");
    eos = token_text(fields, "eos_token");
  }
  return tokenizer_from_json(read_file(path), bos, eos, path.string());
}

}  // namespace tessera::model
