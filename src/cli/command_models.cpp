#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/model_registry.h"
#include "tessera/base/error.h"

namespace tessera::cli {
namespace {

void list_models(bool as_json) {
  nlohmann::json rows = nlohmann::json::array();
  for (const NamedModel& model : named_models()) {
    const std::filesystem::path place = find_named_model(model);
    rows.push_back({{"name", model.name},
                    {"description", model.description},
                    {"source", model.source},
                    {"path", place.empty() ? nlohmann::json(nullptr) : nlohmann::json(place.string())}});
    if (as_json) continue;
    fmt::print("{:<14} {}\n{:<14} from: {}\n{:<14} {}\n", model.name, model.description, "", model.source, "",
               place.empty() ? fmt::format("not here; run 'tessera models fetch {}'", model.name) : place.string());
  }
  if (as_json) fmt::print("{}\n", rows.dump(2));
}

// Runs scripts/fetch-models, which downloads, checks the digest and puts the file in place in one rename.
void fetch_model(const std::string& name) {
  const auto models = named_models();
  const auto named = std::find_if(models.begin(), models.end(), [&](const NamedModel& model) { return model.name == name; });
  if (named == models.end()) {
    throw Error(ErrorCode::not_found, "models fetch: no model is named '{}'; see 'tessera models list'", name);
  }
  if (const std::filesystem::path place = find_named_model(*named); !place.empty()) {
    fmt::print("{} is already at {}\n", name, place.string());
    return;
  }
  const std::filesystem::path script = resource_root() / "scripts" / "fetch-models";
  if (!std::filesystem::exists(script)) {
    throw Error(ErrorCode::not_found, "models fetch: {} is missing; run the program from its source tree", script.string());
  }
  const pid_t child = fork();
  if (child < 0) throw Error(ErrorCode::internal, "models fetch: cannot start a process: {}", std::strerror(errno));
  if (child == 0) {
    execl(script.c_str(), script.c_str(), name.c_str(), fetched_models_folder().c_str(), static_cast<char*>(nullptr));
    std::perror("tessera: models fetch");
    _exit(127);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw Error(ErrorCode::io, "models fetch: could not get {} from {}; see the message above", name, named->source);
  }
}

}  // namespace

void add_models(CLI::App& app) {
  CLI::App* models = app.add_subcommand("models", "models that have a name: list them, fetch one");
  models->require_subcommand(1);
  CLI::App* list = models->add_subcommand("list", "names, what they are and where they lie");
  const auto as_json = std::make_shared<bool>(false);
  list->add_flag("--json", *as_json, "print JSON");
  list->callback([as_json] { list_models(*as_json); });
  CLI::App* fetch = models->add_subcommand("fetch", "download a model into the cache folder (TESSERA_MODELS)");
  const auto name = std::make_shared<std::string>();
  fetch->add_option("NAME", *name, "name of the model")->required();
  fetch->callback([name] { fetch_model(*name); });
}

}  // namespace tessera::cli
