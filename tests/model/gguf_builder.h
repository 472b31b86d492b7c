// Writes GGUF bytes for the tests, right or deliberately wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace tessera::model {

template <typename T>
requires std::is_arithmetic_v<T> std::string le(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::string gguf_string(std::string_view text) { return le<uint64_t>(text.size()) + std::string(text); }

// The bytes of a typed value, as they stand after the key.
inline std::string gguf_u32(uint32_t value) { return le<uint32_t>(4) + le(value); }
inline std::string gguf_f32(float value) { return le<uint32_t>(6) + le(value); }
inline std::string gguf_text(std::string_view value) { return le<uint32_t>(8) + gguf_string(value); }
inline std::string gguf_array(uint32_t element_type, uint64_t count, std::string_view elements) {
  return le<uint32_t>(9) + le(element_type) + le(count) + std::string(elements);
}

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> dims;  // fastest first, as in the file
  uint32_t type = 0;
  std::string data;
  std::optional<uint64_t> offset = {};  // where the table says the data is; nothing: where it is
};

struct GgufBuilder {
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t alignment = 32;  // of the data; the key is written only when added below
  std::vector<std::pair<std::string, std::string>> values = {};  // key, typed value
  std::vector<GgufTensor> tensors = {};
  std::optional<uint64_t> tensor_count = {};
  std::optional<uint64_t> value_count = {};

  std::string header() const {
    std::string bytes = magic + le(version) + le<uint64_t>(tensor_count.value_or(tensors.size())) +
                        le<uint64_t>(value_count.value_or(values.size()));
    for (const auto& [key, value] : values) bytes += gguf_string(key) + value;
    uint64_t offset = 0;
    for (const GgufTensor& tensor : tensors) {
      bytes += gguf_string(tensor.name) + le(static_cast<uint32_t>(tensor.dims.size()));
      for (const uint64_t dim : tensor.dims) bytes += le(dim);
      bytes += le(tensor.type) + le(tensor.offset.value_or(offset));
      offset = padded(offset + tensor.data.size());
    }
    return bytes;
  }

  std::string build() const {
    std::string bytes = header();
    bytes.resize(padded(bytes.size()));
    std::string data;
    for (const GgufTensor& tensor : tensors) {
      data.resize(padded(data.size()));
      data += tensor.data;
    }
    return bytes + data;
  }

 private:
  uint64_t padded(uint64_t size) const { return (size + alignment - 1) / alignment * alignment; }
};

}  // namespace tessera::model
