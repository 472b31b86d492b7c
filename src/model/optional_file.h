// Files that a model directory may or may not have.
#pragma once

#include <filesystem>
#include <string>

#include "tessera/base/file.h"

namespace tessera::model {

// Unlike std::filesystem::exists, a path that cannot be looked at counts as absent instead of throwing.
inline bool file_exists(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

inline std::string read_file_or_empty(const std::filesystem::path& path) {
  return file_exists(path) ? read_file(path) : std::string();
}

}  // namespace tessera::model
