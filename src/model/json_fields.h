// Reading JSON that others wrote: strict text, typed fields, errors that name file and field.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace tessera::model {

// Like tessera::parse_json, and Error(bad_file) when one object has a key twice.
nlohmann::json parse_strict_json(std::string_view text, std::string_view name);

// A view of one JSON object. A field that is null counts as absent; one of another type is Error(bad_file).
class JsonFields {
 public:
  // `name` stands for the file in messages; both arguments must outlive the view. Throws when `object` is none.
  JsonFields(const nlohmann::json& object, const std::string& name);

  const std::string& name() const { return name_; }
  // Null when the field is absent.
  const nlohmann::json* find(std::string_view key) const;

  std::optional<int64_t> find_integer(std::string_view key) const;  // 3.0 counts as an integer
  std::optional<double> find_number(std::string_view key) const;
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<std::string> find_string(std::string_view key) const;
  std::optional<JsonFields> find_object(std::string_view key) const;

  int64_t require_integer(std::string_view key) const;
  double require_number(std::string_view key) const;

  [[noreturn]] void fail(std::string_view key, std::string_view expected) const;

 private:
  const nlohmann::json& object_;
  const std::string& name_;
};

}  // namespace tessera::model
