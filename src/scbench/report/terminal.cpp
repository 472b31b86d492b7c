// The terminal table: at most 100 columns of plain text.
#include <fmt/format.h>

#include <algorithm>

#include "scbench/report/format.h"

namespace tessera::scbench {
namespace {

constexpr size_t kLabelWidth = 28;
constexpr size_t kTaskWidth = 18;  // the longest cell, "100.0 [100-100]", has 15
constexpr size_t kTasksPerBlock = 4;

std::string rule() { return std::string(100, '-') + "\n"; }

// "97.5 [95-99]"
std::string score_text(const Cell* cell) {
  if (cell == nullptr) return "-";
  return fmt::format("{} [{:.0f}-{:.0f}]", format_score(cell->score.estimate), 100 * cell->score.lower,
                     100 * cell->score.upper);
}

std::string score_block(const Summary& summary, const std::string& mode, const std::vector<std::string>& tasks) {
  std::string text = fmt::format("{:<{}}", mode, kLabelWidth);
  for (const std::string& task : tasks) text += fmt::format("{:>{}}", task, kTaskWidth);
  text += "\n";
  for (size_t m = 0; m < summary.header.methods.size(); ++m) {
    text += fmt::format("{:<{}}", shorten(summary.header.method_labels[m], kLabelWidth - 1), kLabelWidth);
    for (const std::string& task : tasks) {
      text += fmt::format("{:>{}}", score_text(summary.find(task, summary.header.methods[m], mode)), kTaskWidth);
    }
    text += "\n";
  }
  return text;
}

// Differences to the first method, time, memory and density over all tasks.
std::string cost_block(const Summary& summary, const std::string& mode) {
  std::string text = fmt::format("{:<{}}{:>20}{:>11}{:>11}{:>10}{:>11}{:>9}\n", mode, kLabelWidth, "difference",
                                 "1st token", "later", "decode", "KV cache", "density");
  for (size_t m = 0; m < summary.header.methods.size(); ++m) {
    const Cell* cell = overall_cell(summary, summary.header.methods[m], mode);
    if (cell == nullptr) continue;
    const std::string difference =
        cell->difference
            ? fmt::format("{} [{}, {}]", format_difference(cell->difference->estimate),
                          format_difference(cell->difference->lower), format_difference(cell->difference->upper))
            : "-";
    text += fmt::format(
        "{:<{}}{:>20}{:>11}{:>11}{:>10}{:>11}{:>9}\n", shorten(summary.header.method_labels[m], kLabelWidth - 1),
        kLabelWidth, difference, format_time(cell->first_ttft_ms), format_time(cell->next_ttft_ms),
        format_time(cell->decode_ms_per_token), format_bytes(cell->kv_bytes), format_share(cell->density));
  }
  return text;
}

}  // namespace

std::string terminal_table(const Summary& summary) {
  const RunHeader& header = summary.header;
  std::string text = fmt::format("{}: score in % [95 % interval over examples], {} of {} turns\n", header.model,
                                 summary.scored_turns, header.expected_turns);
  const std::vector<std::string> tasks = shown_tasks(summary);
  for (const std::string& mode : header.modes) {
    for (size_t begin = 0; begin < tasks.size(); begin += kTasksPerBlock) {
      const size_t end = std::min(tasks.size(), begin + kTasksPerBlock);
      text += rule() +
              score_block(summary, mode,
                          {tasks.begin() + static_cast<int64_t>(begin), tasks.begin() + static_cast<int64_t>(end)});
    }
  }
  text += rule() + fmt::format("medians over all tasks; difference to {} in points; first token: context included\n",
                               shorten(header.method_labels.front(), 20));
  for (const std::string& mode : header.modes) text += rule() + cost_block(summary, mode);
  return text;
}

}  // namespace tessera::scbench
