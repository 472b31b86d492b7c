#include "tessera/scbench/summary.h"

#include <algorithm>
#include <map>

#include "tessera/base/error.h"

namespace tessera::scbench {
namespace {

using nlohmann::ordered_json;
using Lines = std::vector<const RunLine*>;

// Bootstrap clusters: one number per (task, example).
class Clusters {
 public:
  int64_t of(const RunLine& line) {
    return numbers_.emplace(std::pair(line.task, line.example), static_cast<int64_t>(numbers_.size())).first->second;
  }
  int64_t count() const { return static_cast<int64_t>(numbers_.size()); }

 private:
  std::map<std::pair<std::string, int64_t>, int64_t> numbers_;
};

Interval mean_score(const Lines& lines) {
  Clusters clusters;
  std::vector<double> scores;
  std::vector<int64_t> groups;
  for (const RunLine* line : lines) {
    scores.push_back(line->score);
    groups.push_back(clusters.of(*line));
  }
  return bootstrap_mean(scores, {}, groups);
}

std::vector<Interval> scores_by_turn(const Lines& lines) {
  std::map<int64_t, Lines> turns;
  for (const RunLine* line : lines) turns[line->turn].push_back(line);
  std::vector<Interval> scores;
  for (const auto& [turn, of_turn] : turns) scores.push_back(mean_score(of_turn));
  return scores;
}

// Of `lines` minus `base`, over the turns that both have; none when there are none.
std::optional<Interval> paired_difference(const Lines& lines, const Lines& base) {
  std::map<std::tuple<std::string, int64_t, int64_t>, double> scores;
  for (const RunLine* line : base) scores[{line->task, line->example, line->turn}] = line->score;
  Clusters clusters;
  std::vector<double> ours;
  std::vector<double> theirs;
  std::vector<int64_t> groups;
  for (const RunLine* line : lines) {
    const auto found = scores.find({line->task, line->example, line->turn});
    if (found == scores.end()) continue;
    ours.push_back(line->score);
    theirs.push_back(found->second);
    groups.push_back(clusters.of(*line));
  }
  if (ours.empty()) return std::nullopt;
  return bootstrap_paired_difference(ours, theirs, {}, groups);
}

template <typename Value>
double median_of(const Lines& lines, const Value& value) {
  std::vector<double> values;
  for (const RunLine* line : lines) values.push_back(static_cast<double>(value(*line)));
  return values.empty() ? 0 : median(values);
}

void fill_costs(Cell& cell, const Lines& lines) {
  Lines first;
  Lines next;
  Lines generating;
  for (const RunLine* line : lines) {
    (line->turn == 0 ? first : next).push_back(line);
    if (line->generated_tokens > 0) generating.push_back(line);
  }
  cell.first_ttft_ms = median_of(first, [](const RunLine& line) { return line.ttft_ms; });
  cell.next_ttft_ms = median_of(next, [](const RunLine& line) { return line.ttft_ms; });
  cell.first_prefill_ms = median_of(first, [](const RunLine& line) { return line.prefill_ms; });
  cell.decode_ms_per_token = median_of(
      generating, [](const RunLine& line) { return line.decode_ms / static_cast<double>(line.generated_tokens); });
  cell.kv_bytes = median_of(lines, [](const RunLine& line) { return line.kv_bytes; });
  cell.density = first.empty() ? 1 : median_of(first, [](const RunLine& line) { return line.density; });
}

Cell make_cell(const std::string& task, const Lines& lines, const Lines& base) {
  Cell cell;
  cell.task = task;
  cell.method = lines.front()->method;
  cell.mode = lines.front()->mode;
  Clusters clusters;
  for (const RunLine* line : lines) clusters.of(*line);
  cell.examples = clusters.count();
  cell.scored_turns = static_cast<int64_t>(lines.size());
  cell.score = mean_score(lines);
  cell.turn_scores = scores_by_turn(lines);
  if (!base.empty() && base.front()->method != cell.method) cell.difference = paired_difference(lines, base);
  fill_costs(cell, lines);
  return cell;
}

ordered_json to_json(const Interval& interval) {
  return {{"estimate", interval.estimate}, {"lower", interval.lower}, {"upper", interval.upper}};
}

ordered_json to_json(const Cell& cell) {
  ordered_json turns = ordered_json::array();
  for (const Interval& score : cell.turn_scores) turns.push_back(to_json(score));
  return {{"task", cell.task},
          {"method", cell.method},
          {"mode", cell.mode},
          {"examples", cell.examples},
          {"scored_turns", cell.scored_turns},
          {"score", to_json(cell.score)},
          {"turn_scores", turns},
          {"difference", cell.difference ? to_json(*cell.difference) : ordered_json()},
          {"first_ttft_ms", cell.first_ttft_ms},
          {"next_ttft_ms", cell.next_ttft_ms},
          {"first_prefill_ms", cell.first_prefill_ms},
          {"decode_ms_per_token", cell.decode_ms_per_token},
          {"kv_bytes", cell.kv_bytes},
          {"density", cell.density}};
}

}  // namespace

const Cell* Summary::find(std::string_view task, std::string_view method, std::string_view mode) const {
  const auto found = std::find_if(cells.begin(), cells.end(), [&](const Cell& cell) {
    return cell.task == task && cell.method == method && cell.mode == mode;
  });
  return found == cells.end() ? nullptr : &*found;
}

Summary summarise(const RunHeader& header, const std::vector<RunLine>& lines) {
  TESSERA_ASSERT(!header.methods.empty() && header.methods.size() == header.method_labels.size());
  std::map<std::tuple<std::string, std::string, std::string>, Lines> groups;  // task, mode, method
  for (const RunLine& line : lines) {
    groups[{line.task, line.mode, line.method}].push_back(&line);
    groups[{kAllTasks, line.mode, line.method}].push_back(&line);
  }
  Summary summary{header, static_cast<int64_t>(lines.size()), {}};
  std::vector<std::string> tasks = header.tasks;
  if (tasks.size() > 1) tasks.emplace_back(kAllTasks);
  for (const std::string& task : tasks) {
    for (const std::string& mode : header.modes) {
      const Lines base = groups[{task, mode, header.methods.front()}];
      for (const std::string& method : header.methods) {
        const Lines& of_cell = groups[{task, mode, method}];
        if (!of_cell.empty()) summary.cells.push_back(make_cell(task, of_cell, base));
      }
    }
  }
  return summary;
}

ordered_json to_json(const Summary& summary) {
  const RunHeader& header = summary.header;
  ordered_json cells = ordered_json::array();
  for (const Cell& cell : summary.cells) cells.push_back(to_json(cell));
  return {{"model", header.model},
          {"complete", summary.scored_turns >= header.expected_turns},
          {"scored_turns", summary.scored_turns},
          {"expected_turns", header.expected_turns},
          {"settings", header.settings},
          {"machine", header.machine},
          {"command", header.command},
          {"cells", cells}};
}

}  // namespace tessera::scbench
