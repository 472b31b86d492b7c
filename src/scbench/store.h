// OUT: config.json and runs.jsonl. A killed run loses at most the turn in flight; nothing is ever stored twice.
//
//   RunStore store = RunStore::open(out, settings, machine, command, Resume::yes);
//   if (!store.contains(key_of(line))) store.append(line);
#pragma once

#include <compare>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tessera/base/file.h"
#include "tessera/scbench/summary.h"

namespace tessera::scbench {

// What a turn is known by.
struct RunKey {
  std::string task;
  std::string mode;
  std::string method;
  int64_t length = 0;
  int64_t example = 0;
  int64_t turn = 0;
  auto operator<=>(const RunKey&) const = default;
};

RunKey key_of(const RunLine& line);

// One line of runs.jsonl, without newline. Bytes that are not UTF-8 become U+FFFD.
std::string write_run_line(const RunLine& line);
// Throws Error(bad_file) that begins with `place` ("FILE:LINE").
RunLine read_run_line(std::string_view text, const std::string& place);

enum class Resume : uint8_t { no, yes };

struct RunConfig {
  nlohmann::ordered_json settings;  // must equal those of a run that is resumed
  nlohmann::ordered_json machine;
  std::string command;
};

class RunStore {
 public:
  // In memory only.
  RunStore() = default;
  // Throws Error: invalid_argument when `folder` holds a run and `resume` is no, or one with other settings; bad_file
  // for a damaged line other than an unfinished last one, which is cut off; io.
  RunStore(const std::filesystem::path& folder, const RunConfig& config, Resume resume);

  bool contains(const RunKey& key) const { return keys_.contains(key); }
  // The key must be new. Flushed to the disk on return.
  void append(const RunLine& line);
  const std::vector<RunLine>& lines() const { return lines_; }

 private:
  std::unique_ptr<LineLog> log_;
  std::vector<RunLine> lines_;
  std::set<RunKey> keys_;
};

}  // namespace tessera::scbench
