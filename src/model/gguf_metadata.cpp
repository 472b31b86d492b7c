#include "model/quote.h"
#include "tessera/model/gguf.h"

namespace tessera::model {
namespace {

const char* kind_of(const GgufValue& value) {
  constexpr const char* kKinds[] = {"integer",           "float",           "bool",           "string",
                                    "array of integers", "array of floats", "array of bools", "array of strings",
                                    "array of arrays"};
  static_assert(std::size(kKinds) == std::variant_size_v<GgufValue>);
  return kKinds[value.index()];
}

template <typename T>
std::optional<T> copy(const T* value) {
  return value == nullptr ? std::nullopt : std::optional<T>(*value);
}

}  // namespace

void GgufMetadata::add(std::string key, GgufValue value) {
  const auto [place, added] = values_.try_emplace(std::move(key), std::move(value));
  if (!added) throw Error(ErrorCode::bad_file, "{}: key {} appears twice", name_, quote(place->first));
}

template <typename T>
const T* GgufMetadata::find(std::string_view key) const {
  const auto place = values_.find(key);
  if (place == values_.end()) return nullptr;
  if (const T* value = std::get_if<T>(&place->second)) return value;
  throw Error(ErrorCode::bad_file, "{}: key {}: expected {}, found {}", name_, quote(key), kind_of(GgufValue(T{})),
              kind_of(place->second));
}

template <typename T>
const T& GgufMetadata::present(const T* value, std::string_view key) const {
  if (value == nullptr) throw Error(ErrorCode::bad_file, "{}: key {} is missing", name_, quote(key));
  return *value;
}

std::optional<int64_t> GgufMetadata::find_integer(std::string_view key) const { return copy(find<int64_t>(key)); }
std::optional<bool> GgufMetadata::find_bool(std::string_view key) const { return copy(find<bool>(key)); }

std::optional<double> GgufMetadata::find_float(std::string_view key) const {
  const auto place = values_.find(key);
  if (place == values_.end()) return std::nullopt;
  if (const auto* integer = std::get_if<int64_t>(&place->second)) return static_cast<double>(*integer);
  return copy(find<double>(key));
}

const std::string* GgufMetadata::find_string(std::string_view key) const { return find<std::string>(key); }

const std::vector<std::string>* GgufMetadata::find_strings(std::string_view key) const {
  return find<std::vector<std::string>>(key);
}

const std::vector<int64_t>* GgufMetadata::find_integers(std::string_view key) const {
  return find<std::vector<int64_t>>(key);
}

const std::vector<double>* GgufMetadata::find_floats(std::string_view key) const {
  return find<std::vector<double>>(key);
}

int64_t GgufMetadata::require_integer(std::string_view key) const { return present(find<int64_t>(key), key); }

double GgufMetadata::require_float(std::string_view key) const {
  const std::optional<double> value = find_float(key);
  return present(value ? &*value : nullptr, key);
}

const std::string& GgufMetadata::require_string(std::string_view key) const { return present(find_string(key), key); }

const std::vector<std::string>& GgufMetadata::require_strings(std::string_view key) const {
  return present(find_strings(key), key);
}

}  // namespace tessera::model
