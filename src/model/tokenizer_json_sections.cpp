#include <nlohmann/json.hpp>

#include "model/json_fields.h"
#include "model/quote.h"
#include "model/tokenizer_json.h"
#include "model/tokenizer_patterns.h"
#include "tessera/base/error.h"

namespace tessera::model {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const JsonFields& fields, std::string_view section, std::string_view found) {
  throw Error(ErrorCode::unsupported, "{}: {}: {} is not supported", fields.name(), section, found);
}

std::string type_of(const JsonFields& fields) {
  std::optional<std::string> type = fields.find_string("type");
  if (!type) fields.fail("type", "a string");
  return *type;
}

// The members of a section, Sequences taken apart (`list`: the field that holds a Sequence's members).
std::vector<JsonFields> members(const JsonFields& file, std::string_view section, std::string_view list) {
  std::vector<JsonFields> result;
  const std::optional<JsonFields> whole = file.find_object(section);
  if (!whole) return result;
  if (type_of(*whole) != "Sequence") return {*whole};
  const Json* const items = whole->find(list);
  if (items == nullptr || !items->is_array()) whole->fail(list, "a list");
  for (const Json& item : *items) {
    result.emplace_back(item, file.name());
    if (type_of(result.back()) == "Sequence") refuse(file, section, "a Sequence within a Sequence");
  }
  return result;
}

std::string require_string(const JsonFields& fields, std::string_view key) {
  std::optional<std::string> value = fields.find_string(key);
  if (!value) fields.fail(key, "a string");
  return *value;
}

// {"String": text} of the field `pattern`; Regex patterns are the business of Split alone.
std::string string_pattern(const JsonFields& fields, std::string_view section) {
  const std::optional<JsonFields> pattern = fields.find_object("pattern");
  if (!pattern) fields.fail("pattern", "an object");
  const std::optional<std::string> text = pattern->find_string("String");
  if (!text) refuse(fields, section, "a pattern that is not a String");
  if (text->empty()) pattern->fail("String", "a text that is not empty");
  return *text;
}

text::Regex read_split(const JsonFields& split) {
  const std::optional<JsonFields> pattern = split.find_object("pattern");
  if (!pattern) split.fail("pattern", "an object");
  const std::optional<std::string> regex = pattern->find_string("Regex");
  if (!regex) refuse(split, "pre_tokenizer", "Split by a pattern that is not a Regex");
  if (!is_known_word_pattern(*regex)) refuse(split, "pre_tokenizer", "the word pattern " + quote(*regex));
  const std::string behavior = require_string(split, "behavior");
  if (behavior != "Isolated") refuse(split, "pre_tokenizer", "Split with behavior " + quote(behavior));
  if (split.find_bool("invert").value_or(false)) refuse(split, "pre_tokenizer", "Split with invert");
  return text::Regex(*regex);
}

void read_metaspace(const JsonFields& metaspace, TokenizerParts& parts) {
  const std::string mark = metaspace.find_string("replacement").value_or(std::string(kSpaceMark));
  if (mark != kSpaceMark) refuse(metaspace, "pre_tokenizer", "Metaspace with replacement " + quote(mark));
  const bool prefix = metaspace.find_bool("add_prefix_space").value_or(true);
  const std::string scheme = metaspace.find_string("prepend_scheme").value_or(prefix ? "always" : "never");
  parts.word_steps.push_back({TextStep::Kind::replace, " ", mark});
  if (scheme == "first") {
    parts.word_steps.push_back({TextStep::Kind::prepend_if_missing_at_start, "", mark});
  } else if (scheme == "always") {
    parts.word_steps.push_back({TextStep::Kind::prepend_if_missing, "", mark});
  } else if (scheme != "never") {
    refuse(metaspace, "pre_tokenizer", "Metaspace with prepend_scheme " + quote(scheme));
  }
  if (metaspace.find_bool("split").value_or(true)) parts.splits.emplace_back(R"(\x{2581}[^\x{2581}]*|[^\x{2581}]+)");
}

std::vector<int32_t> template_ids(const JsonFields& table, const std::string& key) {
  const std::optional<JsonFields> entry = table.find_object(key);
  if (!entry) table.fail(key, "an object, since the template names this token");
  const Json* const ids = entry->find("ids");
  if (ids == nullptr || !ids->is_array()) entry->fail("ids", "a list of token ids");
  std::vector<int32_t> result;
  for (const Json& id : *ids) {
    const bool fits = id.is_number_integer() && id >= 0 && id < static_cast<int64_t>(kLargestVocabulary);
    if (!fits) entry->fail("ids", "a list of token ids");
    result.push_back(id.get<int32_t>());
  }
  return result;
}

void read_template(const JsonFields& processor, TokenizerParts& parts) {
  const Json* const items = processor.find("single");
  if (items == nullptr || !items->is_array()) processor.fail("single", "a list");
  bool seen_text = false;
  for (const Json& item : *items) {
    const JsonFields fields(item, processor.name());
    if (fields.find_object("Sequence")) {
      if (seen_text) refuse(processor, "post_processor", "a template with two texts");
      seen_text = true;
      continue;
    }
    const std::optional<JsonFields> token = fields.find_object("SpecialToken");
    if (!token) fields.fail("SpecialToken", "an object");
    const std::optional<JsonFields> table = processor.find_object("special_tokens");
    if (!table) processor.fail("special_tokens", "an object");
    const std::vector<int32_t> ids = template_ids(*table, require_string(*token, "id"));
    std::vector<int32_t>& side = seen_text ? parts.after : parts.before;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (!seen_text) processor.fail("single", "a template with a Sequence");
}

}  // namespace

void read_normalizer(const JsonFields& file, TokenizerParts& parts) {
  for (const JsonFields& step : members(file, "normalizer", "normalizers")) {
    const std::string type = type_of(step);
    if (type == "NFC") {
      parts.normalizer.push_back({.kind = TextStep::Kind::normal_form_c});
    } else if (type == "Prepend") {
      parts.normalizer.push_back({TextStep::Kind::prepend, "", require_string(step, "prepend")});
    } else if (type == "Replace") {
      parts.normalizer.push_back(
          {TextStep::Kind::replace, string_pattern(step, "normalizer"), require_string(step, "content")});
    } else {
      refuse(file, "normalizer", quote(type));
    }
  }
}

JsonPreTokenizer read_pre_tokenizer(const JsonFields& file, TokenizerParts& parts) {
  const std::vector<JsonFields> steps = members(file, "pre_tokenizer", "pretokenizers");
  JsonPreTokenizer result;
  for (size_t i = 0; i < steps.size(); ++i) {
    const JsonFields& step = steps[i];
    const std::string type = type_of(step);
    if (result.byte_level) refuse(file, "pre_tokenizer", quote(type) + " after ByteLevel");
    if (type == "ByteLevel") {
      result.byte_level = true;
      const bool prefix = step.find_bool("add_prefix_space").value_or(true);
      if (prefix && i > 0) refuse(file, "pre_tokenizer", "ByteLevel with add_prefix_space after another step");
      if (prefix) parts.word_steps.push_back({TextStep::Kind::prepend_if_missing, "", " "});
      if (step.find_bool("use_regex").value_or(true)) parts.splits.emplace_back(gpt2_word_pattern());
    } else if (type == "Split") {
      parts.splits.push_back(read_split(step));
    } else if (type == "Digits") {
      const bool single = step.find_bool("individual_digits").value_or(false);
      parts.splits.emplace_back(single ? single_digit_pattern() : digit_run_pattern());
    } else if (type == "Metaspace" && steps.size() == 1) {
      read_metaspace(step, parts);
    } else {
      refuse(file, "pre_tokenizer", quote(type));
    }
  }
  return result;
}

void read_post_processor(const JsonFields& file, TokenizerParts& parts) {
  bool seen_template = false;
  for (const JsonFields& step : members(file, "post_processor", "processors")) {
    const std::string type = type_of(step);
    if (type == "TemplateProcessing" && !seen_template) {
      read_template(step, parts);
      seen_template = true;
    } else if (type != "ByteLevel") {  // which only trims offsets
      refuse(file, "post_processor", quote(type));
    }
  }
}

bool read_decoder(const JsonFields& file, bool byte_level, TokenizerParts& parts) {
  const std::vector<JsonFields> steps = members(file, "decoder", "decoders");
  if (steps.empty()) refuse(file, "decoder", "null");
  bool byte_tokens = false;
  for (const JsonFields& step : steps) {
    const std::string type = type_of(step);
    if (type == "ByteLevel" && byte_level && steps.size() == 1) {
      parts.decoding.byte_level = true;
    } else if (byte_level) {
      refuse(file, "decoder", quote(type) + " for a byte-level vocabulary");
    } else if (type == "Replace") {
      if (string_pattern(step, "decoder") != kSpaceMark || require_string(step, "content") != " ") {
        refuse(file, "decoder", "Replace of anything but U+2581 by a space");
      }
      parts.decoding.space_mark = true;
    } else if (type == "ByteFallback") {
      byte_tokens = true;
    } else if (type == "Strip") {
      const bool usual = require_string(step, "content") == " " && step.require_integer("stop") == 0 &&
                         step.require_integer("start") <= 1 && step.require_integer("start") >= 0;
      if (!usual) refuse(file, "decoder", "Strip of anything but one space at the start");
      parts.decoding.strips_first_space = step.require_integer("start") == 1;
    } else if (type != "Fuse") {
      refuse(file, "decoder", quote(type));
    }
  }
  return byte_tokens;
}

}  // namespace tessera::model
