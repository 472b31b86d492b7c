// The page as a whole: heading, legend, samples of answers, settings.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "scbench/report/format.h"
#include "scbench/report/report.h"
#include "scbench/report/svg.h"
#include "tessera/base/file.h"
#include "tessera/base/html.h"

namespace tessera::scbench {
namespace {

constexpr size_t kSeries = 8;  // colours in the style sheet
constexpr size_t kAnswerCharacters = 300;
constexpr size_t kAnswers = 60;

std::string plain_text(const nlohmann::ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::string text;
  for (const auto& item : value) text += (text.empty() ? "" : ", ") + plain_text(item);
  return text;
}

std::string key_table(const char* title, const nlohmann::ordered_json& object) {
  std::string html = fmt::format("<div><h3>{}</h3><table>", title);
  for (const auto& [name, value] : object.items()) {
    html +=
        fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape_html(name), escape_html(plain_text(value)));
  }
  return html + "</table></div>";
}

std::string counted(size_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string heading(const Summary& summary) {
  const RunHeader& header = summary.header;
  std::string html =
      fmt::format("<header><h1>{}</h1><p>What each method costs on shared contexts: {}, {}, {} scored.</p>",
                  escape_html(header.model), counted(header.tasks.size(), "task"),
                  counted(header.methods.size(), "method"), counted(static_cast<size_t>(summary.scored_turns), "turn"));
  if (summary.scored_turns < header.expected_turns) {
    html += fmt::format("<p class=\"notice\">This run is not complete: {} of {} turns. Resume it to finish.</p>",
                        summary.scored_turns, header.expected_turns);
  }
  return html + "</header>\n";
}

}  // namespace

std::string series_class(const char* kind, size_t method) { return fmt::format("{}-{}", kind, method % kSeries); }

size_t series_shape(size_t method) { return method + method / kSeries; }

std::string legend(const Summary& summary) {
  std::string html = "<ul class=\"legend\">";
  for (size_t m = 0; m < summary.header.methods.size(); ++m) {
    const std::string& label = summary.header.method_labels[m];
    Svg svg(26, 14, label);
    svg.polyline({{0, 7}, {26, 7}}, series_class("line", m));
    svg.marker({13, 7}, series_shape(m), series_class("fill", m));
    html += fmt::format("<li title=\"{}\">{}{}</li>", escape_html(summary.header.methods[m]), svg.str(),
                        escape_html(label));
  }
  return html + "</ul>\n";
}

std::string answers_section(const Summary& summary, const std::vector<RunLine>& lines) {
  std::set<std::tuple<std::string, std::string, std::string>> shown;
  std::string rows;
  for (const RunLine& line : lines) {
    if (line.score == 1 || shown.size() == kAnswers || !shown.insert({line.task, line.mode, line.method}).second)
      continue;
    const auto& methods = summary.header.methods;
    const auto at = std::find(methods.begin(), methods.end(), line.method) - methods.begin();
    const std::string label =
        static_cast<size_t>(at) < methods.size() ? summary.header.method_labels[static_cast<size_t>(at)] : line.method;
    rows += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{}, {}</td><td class=\"text\">{}</td><td "
        "class=\"text\">{}</td><td class=\"number\">{}</td></tr>\n",
        escape_html(line.task), escape_html(line.mode), escape_html(label), line.example, line.turn + 1,
        escape_html(shorten(line.reference, kAnswerCharacters)),
        escape_html(shorten(line.prediction, kAnswerCharacters)), format_score(line.score));
  }
  if (rows.empty()) return "";
  return fmt::format(
      "<section><h2>Wrong answers</h2><details><summary>The first of each task, mode and method</summary><div "
      "class=\"scroll\"><table class=\"answers\"><thead><tr><th>task</th><th>mode</th><th>method</th><th>example, "
      "turn</th><th>expected</th><th>answered</th><th>score</th></tr></thead><tbody>{}</tbody></table></div></"
      "details></"
      "section>\n",
      rows);
}

std::string settings_section(const Summary& summary) {
  const RunHeader& header = summary.header;
  std::string html = "<section><h2>How this was measured</h2>";
  if (!header.command.empty()) html += fmt::format("<pre>{}</pre>", escape_html(header.command));
  html += "<h3>Methods in full</h3><ol>";
  for (const std::string& method : header.methods) html += fmt::format("<li><code>{}</code></li>", escape_html(method));
  nlohmann::ordered_json settings = header.settings;
  settings.erase("methods");
  return html + "</ol><div class=\"settings\">" + key_table("Settings", settings) +
         key_table("Machine", header.machine) + "</div></section>\n";
}

std::string render_page(const Summary& summary, const std::vector<RunLine>& lines) {
  return fmt::format(
             "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" "
             "content=\"width=device-width, initial-scale=1\"/><title>tessera bench: "
             "{}</title><style>{}</style></head><body>\n",
             escape_html(summary.header.model), kStyle) +
         heading(summary) + score_section(summary) + difference_section(summary) + turns_section(summary) +
         cost_section(summary) + answers_section(summary, lines) + settings_section(summary) + "</body></html>\n";
}

void write_report(const Summary& summary, const std::vector<RunLine>& lines, const std::filesystem::path& folder) {
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  write_file_atomically(folder / "summary.json", to_json(summary).dump(2, ' ', false, replace) + "\n");
  write_file_atomically(folder / "report.html", render_page(summary, lines));
}

}  // namespace tessera::scbench
