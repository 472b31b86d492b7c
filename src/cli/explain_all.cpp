#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/explain_command.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/progress.h"

namespace tessera::cli {
namespace {

using namespace tessera::explain;

constexpr int64_t kChunk = 256;  // rows explained between two writes

// Everything the lines depend on; a resumed run must have the same.
nlohmann::json settings_of(const ExplainCommand& command, const Prepared& prepared,
                           const std::vector<std::unique_ptr<Explainer>>& explainers) {
  const Options& o = explainers.front()->options();
  nlohmann::json settings = {{"data", std::filesystem::path(command.data).filename().string()},
                             {"data_bytes", std::filesystem::file_size(command.data)},
                             {"rows", prepared.rows},
                             {"missing", command.missing},
                             {"classification", o.classification},
                             {"neighbours", o.neighbours},
                             {"degree", o.degree},
                             {"weights", command.weights},
                             {"importance", o.importance == ImportanceKind::gradient ? "gradient" : "difference"},
                             {"interval", to_string(o.interval)},
                             {"replicates", o.replicates},
                             {"ratio", o.ratio},
                             {"level", o.level},
                             {"clip", o.clip},
                             {"seed", o.seed}};
  for (size_t k = 0; k < explainers.size(); ++k)
    settings["outputs"].push_back(
        {{"name", prepared.outputs[k].name}, {"estimator", to_string(explainers[k]->estimator())}});
  for (const Feature& f : prepared.features) {
    nlohmann::json feature = {{"name", f.name}, {"type", to_string(f.kind)}};
    if (f.delta) feature["delta"] = *f.delta;
    if (f.baseline) feature["baseline"] = f.levels[static_cast<size_t>(*f.baseline)];
    settings["features"].push_back(feature);
  }
  return settings;
}

void check_settings(const std::string& path, const nlohmann::json& settings) {
  const nlohmann::json stored = read_json(path);
  for (const auto& [key, value] : settings.items()) {
    if (!stored.is_object() || !stored.contains(key) || stored[key] != value) {
      throw Error(ErrorCode::invalid_argument,
                  "--resume: {} was begun with another {}; use the same settings or another --out", path, key);
    }
  }
}

// The lines that are there, counted into the summaries. They must be those that this run would have written first.
int64_t read_lines(const std::string& path, const Prepared& prepared, std::vector<Summary>& summaries) {
  std::ifstream file(path);
  int64_t count = 0;
  const auto outputs = static_cast<int64_t>(summaries.size());
  for (std::string text; std::getline(file, text); ++count) {
    const nlohmann::json line = parse_json(text, fmt::format("{}, line {}", path, count + 1));
    const int64_t row = count / outputs;
    if (row >= prepared.rows || !line.is_object() || line.value("row", int64_t{-1}) != prepared.original(row) ||
        line.value("output_column", "") != prepared.outputs[static_cast<size_t>(count % outputs)].name) {
      throw Error(ErrorCode::bad_file, "{}: line {} is not of this run; expected row {}", path, count + 1,
                  row < prepared.rows ? prepared.original(row) : prepared.rows);
    }
    summaries[static_cast<size_t>(count % outputs)].add_json(line);
  }
  return count;
}

}  // namespace

std::string dumped(const nlohmann::json& value, int indent) {
  return value.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

nlohmann::json answer_json(const Explanation& answer, const Explainer& explainer, const std::string& output) {
  nlohmann::json item = to_json(answer, explainer.features());
  item["output_column"] = output;
  return item;
}

std::vector<Summary> explain_all(const ExplainCommand& command, const Prepared& prepared,
                                 const std::vector<std::unique_ptr<Explainer>>& explainers) {
  const std::string settings_path = command.out + ".settings.json";
  const nlohmann::json settings = settings_of(command, prepared, explainers);
  std::vector<Summary> summaries;
  for (const Output& output : prepared.outputs) summaries.emplace_back(prepared.features, output.name);
  const bool there = std::filesystem::exists(command.out);
  if (!command.resume && there) {
    throw Error(ErrorCode::invalid_argument, "--out: {} exists; add --resume to continue it or choose another name",
                command.out);
  }
  if (there && std::filesystem::exists(settings_path)) {
    check_settings(settings_path, settings);
  } else if (there && std::filesystem::file_size(command.out) > 0) {
    throw Error(ErrorCode::not_found, "--resume: {} is missing, so it is not known what {} holds", settings_path,
                command.out);
  } else {
    write_file_atomically(settings_path, dumped(settings, 1) + "\n");
  }
  LineLog lines(command.out);
  int64_t written = there ? read_lines(command.out, prepared, summaries) : 0;
  const auto outputs = static_cast<int64_t>(explainers.size());
  Progress progress("explain", (prepared.rows + kChunk - 1) / kChunk, written / outputs / kChunk);
  for (int64_t begin = written / outputs; begin < prepared.rows;) {
    throw_if_interrupted();
    const int64_t end = std::min(prepared.rows, (begin / kChunk + 1) * kChunk);
    std::vector<std::vector<Explanation>> answers;
    for (const auto& explainer : explainers) answers.push_back(explainer->explain_rows(begin, end));
    std::string chunk;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t k = 0; k < outputs; ++k) {
        if (row * outputs + k < written) continue;  // a killed run had written a part of this row's lines
        Explanation& answer = answers[static_cast<size_t>(k)][static_cast<size_t>(row - begin)];
        answer.row = prepared.original(row);
        summaries[static_cast<size_t>(k)].add(answer);
        if (!chunk.empty()) chunk += '\n';
        chunk += dumped(
            answer_json(answer, *explainers[static_cast<size_t>(k)], prepared.outputs[static_cast<size_t>(k)].name));
      }
    }
    lines.append(chunk);
    begin = end;
    progress.advance(fmt::format("row {}", end));
  }
  return summaries;
}

}  // namespace tessera::cli
