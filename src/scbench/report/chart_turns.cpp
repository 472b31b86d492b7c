// Score per turn: one small picture per task and mode, a line with its interval per method.
#include <fmt/format.h>

#include <algorithm>

#include "scbench/report/format.h"
#include "scbench/report/report.h"
#include "scbench/report/svg.h"
#include "tessera/base/html.h"

namespace tessera::scbench {
namespace {

constexpr double kWidth = 340;
constexpr double kHeight = 200;
constexpr Box kPlot{34, 10, kWidth - 46, kHeight - 44};

double y_of(double score) { return kPlot.y + (1 - score) * kPlot.height; }

// Turn `t` of `turns`; methods are set a little apart, so that equal scores do not hide each other.
double x_of(size_t t, size_t turns, double shift) {
  const double step = turns > 1 ? (kPlot.width - 40) / static_cast<double>(turns - 1) : 0;
  return kPlot.x + 20 + static_cast<double>(t) * step + shift;
}

void draw_axes(Svg& svg, size_t turns) {
  for (const int percent : {0, 25, 50, 75, 100}) {
    const double y = y_of(percent / 100.0);
    svg.line({kPlot.x, y}, {kPlot.x + kPlot.width, y}, "grid");
    svg.text({kPlot.x - 6, y + 4}, std::to_string(percent), "soft end");
  }
  for (size_t t = 0; t < turns; ++t) {
    svg.text({x_of(t, turns, 0), kPlot.y + kPlot.height + 16}, std::to_string(t + 1), "soft middle");
  }
  svg.text({kPlot.x + kPlot.width / 2, kHeight - 4}, "turn", "soft middle");
}

void draw_method(Svg& svg, const Cell& cell, const std::string& label, size_t method, double shift) {
  std::vector<Point> line;
  std::vector<Point> band;
  const size_t turns = cell.turn_scores.size();
  for (size_t t = 0; t < turns; ++t) {
    line.push_back({x_of(t, turns, shift), y_of(cell.turn_scores[t].estimate)});
    band.push_back({x_of(t, turns, shift), y_of(cell.turn_scores[t].upper)});
  }
  for (size_t t = turns; t-- > 0;) band.push_back({x_of(t, turns, shift), y_of(cell.turn_scores[t].lower)});
  svg.polygon(band, series_class("fill", method) + " band");
  svg.polyline(line, series_class("line", method));
  for (size_t t = 0; t < turns; ++t) {
    svg.marker(line[t], series_shape(method), series_class("fill", method),
               fmt::format("{}, turn {}: {} {}", label, t + 1, format_score(cell.turn_scores[t].estimate),
                           format_interval(cell.turn_scores[t])));
  }
}

std::string panel(const Summary& summary, const std::string& task, const std::string& mode) {
  Svg svg(kWidth, kHeight, fmt::format("Score per turn of {}, {}", task, mode));
  const auto& methods = summary.header.methods;
  size_t turns = 0;
  for (const std::string& method : methods) {
    if (const Cell* cell = summary.find(task, method, mode)) turns = std::max(turns, cell->turn_scores.size());
  }
  draw_axes(svg, turns);
  for (size_t m = 0; m < methods.size(); ++m) {
    const double shift = 3 * (static_cast<double>(m) - static_cast<double>(methods.size() - 1) / 2);
    const Cell* cell = summary.find(task, methods[m], mode);
    if (cell != nullptr) draw_method(svg, *cell, summary.header.method_labels[m], m, shift);
  }
  return fmt::format("<figure class=\"panel\"><figcaption>{} <span>{}</span></figcaption>{}</figure>\n",
                     escape_html(task), escape_html(mode), svg.str());
}

}  // namespace

std::string turns_section(const Summary& summary) {
  std::string html =
      "<section><h2>Score per turn</h2><p>What happens to later questions on the same context. Bands are 95 % "
      "intervals.</p>" +
      legend(summary);
  for (const std::string& mode : summary.header.modes) {
    html += fmt::format("<h3>{}</h3><div class=\"panels\">", escape_html(mode));
    for (const std::string& task : summary.header.tasks) html += panel(summary, task, mode);
    html += "</div>";
  }
  return html + "</section>\n";
}

}  // namespace tessera::scbench
