// What the scored turns of a run say: scores with intervals, differences between methods, time, memory and density.
//
//   Summary summary = summarise(header, lines);
//   std::string table = terminal_table(summary);
//
// Intervals: 95 % percentile bootstrap over examples (the turns of one example belong together).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tessera/base/statistics.h"

namespace tessera::scbench {

// One scored turn: a line of OUT/runs.jsonl, field for field.
struct RunLine {
  std::string task;
  std::string mode;    // "multi-turn" or "multi-request"
  std::string method;  // canonical
  std::string model;
  int64_t length = 0;  // tokens allowed for the example
  int64_t example = 0;
  int64_t turn = 0;  // from 0
  uint64_t seed = 0;
  double score = 0;  // in [0, 1]
  std::string prediction;
  std::string reference;
  int64_t prompt_tokens = 0;  // in front of the answer: reused and fed
  int64_t reused_tokens = 0;  // of these, in the cache when the question came
  double prefill_ms = 0;      // wall; turn 0 includes the context, in both modes
  double decode_ms = 0;       // wall, of all generated tokens
  double ttft_ms = 0;         // wall, question given -> first token known; turn 0 includes the context
  int64_t generated_tokens = 0;
  int64_t kv_bytes = 0;  // held before the answer is decoded
  double density = 1;    // executed share of the attention of this turn's prefill; turn 0: of the context's
  std::optional<double> skipped_mass;  // share of that attention's mass which was left out, estimated on 8 rows a chunk
};

// What belongs to the run as a whole and is not in the lines.
struct RunHeader {
  std::string model;
  std::vector<std::string> tasks;          // in the order to show
  std::vector<std::string> methods;        // canonical; the first is the one others are compared with
  std::vector<std::string> method_labels;  // as the user wrote them
  std::vector<std::string> modes;
  int64_t expected_turns = 0;  // of the complete run
  uint64_t seed = 0;           // of the bootstrap
  nlohmann::ordered_json settings;
  nlohmann::ordered_json machine;
  std::string command;  // for people; may be empty
};

// One task under one method and mode. Times in ms, medians.
struct Cell {
  std::string task;  // or kAllTasks
  std::string method;
  std::string mode;
  int64_t examples = 0;
  int64_t scored_turns = 0;
  Interval score;
  std::vector<Interval> turn_scores;   // per turn
  std::optional<Interval> difference;  // to the first method, over the turns both have; none for the first
  double first_ttft_ms = 0;            // turn 0: the context is part of it
  double next_ttft_ms = 0;             // later turns; 0 when there are none
  double first_prefill_ms = 0;         // turn 0
  double decode_ms_per_token = 0;
  double kv_bytes = 0;
  double density = 1;  // turn 0
};

inline constexpr const char* kAllTasks = "all tasks";

struct Summary {
  RunHeader header;
  int64_t scored_turns = 0;
  std::vector<Cell> cells;  // tasks (kAllTasks last, when there are several) x methods x modes; those with a line

  // Null when the cell has no line.
  const Cell* find(std::string_view task, std::string_view method, std::string_view mode) const;
};

Summary summarise(const RunHeader& header, const std::vector<RunLine>& lines);

// The content of OUT/summary.json.
nlohmann::ordered_json to_json(const Summary& summary);

// For people, at most 100 columns: scores per mode, then time, memory and density.
std::string terminal_table(const Summary& summary);

}  // namespace tessera::scbench
