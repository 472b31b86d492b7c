#include "tessera/attention/minference_config.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <string>

#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::attention {
namespace {

int parse_head(const std::string& text, std::string_view name) {
  int head = -1;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), head);
  if (status != std::errc() || end != text.data() + text.size() || head < 0) {
    throw Error(ErrorCode::bad_file, "{}: expected a head number as key, found '{}'", name, text);
  }
  return head;
}

int64_t parse_size(const nlohmann::json& value, std::string_view name) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0) {
    throw Error(ErrorCode::bad_file, "{}: expected a whole number >= 0 as budget, found {}", name, value.dump());
  }
  return value.get<int64_t>();
}

VerticalSlashBudget parse_entry(const nlohmann::json& entry, std::string_view name) {
  if (!entry.is_array() || entry.size() < 3 || !entry[0].is_string()) {
    throw Error(ErrorCode::bad_file, "{}: expected [type, vertical, slash, score], found {}", name, entry.dump());
  }
  const auto type = entry[0].get<std::string>();
  if (type == "block_sparse") return {};
  if (type != "vertical_and_slash" && type != "stream_llm") {
    throw Error(ErrorCode::bad_file, "{}: expected type vertical_and_slash, stream_llm or block_sparse, found '{}'",
                name, type);
  }
  return {.vertical = parse_size(entry[1], name), .slash = parse_size(entry[2], name)};
}

}  // namespace

HeadBudgets parse_minference_config(const nlohmann::json& document, std::string_view name) {
  if (!document.is_array()) {
    throw Error(ErrorCode::bad_file, "{}: expected a list with one object per layer, found {}", name,
                document.type_name());
  }
  HeadBudgets budgets;
  for (size_t layer = 0; layer < document.size(); ++layer) {
    if (!document[layer].is_object()) {
      throw Error(ErrorCode::bad_file, "{}: expected an object for layer {}, found {}", name, layer,
                  document[layer].type_name());
    }
    for (const auto& [head, entry] : document[layer].items()) {
      budgets[{static_cast<int>(layer), parse_head(head, name)}] = parse_entry(entry, name);
    }
  }
  return budgets;
}

HeadBudgets read_minference_config(const std::filesystem::path& path) {
  return parse_minference_config(read_json(path), path.string());
}

}  // namespace tessera::attention
