// Scores and differences as shaded tables.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "scbench/report/format.h"
#include "scbench/report/report.h"
#include "scbench/report/svg.h"
#include "tessera/base/html.h"

namespace tessera::scbench {
namespace {

const char* column_class(const std::string& task) { return task == kAllTasks ? "number all" : "number"; }

// Methods down, tasks across; `cell_text` writes one <td>.
template <typename CellText>
std::string grid(const Summary& summary, const std::string& mode, size_t first_method, const CellText& cell_text) {
  std::string html = "<div class=\"scroll\"><table class=\"grid\"><thead><tr><th scope=\"col\">method</th>";
  for (const std::string& task : shown_tasks(summary)) {
    html += fmt::format("<th scope=\"col\" class=\"{}\">{}</th>", column_class(task), escape_html(task));
  }
  html += "</tr></thead><tbody>\n";
  for (size_t m = first_method; m < summary.header.methods.size(); ++m) {
    html += fmt::format("<tr><th scope=\"row\" title=\"{}\">{}</th>", escape_html(summary.header.methods[m]),
                        escape_html(summary.header.method_labels[m]));
    for (const std::string& task : shown_tasks(summary)) {
      html += cell_text(task, summary.find(task, summary.header.methods[m], mode));
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string empty_cell(const std::string& task) {
  return fmt::format("<td class=\"{} none\">not yet</td>", column_class(task));
}

std::string score_cell(const std::string& task, const Cell* cell) {
  if (cell == nullptr) return empty_cell(task);
  return fmt::format(
      "<td class=\"{}\" style=\"background:rgba(var(--heat),{:.2f})\" title=\"{}\">{}<small>{}</small></td>",
      column_class(task), 0.04 + 0.5 * cell->score.estimate,
      escape_html(fmt::format("{}, {}: {} {} over {} examples, {} turns", task, cell->method,
                              format_score(cell->score.estimate), format_interval(cell->score), cell->examples,
                              cell->scored_turns)),
      format_score(cell->score.estimate), format_interval(cell->score));
}

// Shaded only where the interval leaves zero out: blue for better, orange for worse.
std::string difference_cell(const std::string& task, const Cell* cell) {
  if (cell == nullptr || !cell->difference) return empty_cell(task);
  const Interval& difference = *cell->difference;
  const bool better = difference.lower > 0;
  const bool worse = difference.upper < 0;
  const double strength = 0.12 + 0.5 * std::min(1.0, std::abs(difference.estimate));
  const std::string shade =
      better || worse ? fmt::format(" style=\"background:rgba(var(--{}),{:.2f})\"", better ? "heat" : "worse", strength)
                      : "";
  return fmt::format("<td class=\"{}\"{} title=\"{}\">{}<small>[{}, {}]</small></td>", column_class(task), shade,
                     escape_html(fmt::format("{}, {}", task, cell->method)), format_difference(difference.estimate),
                     format_difference(difference.lower), format_difference(difference.upper));
}

}  // namespace

std::string score_section(const Summary& summary) {
  std::string html =
      "<section><h2>Score</h2><p>Percent of what can be reached; in brackets the 95 % interval (bootstrap over "
      "examples). The "
      "darker, the better.</p>";
  for (const std::string& mode : summary.header.modes) {
    html += fmt::format("<h3>{}</h3>", escape_html(mode)) + grid(summary, mode, 0, score_cell);
  }
  return html + "</section>\n";
}

std::string difference_section(const Summary& summary) {
  if (summary.header.methods.size() < 2) return "";
  std::string html = fmt::format(
      "<section><h2>Difference to {}</h2><p>Points, paired over the same turns, with the 95 % interval. Shaded where "
      "the "
      "interval leaves zero out: blue is better, orange is worse.</p>",
      escape_html(summary.header.method_labels.front()));
  for (const std::string& mode : summary.header.modes) {
    html += fmt::format("<h3>{}</h3>", escape_html(mode)) + grid(summary, mode, 1, difference_cell);
  }
  return html + "</section>\n";
}

}  // namespace tessera::scbench
