#include "tessera/experts/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "experts/report/drawing.h"
#include "tessera/base/html.h"

namespace tessera::experts {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5b6676; --line: #d5dae2; --page: #ffffff; --card: #f3f5f8; --main: #2b6cb0; --other: #b2472f; --warn: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #3a4352; --page: #14181f; --card: #1c222b; --main: #6cb2f0; --other: #f0876c; --warn: #e3b341; } }
* { box-sizing: border-box; } body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 980px; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; padding-top: 1rem; border-top: 1px solid var(--line); }
.note { color: var(--soft); font-size: .92em; } .fact { margin: .2rem 0; } .warning { border-left: 3px solid var(--warn); padding: .2rem .8rem; margin: .4rem 0; background: var(--card); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0; } td, th { padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; } td:first-child, th:first-child { text-align: left; } th { font-weight: 600; color: var(--soft); } tr.drawn td { font-weight: 600; }
svg { max-width: 100%; height: auto; display: block; margin: .6rem 0; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
rect.on { fill: var(--main); } rect.wrong { fill: var(--other); } rect.frame { fill: none; stroke: var(--line); } rect.card { fill: var(--card); } line.grid { stroke: var(--line); } line.even { stroke: var(--soft); stroke-dasharray: 4 4; } line.main { stroke: var(--main); stroke-width: 2; } line.other { stroke: var(--other); stroke-width: 2; } circle.main { fill: var(--main); } circle.other { fill: var(--other); }
.key { color: var(--main); font-weight: 600; } .key2 { color: var(--other); font-weight: 600; }
)";

std::string shortened(const std::string& text, size_t limit) {
  if (text.size() <= limit) return text;
  size_t end = limit - 1;
  while (end > 0 && (text[end] & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "…";
}

bool too_many(const ReportContent& content) {
  return content.design.classes > kMostDrawn || content.design.sets.size() > static_cast<size_t>(kMostDrawn);
}

// Rows are classes, columns are experts; a filled square: the expert knows the class.
std::string design_picture(const ReportContent& content) {
  if (too_many(content)) {
    return fmt::format("<p class=\"note\">The picture is left out above {} classes or experts.</p>\n", kMostDrawn);
  }
  const auto classes = static_cast<size_t>(content.design.classes), experts = content.design.sets.size();
  const bool named = classes <= 60;
  const double left = named ? 110 : 40;
  const double cell = std::clamp(820.0 / static_cast<double>(std::max(experts, classes)), 2.0, 20.0);
  Drawing drawing(left + cell * static_cast<double>(experts) + 10, 26 + cell * static_cast<double>(classes) + 6,
                  "which expert knows which class");
  drawing.rectangle(left, 24, cell * static_cast<double>(experts), cell * static_cast<double>(classes), "card");
  for (size_t j = 0; j < experts; ++j) {
    for (const int item : content.design.sets[j]) {
      drawing.rectangle(left + cell * static_cast<double>(j) + cell * .05, 24 + cell * (item + .05), cell * .9,
                        cell * .9, "on");
    }
  }
  if (named && cell >= 9) {
    for (size_t i = 0; i < classes; ++i) {
      drawing.text(left - 6, 24 + cell * (static_cast<double>(i) + .5) + 4, shortened(content.classes[i], 14), "end");
    }
  }
  drawing.text(left, 14, fmt::format("{} experts", experts), "start");
  return "<div class=\"scroll\">" + drawing.str() + "</div>";
}

std::string score_table(const ReportContent& content) {
  std::string html =
      "<div class=\"scroll\"><table><tr><th>answer</th><th>accuracy</th><th>± standard error</th><th>−log "
      "likelihood</th><th>calibration error</th></tr>\n";
  for (size_t k = 0; k < content.lines.size(); ++k) {
    const Scores& s = content.lines[k].scores;
    const double n = static_cast<double>(std::max<int64_t>(1, s.inputs));
    html +=
        fmt::format("<tr{}><td>{}</td><td>{:.2f} %</td><td>{:.2f}</td><td>{:.4f}</td><td>{:.4f}</td></tr>\n",
                    k == 0 ? " class=\"drawn\"" : "", escape_html(content.lines[k].name), 100 * s.accuracy,
                    100 * std::sqrt(s.accuracy * (1 - s.accuracy) / n), s.negative_log_likelihood, s.calibration_error);
  }
  return html + "</table></div>\n";
}

void add_curve(Drawing& drawing, const Scores& scores, const char* style, double left, double top, double size) {
  double last_x = -1, last_y = -1;
  for (const CalibrationBin& bin : scores.bins) {
    if (bin.count == 0) continue;
    const double x = left + bin.confidence * size, y = top + (1 - bin.accuracy) * size;
    if (last_x >= 0) drawing.line(last_x, last_y, x, y, style);
    const double share = static_cast<double>(bin.count) / static_cast<double>(scores.inputs);
    drawing.circle(
        x, y, 2 + 6 * std::sqrt(share), style,
        fmt::format("{} inputs: said {:.1f} %, right {:.1f} %", bin.count, 100 * bin.confidence, 100 * bin.accuracy));
    last_x = x, last_y = y;
  }
}

std::string reliability(const ReportContent& content) {
  constexpr double kLeft = 46, kTop = 10, kSize = 340;
  Drawing drawing(kLeft + kSize + 20, kTop + kSize + 44, "reliability");
  for (int k = 0; k <= 5; ++k) {
    const double at = kSize * k / 5;
    drawing.line(kLeft, kTop + at, kLeft + kSize, kTop + at, "grid");
    drawing.line(kLeft + at, kTop, kLeft + at, kTop + kSize, "grid");
    drawing.text(kLeft - 6, kTop + kSize - at + 4, fmt::format("{} %", 20 * k), "end");
    drawing.text(kLeft + at, kTop + kSize + 16, fmt::format("{} %", 20 * k), "middle");
  }
  drawing.line(kLeft, kTop + kSize, kLeft + kSize, kTop, "even");
  drawing.text(kLeft + kSize / 2, kTop + kSize + 36, "top probability said", "middle");
  if (content.centralised >= 0) {
    add_curve(drawing, content.lines[static_cast<size_t>(content.centralised)].scores, "other", kLeft, kTop, kSize);
  }
  add_curve(drawing, content.lines[0].scores, "main", kLeft, kTop, kSize);
  std::string note = fmt::format(
      "<p class=\"note\">How often the answer was right against the probability it was given, 15 bins; the area of a "
      "dot "
      "is the share of inputs. On the dashed line every probability would be true. <span class=\"key\">{}</span>",
      escape_html(content.lines[0].name));
  if (content.centralised >= 0) {
    note += fmt::format(", <span class=\"key2\">{}</span>",
                        escape_html(content.lines[static_cast<size_t>(content.centralised)].name));
  }
  return drawing.str() + note + ".</p>\n";
}

std::string confusion(const ReportContent& content) {
  const auto classes = static_cast<size_t>(content.design.classes);
  if (too_many(content)) return "";
  const std::vector<int64_t>& counts = content.lines[0].scores.confusion;
  const bool named = classes <= 60;
  const double left = named ? 110 : 20, top = named ? 84 : 20;
  const double cell = std::clamp(620.0 / static_cast<double>(classes), 2.0, 30.0);
  const double size = cell * static_cast<double>(classes);
  Drawing drawing(left + size + 10, top + size + 10, "confusion");
  drawing.rectangle(left, top, size, size, "card");
  struct Mistake {
    int64_t count;
    size_t truth, label;
  };
  std::vector<Mistake> mistakes;
  for (size_t i = 0; i < classes; ++i) {
    const auto row = counts.begin() + static_cast<std::ptrdiff_t>(i * classes);
    const int64_t total = std::accumulate(row, row + static_cast<std::ptrdiff_t>(classes), int64_t{0});
    for (size_t k = 0; k < classes; ++k) {
      const int64_t count = counts[i * classes + k];
      if (count == 0) continue;
      if (i != k) mistakes.push_back({count, i, k});
      // Square root, so that rare confusions can be seen.
      drawing.rectangle(left + cell * static_cast<double>(k), top + cell * static_cast<double>(i), cell, cell,
                        i == k ? "on" : "wrong",
                        std::min(0.999, std::sqrt(static_cast<double>(count) / static_cast<double>(total))));
    }
    if (named && cell >= 9) {
      const double middle = cell * (static_cast<double>(i) + .5) + 4;
      drawing.text(left - 6, top + middle, shortened(content.classes[i], 14), "end");
      drawing.vertical_text(left + middle, top - 6, shortened(content.classes[i], 12));
    }
  }
  std::string html = "<div class=\"scroll\">" + drawing.str() +
                     "</div><p class=\"note\">Rows: true class; columns: label given. Depth of colour: square root of "
                     "the share of the row.</p>\n";
  std::stable_sort(mistakes.begin(), mistakes.end(),
                   [](const Mistake& a, const Mistake& b) { return a.count > b.count; });
  if (mistakes.empty()) return html;
  html += "<p>Most frequent mistakes:";
  for (size_t k = 0; k < std::min<size_t>(6, mistakes.size()); ++k) {
    html += fmt::format("{} {} taken for {} ({})", k > 0 ? "," : "", escape_html(content.classes[mistakes[k].truth]),
                        escape_html(content.classes[mistakes[k].label]), mistakes[k].count);
  }
  return html + ".</p>\n";
}

std::string histogram(const ReportQuestions& questions, size_t experts) {
  constexpr double kWidth = 720, kHeight = 150, kLeft = 40;
  std::vector<int64_t> counts(experts + 1, 0);
  double sum = 0;
  for (const int32_t asked : questions.asked) ++counts[static_cast<size_t>(asked)], sum += asked;
  const int64_t most = *std::max_element(counts.begin(), counts.end());
  const double bar = kWidth / static_cast<double>(experts + 1);
  Drawing drawing(kLeft + kWidth + 10, kHeight + 44, "experts asked");
  for (size_t k = 0; k <= experts; ++k) {
    const double height = kHeight * static_cast<double>(counts[k]) / static_cast<double>(std::max<int64_t>(1, most));
    drawing.rectangle(kLeft + bar * static_cast<double>(k) + bar * .1, 10 + kHeight - height, bar * .8, height, "on");
  }
  drawing.line(kLeft, 10 + kHeight, kLeft + kWidth, 10 + kHeight, "grid");
  const size_t step = std::max<size_t>(1, (experts + 12) / 12);
  for (size_t k = 0; k <= experts; k += step) {
    drawing.text(kLeft + bar * (static_cast<double>(k) + .5), kHeight + 26, std::to_string(k), "middle");
  }
  drawing.text(kLeft + kWidth, kHeight + 42, "experts asked", "end");
  return fmt::format("<p><b>{}</b>: {:.2f} of {} experts on average, accuracy {:.2f} %</p>\n{}",
                     escape_html(questions.name),
                     sum / static_cast<double>(std::max<size_t>(1, questions.asked.size())), experts,
                     100 * questions.accuracy, drawing.str());
}

std::string expert_table(const ReportContent& content) {
  const auto [low, high] = std::minmax_element(content.in_set_accuracy.begin(), content.in_set_accuracy.end());
  if (low == content.in_set_accuracy.end()) return "";
  const double mean = std::accumulate(content.in_set_accuracy.begin(), content.in_set_accuracy.end(), 0.0) /
                      static_cast<double>(content.in_set_accuracy.size());
  std::string weakest;
  for (const int item : content.design.sets[static_cast<size_t>(low - content.in_set_accuracy.begin())]) {
    if (weakest.size() < 200) weakest += (weakest.empty() ? "" : ", ") + content.classes[static_cast<size_t>(item)];
  }
  return fmt::format(
      "<p>On rows whose class an expert knows it is right {:.2f} % of the time on average ({:.2f} to {:.2f} %). The "
      "weakest knows {}.</p>\n",
      100 * mean, 100 * *low, 100 * *high, escape_html(weakest));
}

}  // namespace

std::string html_report(const ReportContent& content) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\"><title>Experts: {0}</title><style>{1}</style></head><body>\n"
      "<h1>Experts: {0}</h1>\n",
      escape_html(content.title), kStyle);
  for (const std::string& fact : content.facts) html += fmt::format("<p class=\"fact\">{}</p>\n", escape_html(fact));
  for (const std::string& warning : content.warnings) {
    html += fmt::format("<p class=\"warning\">{}</p>\n", escape_html(warning));
  }
  html += "<h2>Accuracy</h2>\n" + score_table(content) + expert_table(content);
  html += "<h2>Are the probabilities true?</h2>\n" + reliability(content);
  html += "<h2>Design</h2>\n" + design_picture(content);
  if (const std::string picture = confusion(content); !picture.empty()) html += "<h2>Confusion</h2>\n" + picture;
  if (!content.questions.empty()) html += "<h2>Experts asked per input</h2>\n";
  for (const ReportQuestions& questions : content.questions) html += histogram(questions, content.design.sets.size());
  return html + "</body></html>\n";
}

}  // namespace tessera::experts
