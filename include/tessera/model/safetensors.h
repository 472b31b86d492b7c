// Reads safetensors files (huggingface/safetensors), single and sharded.
//
//   const SafetensorsCheckpoint checkpoint = SafetensorsCheckpoint::open("models/nano");   // directory
//   const Tensor norm = checkpoint.tensor("model.norm.weight");                            // borrowed from the map
//
// Layout of one file:
//   bytes      field
//   u64        header length n, little-endian, at most 100,000,000
//   n          header: a JSON object that begins with '{', may end in spaces
//   the rest   buffer
// Header entry: "name": {"dtype": "F32", "shape": [3, 64], "data_offsets": [begin, end]}; the offsets count bytes of
// the buffer. "__metadata__" maps strings to strings. Values are row-major and little-endian. A valid file has no key
// twice, the tensors' extents cover the whole buffer without hole and overlap, and every extent is as long as shape and
// dtype say. Rank 0 and empty tensors are legal. Anything else is Error(bad_file).
//
// Several files: model.safetensors.index.json, whose "weight_map" maps each tensor's name to a file beside it.
//
// Reading costs O(header); no tensor byte is touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/tensor/tensor.h"

namespace tessera::model {

struct SafetensorsInfo {
  std::string dtype;          // as in the file, for example "BF16"
  std::vector<int64_t> dims;  // slowest first
  std::span<const std::byte> bytes;
};

class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path);
  // `bytes` is the whole file, `keep_alive` what holds it; `name` stands for the file in error messages.
  static SafetensorsFile parse(std::span<const std::byte> bytes, std::string name,
                               std::shared_ptr<const void> keep_alive);

  const std::string& name() const { return name_; }
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  const std::map<std::string, SafetensorsInfo, std::less<>>& tensors() const { return tensors_; }
  bool contains(std::string_view tensor) const { return tensors_.find(tensor) != tensors_.end(); }

  // The tensor, borrowed from the map and keeping it alive; any alignment. F32, F16 and BF16 of rank 4 at most; throws
  // Error(unsupported) naming tensor and type for the others and Error(bad_file) when the file has no such tensor.
  Tensor tensor(std::string_view name) const;

 private:
  explicit SafetensorsFile(std::string name) : name_(std::move(name)) {}

  std::string name_;
  std::map<std::string, std::string, std::less<>> metadata_;
  std::map<std::string, SafetensorsInfo, std::less<>> tensors_;
  std::shared_ptr<const void> keep_alive_;
};

// All tensors of a Hugging Face model directory: model.safetensors, or the shards that the index names.
class SafetensorsCheckpoint {
 public:
  // Throws Error(not_found) when the directory has neither.
  static SafetensorsCheckpoint open(const std::filesystem::path& directory);

  std::vector<std::string> names() const;
  bool contains(std::string_view tensor) const { return shard_of_.find(tensor) != shard_of_.end(); }
  Tensor tensor(std::string_view name) const;

 private:
  std::string name_;
  std::vector<SafetensorsFile> shards_;
  std::map<std::string, size_t, std::less<>> shard_of_;  // tensor name to index in shards_
};

}  // namespace tessera::model
