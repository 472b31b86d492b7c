// A file mapped read-only into memory; the mapping lives as long as the object.
//
//   const MappedFile file(path);
//   std::span<const std::byte> bytes = file.bytes();
//
// Throws Error(not_found) when the file does not exist, Error(io) when it cannot be opened or mapped. An empty file gives
// an empty span.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace tessera {

class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tessera
