#include "scbench/store.h"

#include <fmt/format.h>

#include "tessera/base/error.h"

namespace tessera::scbench {
namespace {

using nlohmann::ordered_json;

// Settings are compared without regard to the order of their fields.
void check_same_settings(const nlohmann::json& stored, const nlohmann::json& wanted,
                         const std::filesystem::path& folder) {
  for (const auto& [name, value] : wanted.items()) {
    const nlohmann::json found = stored.is_object() && stored.contains(name) ? stored.at(name) : nlohmann::json();
    if (found == value) continue;
    throw Error(ErrorCode::invalid_argument,
                "{}: the run there has {} = {}, but {} was asked for; use the same settings or another folder",
                folder.string(), name, found.dump(), value.dump());
  }
}

// Writes config.json, or checks the one of the run to go on with.
void agree_on_config(const std::filesystem::path& folder, const RunConfig& config, Resume resume) {
  const std::filesystem::path path = folder / "config.json";
  const std::filesystem::path runs = folder / "runs.jsonl";
  const bool used = std::filesystem::exists(runs) && std::filesystem::file_size(runs) > 0;
  if (used && resume == Resume::no) {
    throw Error(ErrorCode::invalid_argument, "{}: holds a run already; resume it or choose another folder",
                folder.string());
  }
  if (used) {
    const nlohmann::json stored = read_json(path);
    if (!stored.is_object() || !stored.contains("settings")) {
      throw Error(ErrorCode::bad_file, "{}: expected an object with 'settings'", path.string());
    }
    check_same_settings(stored.at("settings"), nlohmann::json(config.settings), folder);
    return;
  }
  const ordered_json content = {
      {"settings", config.settings}, {"machine", config.machine}, {"command", config.command}};
  write_file_atomically(path, content.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
}

template <typename T>
void take(const nlohmann::json& object, const char* name, T& value) {
  object.at(name).get_to(value);
}

}  // namespace

RunKey key_of(const RunLine& line) { return {line.task, line.mode, line.method, line.length, line.example, line.turn}; }

std::string write_run_line(const RunLine& line) {
  const ordered_json object = {{"task", line.task},
                               {"mode", line.mode},
                               {"method", line.method},
                               {"model", line.model},
                               {"length", line.length},
                               {"example", line.example},
                               {"turn", line.turn},
                               {"seed", line.seed},
                               {"score", line.score},
                               {"prediction", line.prediction},
                               {"reference", line.reference},
                               {"prompt_tokens", line.prompt_tokens},
                               {"reused_tokens", line.reused_tokens},
                               {"prefill_ms", line.prefill_ms},
                               {"decode_ms", line.decode_ms},
                               {"ttft_ms", line.ttft_ms},
                               {"generated_tokens", line.generated_tokens},
                               {"kv_bytes", line.kv_bytes},
                               {"density", line.density},
                               {"skipped_mass", line.skipped_mass ? ordered_json(*line.skipped_mass) : ordered_json()}};
  return object.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

RunLine read_run_line(std::string_view text, const std::string& place) {
  const nlohmann::json object = parse_json(text, place);
  RunLine line;
  try {
    take(object, "task", line.task);
    take(object, "mode", line.mode);
    take(object, "method", line.method);
    take(object, "model", line.model);
    take(object, "length", line.length);
    take(object, "example", line.example);
    take(object, "turn", line.turn);
    take(object, "seed", line.seed);
    take(object, "score", line.score);
    take(object, "prediction", line.prediction);
    take(object, "reference", line.reference);
    take(object, "prompt_tokens", line.prompt_tokens);
    take(object, "reused_tokens", line.reused_tokens);
    take(object, "prefill_ms", line.prefill_ms);
    take(object, "decode_ms", line.decode_ms);
    take(object, "ttft_ms", line.ttft_ms);
    take(object, "generated_tokens", line.generated_tokens);
    take(object, "kv_bytes", line.kv_bytes);
    take(object, "density", line.density);
    if (const auto mass = object.find("skipped_mass"); mass != object.end() && !mass->is_null()) {
      line.skipped_mass = mass->get<double>();
    }
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::bad_file, "{}: not a scored turn: {}", place, error.what());
  }
  if (line.example < 0 || line.turn < 0 || !(line.score >= 0 && line.score <= 1)) {
    throw Error(ErrorCode::bad_file, "{}: example {}, turn {} or score {} is out of range", place, line.example,
                line.turn, line.score);
  }
  return line;
}

RunStore::RunStore(const std::filesystem::path& folder, const RunConfig& config, Resume resume) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) throw Error(ErrorCode::io, "{}: cannot create the folder: {}", folder.string(), failed.message());
  agree_on_config(folder, config, resume);
  const std::filesystem::path path = folder / "runs.jsonl";
  log_ = std::make_unique<LineLog>(path);  // cuts an unfinished last line
  const std::string content = read_file(path);
  int64_t number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = content.find('\n', begin);
    const std::string place = fmt::format("{}:{}", path.string(), ++number);
    RunLine line = read_run_line(std::string_view(content).substr(begin, end - begin), place);
    if (!keys_.insert(key_of(line)).second) throw Error(ErrorCode::bad_file, "{}: this turn was stored before", place);
    lines_.push_back(std::move(line));
    begin = end + 1;
  }
}

void RunStore::append(const RunLine& line) {
  const bool fresh = keys_.insert(key_of(line)).second;
  TESSERA_ASSERT(fresh);
  if (log_) log_->append(write_run_line(line));
  lines_.push_back(line);
}

}  // namespace tessera::scbench
