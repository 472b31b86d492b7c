// Models that have a name: the bundled one and those that a package brings.
//
//   std::filesystem::path path = resolve_model("nano");          // or any path of a directory or .gguf file
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace tessera::cli {

struct NamedModel {
  std::string_view name;
  std::string_view file;         // inside models/NAME; empty: the directory itself is the model
  std::string_view description;
  std::string_view source;       // where it comes from, for people
  bool bundled = false;          // in this repository, otherwise fetched
};

std::span<const NamedModel> named_models();

// Where a named model is looked for: models/ beside the program's source tree, then TESSERA_MODELS or the user's cache
// folder. Empty when it is not there.
std::filesystem::path find_named_model(const NamedModel& model);

// A path that exists, or a name. Throws Error(not_found) with what to do.
std::filesystem::path resolve_model(const std::string& text);

// Folder that fetched models go to.
std::filesystem::path fetched_models_folder();

// Root of the source tree this program was built from, or the folder of an installation; empty when neither is found.
std::filesystem::path resource_root();

}  // namespace tessera::cli
