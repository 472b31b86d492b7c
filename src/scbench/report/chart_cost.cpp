// Time, memory and density: one picture per figure, a bar per method and mode.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "scbench/report/format.h"
#include "scbench/report/report.h"
#include "scbench/report/svg.h"
#include "tessera/base/html.h"

namespace tessera::scbench {
namespace {

constexpr double kWidth = 340;
constexpr double kBarRoom = kWidth - 76;  // the rest holds the value
constexpr double kBarHeight = 12;
constexpr size_t kLabelCharacters = 52;

struct Figure {
  const char* title;
  const char* detail;
  double (*value)(const Cell&);
  std::string (*format)(double);
  double full = 0;  // value of a full bar; 0: the largest there is
};

const std::array<Figure, 6> kFigures = {{
    {"First token, turn 1", "context and question", [](const Cell& cell) { return cell.first_ttft_ms; }, format_time},
    {"First token, later turns", "question only", [](const Cell& cell) { return cell.next_ttft_ms; }, format_time},
    {"Prefill, turn 1", "context and question", [](const Cell& cell) { return cell.first_prefill_ms; }, format_time},
    {"Decoding", "per generated token", [](const Cell& cell) { return cell.decode_ms_per_token; }, format_time},
    {"KV cache", "held before the answer", [](const Cell& cell) { return cell.kv_bytes; }, format_bytes},
    {"Density", "of the attention, turn 1", [](const Cell& cell) { return cell.density; }, format_share, 1},
}};

double largest_value(const Summary& summary, const Figure& figure) {
  double largest = figure.full;
  for (const std::string& method : summary.header.methods) {
    for (const std::string& mode : summary.header.modes) {
      const Cell* cell = overall_cell(summary, method, mode);
      if (cell != nullptr) largest = std::max(largest, figure.value(*cell));
    }
  }
  return largest > 0 ? largest : 1;
}

std::string panel(const Summary& summary, const Figure& figure) {
  const RunHeader& header = summary.header;
  const double rows = static_cast<double>(header.modes.size());
  const double block = 20 + rows * (kBarHeight + 3) + 8;
  Svg svg(kWidth, block * static_cast<double>(header.methods.size()), figure.title);
  const double largest = largest_value(summary, figure);
  for (size_t m = 0; m < header.methods.size(); ++m) {
    double y = block * static_cast<double>(m) + 13;
    svg.text({0, y}, shorten(header.method_labels[m], kLabelCharacters), "", header.methods[m]);
    y += 6;
    for (size_t i = 0; i < header.modes.size(); ++i, y += kBarHeight + 3) {
      const Cell* cell = overall_cell(summary, header.methods[m], header.modes[i]);
      if (cell == nullptr) continue;
      const std::string value = figure.value(*cell) > 0 ? figure.format(figure.value(*cell)) : "-";
      const std::string tooltip = fmt::format("{}, {}: {}", header.method_labels[m], header.modes[i], value);
      const double length = kBarRoom * figure.value(*cell) / largest;
      svg.rectangle({0, y, kBarRoom, kBarHeight}, "track", tooltip);
      svg.rectangle({0, y, std::max(1.0, length), kBarHeight}, series_class("fill", m) + (i == 0 ? "" : " faint"),
                    tooltip);
      svg.text({kBarRoom + 6, y + kBarHeight - 2}, value, "soft");
    }
  }
  return fmt::format("<figure class=\"panel\"><figcaption>{} <span>{}</span></figcaption>{}</figure>\n",
                     escape_html(figure.title), escape_html(figure.detail), svg.str());
}

}  // namespace

std::string cost_section(const Summary& summary) {
  const auto& modes = summary.header.modes;
  const std::string key = modes.size() > 1 ? fmt::format(" Full colour: {}; pale: {}.", modes[0], modes[1]) : "";
  std::string html = fmt::format(
      "<section><h2>Time, memory and density</h2><p>Medians over all tasks, wall time.{}</p><div class=\"panels\">",
      escape_html(key));
  for (const Figure& figure : kFigures) html += panel(summary, figure);
  return html + "</div></section>\n";
}

}  // namespace tessera::scbench
