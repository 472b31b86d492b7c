#include "model/json_fields.h"

#include <cmath>
#include <set>
#include <vector>

#include "model/quote.h"
#include "tessera/base/error.h"

namespace tessera::model {
namespace {

constexpr int kMaxDepth = 100;

}  // namespace

nlohmann::json parse_strict_json(std::string_view text, std::string_view name) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> open_objects;  // the keys seen so far of every object that encloses the parser
  const auto check = [&](int depth, Event event, nlohmann::json& parsed) {
    if (depth > kMaxDepth) {
      throw Error(ErrorCode::bad_file, "{}: JSON nested deeper than {} levels", name, kMaxDepth);
    }
    if (event == Event::object_start) open_objects.emplace_back();
    if (event == Event::object_end) open_objects.pop_back();
    if (event == Event::key && !open_objects.back().insert(parsed.get<std::string>()).second) {
      throw Error(ErrorCode::bad_file, "{}: the key {} appears twice in one object", name,
                  quote(parsed.get<std::string>()));
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text, check);
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::bad_file, "{}: not valid JSON: {}", name, error.what());
  }
}

JsonFields::JsonFields(const nlohmann::json& object, const std::string& name) : object_(object), name_(name) {
  if (!object.is_object()) {
    throw Error(ErrorCode::bad_file, "{}: expected a JSON object, found {}", name, object.type_name());
  }
}

const nlohmann::json* JsonFields::find(std::string_view key) const {
  const auto place = object_.find(key);
  return place == object_.end() || place->is_null() ? nullptr : &*place;
}

void JsonFields::fail(std::string_view key, std::string_view expected) const {
  const nlohmann::json* value = find(key);
  std::string found = value == nullptr ? "nothing" : value->type_name();
  if (value != nullptr && value->is_primitive()) {
    found = quote(value->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  throw Error(ErrorCode::bad_file, "{}: field {}: expected {}, found {}", name_, quote(key), expected, found);
}

std::optional<int64_t> JsonFields::find_integer(std::string_view key) const {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) fail(key, "an integer");
  if (value->is_number_integer()) return value->get<int64_t>();
  if (!value->is_number_float()) fail(key, "an integer");
  const auto number = value->get<double>();
  if (!(std::abs(number) <= kExact) || number != std::trunc(number)) fail(key, "an integer");
  return static_cast<int64_t>(number);
}

std::optional<double> JsonFields::find_number(std::string_view key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) fail(key, "a number");
  return value->get<double>();
}

std::optional<bool> JsonFields::find_bool(std::string_view key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) fail(key, "true or false");
  return value->get<bool>();
}

std::optional<std::string> JsonFields::find_string(std::string_view key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(key, "a string");
  return value->get<std::string>();
}

std::optional<JsonFields> JsonFields::find_object(std::string_view key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) fail(key, "an object");
  return JsonFields(*value, name_);
}

int64_t JsonFields::require_integer(std::string_view key) const {
  const std::optional<int64_t> value = find_integer(key);
  if (!value) fail(key, "an integer");
  return *value;
}

double JsonFields::require_number(std::string_view key) const {
  const std::optional<double> value = find_number(key);
  if (!value) fail(key, "a number");
  return *value;
}

}  // namespace tessera::model
