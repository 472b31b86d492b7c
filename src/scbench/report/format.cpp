#include "scbench/report/format.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace tessera::scbench {

std::string format_score(double score) { return fmt::format("{:.1f}", 100 * score); }

std::string format_interval(const Interval& score) {
  return fmt::format("[{:.1f}, {:.1f}]", 100 * score.lower, 100 * score.upper);
}

std::string format_difference(double difference) {
  const double points = std::round(1000 * difference) / 10;
  return fmt::format("{:+.1f}", points == 0 ? 0.0 : points);
}

std::string format_time(double ms) {
  if (ms >= 100000) return fmt::format("{:.0f} s", ms / 1000);
  if (ms >= 10000) return fmt::format("{:.1f} s", ms / 1000);
  if (ms >= 1000) return fmt::format("{:.2f} s", ms / 1000);
  if (ms >= 100) return fmt::format("{:.0f} ms", ms);
  return ms >= 10 ? fmt::format("{:.1f} ms", ms) : fmt::format("{:.2f} ms", ms);
}

std::string format_bytes(double bytes) {
  constexpr std::array<const char*, 4> units = {"B", "KiB", "MiB", "GiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < units.size()) {
    bytes /= 1024;
    ++unit;
  }
  return bytes >= 100 || unit == 0 ? fmt::format("{:.0f} {}", bytes, units[unit])
                                   : fmt::format("{:.1f} {}", bytes, units[unit]);
}

std::string format_share(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string shorten(std::string_view text, size_t width) {
  const auto is_start = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  size_t characters = 0;
  size_t cut = 0;  // byte at which the last allowed character begins
  for (size_t i = 0; i < text.size(); ++i) {
    if (!is_start(text[i])) continue;
    if (characters == width - 1) cut = i;
    if (++characters > width) return fmt::format("{}~", text.substr(0, cut));
  }
  return std::string(text);
}

const Cell* overall_cell(const Summary& summary, const std::string& method, const std::string& mode) {
  const std::vector<std::string>& tasks = summary.header.tasks;
  return summary.find(tasks.size() == 1 ? tasks.front() : kAllTasks, method, mode);
}

std::vector<std::string> shown_tasks(const Summary& summary) {
  std::vector<std::string> tasks = summary.header.tasks;
  if (tasks.size() > 1) tasks.emplace_back(kAllTasks);
  return tasks;
}

}  // namespace tessera::scbench
