// Numbers and texts as people read them; shared by the terminal table and the report.
#pragma once

#include <string>
#include <string_view>

#include "tessera/scbench/summary.h"

namespace tessera::scbench {

std::string format_score(double score);              // 0.975 -> "97.5"
std::string format_interval(const Interval& score);  // "[95.0, 99.5]"
std::string format_difference(double difference);    // "+1.5", "-12.0"
std::string format_time(double ms);                  // "0.84 ms", "340 ms", "1.25 s"
std::string format_bytes(double bytes);              // "1.5 MiB"
std::string format_share(double share);              // 0.127 -> "12.7 %"

// At most `width` characters (UTF-8), the end replaced by "~" where something was cut.
std::string shorten(std::string_view text, size_t width);

// The cell over all tasks, or that of the only task. Null when there is none.
const Cell* overall_cell(const Summary& summary, const std::string& method, const std::string& mode);

// Tasks to show as columns: the header's, and kAllTasks where there are several.
std::vector<std::string> shown_tasks(const Summary& summary);

}  // namespace tessera::scbench
