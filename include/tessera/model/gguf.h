// Reads GGUF files, versions 2 and 3 (ggml-org/ggml: docs/gguf.md, include/gguf.h).
//
//   const GgufFile file = GgufFile::open("SmolLM2-135M-Instruct.Q4_1.gguf");
//   const int64_t layers = file.metadata().require_integer("llama.block_count");
//   const Tensor embedding = file.tensor("token_embd.weight");   // [vocabulary, width], borrowed from the map
//
// Layout; every number is little-endian and nothing is aligned before the data:
//   bytes      field
//   4          magic 'G' 'G' 'U' 'F'
//   u32        version: 2 or 3
//   u64        tensor count
//   u64        metadata count
//   metadata   count times: key string, u32 value type, value
//   tensors    count times: name string, u32 rank (at most 4), u64 dimensions[rank] (fastest first), u32 tensor type,
//              u64 offset (relative to the data, a multiple of the alignment)
//   padding    up to the next multiple of the alignment (key general.alignment, u32; 32 when absent)
//   data       the tensors' bytes
// string: u64 length, then that many bytes, no terminator.
// value types: 0 u8, 1 i8, 2 u16, 3 i16, 4 u32, 5 i32, 6 f32, 7 bool (one byte, 0 or 1), 8 string,
//              9 array (u32 element type, u64 count, elements; arrays may nest), 10 u64, 11 i64, 12 f64.
//
// Errors: bad_file names the file, the entry and the fault (truncation, counts or sizes that do not fit the file,
// overlapping or unaligned tensors, duplicate keys or names, names that are not UTF-8); unsupported is a well-formed
// file of another version, byte order or tensor type. Reading costs O(header); no tensor byte is touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tessera/tensor/tensor.h"

namespace tessera::model {

// An array of arrays; no supported model has one, so only its presence is kept.
struct GgufNestedArray {};

// Integers of every width and sign are one type, floats of both widths another. A u64 above the range of int64_t cannot
// be held and is refused on reading.
using GgufValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<bool>, std::vector<std::string>, GgufNestedArray>;

// The key-value part of a file. Owns its values, so it may outlive the file.
//
// find_*: nothing when the key is absent; Error(bad_file) when it holds another type. require_*: also when absent.
class GgufMetadata {
 public:
  // `name` stands for the file in error messages.
  explicit GgufMetadata(std::string name) : name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  bool contains(std::string_view key) const { return values_.find(key) != values_.end(); }
  // Throws Error(bad_file) when the key is there already.
  void add(std::string key, GgufValue value);

  std::optional<int64_t> find_integer(std::string_view key) const;
  std::optional<double> find_float(std::string_view key) const;  // an integer is accepted too
  std::optional<bool> find_bool(std::string_view key) const;

  // Pointers live as long as this object; null when the key is absent.
  const std::string* find_string(std::string_view key) const;
  const std::vector<std::string>* find_strings(std::string_view key) const;
  const std::vector<int64_t>* find_integers(std::string_view key) const;
  const std::vector<double>* find_floats(std::string_view key) const;

  int64_t require_integer(std::string_view key) const;
  double require_float(std::string_view key) const;
  const std::string& require_string(std::string_view key) const;
  const std::vector<std::string>& require_strings(std::string_view key) const;

  const std::map<std::string, GgufValue, std::less<>>& values() const { return values_; }

 private:
  template <typename T>
  const T* find(std::string_view key) const;
  template <typename T>
  const T& present(const T* value, std::string_view key) const;

  std::string name_;
  std::map<std::string, GgufValue, std::less<>> values_;
};

// One line of the tensor table; extents are checked against the file and against each other.
struct GgufTensorInfo {
  std::vector<int64_t> dims;  // slowest first: the reverse of the file's order, the order of tessera's Shape
  uint32_t type = 0;          // GGUF's number
  std::span<const std::byte> bytes;
};

class GgufFile {
 public:
  static GgufFile open(const std::filesystem::path& path);
  // `bytes` is the whole file, `keep_alive` what holds it; `name` stands for the file in error messages.
  static GgufFile parse(std::span<const std::byte> bytes, std::string name, std::shared_ptr<const void> keep_alive);

  const GgufMetadata& metadata() const { return metadata_; }
  const std::map<std::string, GgufTensorInfo, std::less<>>& tensors() const { return tensors_; }
  bool contains(std::string_view tensor) const { return tensors_.find(tensor) != tensors_.end(); }

  // The tensor, borrowed from the map and keeping it alive. F32, F16, BF16, Q8_0, Q4_0 and Q4_1; throws
  // Error(unsupported) naming tensor and type for the others and Error(bad_file) when the file has no such tensor.
  Tensor tensor(std::string_view name) const;

 private:
  explicit GgufFile(std::string name) : metadata_(std::move(name)) {}

  GgufMetadata metadata_;
  std::map<std::string, GgufTensorInfo, std::less<>> tensors_;
  std::shared_ptr<const void> keep_alive_;
};

}  // namespace tessera::model
