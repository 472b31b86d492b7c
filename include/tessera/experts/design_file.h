// Designs on disk: one JSON object.
//
//   {"format": "tessera-design", "version": 1, "classes": 7, "sets": [[0, 1, 2], [0, 3, 4], ...],
//    "class_names": ["cat", "dog", ...],      optional: K distinct texts
//    "certificate": {...}}                    optional: what made the design and what is known about it
//
// Classes of a set may stand in any order in the file; they are sorted on reading. Other fields are ignored. Nothing in
// the certificate is believed: `tessera experts verify` counts the pairs again.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/experts/design.h"

namespace tessera::experts {

struct DesignFile {
  Design design;
  std::vector<std::string> class_names;                   // empty or one per class
  nlohmann::json certificate = nlohmann::json::object();  // empty when the file has none
};

// Throws Error(bad_file) that names the file and the first fault: not an object, another format or version, classes out
// of range, a set that is empty or has an unknown or repeated class, wrong number of names or a name twice. Linear in
// the file's size. `name` stands for the text in messages.
DesignFile read_design(const std::filesystem::path& path);
DesignFile parse_design(std::string_view text, std::string_view name);

// Writes under a temporary name and renames. Throws Error(invalid_argument) for a design that is not well-formed,
// Error(io) when the file cannot be written.
void write_design(const std::filesystem::path& path, const DesignFile& file);
std::string format_design(const DesignFile& file);

}  // namespace tessera::experts
