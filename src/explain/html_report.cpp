#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "explain/svg.h"
#include "tessera/explain/report.h"

namespace tessera::explain {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink: #1d2530; --soft: #667085; --line: #d5dae2; --page: #ffffff; --card: #f7f8fa; --up: #b2472f; --down: #2b6cb0; --unsure: #98a2b3; --warn: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #3a4352; --page: #14181f; --card: #1c222b; --up: #f0876c; --down: #6cb2f0; --unsure: #6b7686; --warn: #e3b341; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 980px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin-top: 1.6rem; }
.facts { color: var(--soft); } .note { color: var(--soft); font-size: .9em; }
.warning { border-left: 3px solid var(--warn); padding: .1rem .8rem; margin: .4rem 0; background: var(--card); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0; } td, th { padding: .2rem .8rem; border-bottom: 1px solid var(--line); text-align: right; } td:first-child, th:first-child { text-align: left; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg text.soft { fill: var(--soft); } svg text.end { text-anchor: end; } svg text.mid { text-anchor: middle; fill: var(--soft); }
line.grid { stroke: var(--line); } line.zero { stroke: var(--soft); } line.up { stroke: var(--up); stroke-width: 4; } line.down { stroke: var(--down); stroke-width: 4; } line.unsure { stroke: var(--unsure); stroke-width: 4; }
line.query { stroke: var(--soft); stroke-dasharray: 3 3; }
circle.up { fill: var(--up); } circle.down { fill: var(--down); } circle.unsure { fill: var(--unsure); } circle.row { fill: var(--soft); opacity: .45; } circle.here { fill: var(--up); } path.fit { fill: none; stroke: var(--down); stroke-width: 2; }
.slices { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: .6rem; }
)";

const char* direction(double lower, double upper) { return lower > 0 ? "up" : upper < 0 ? "down" : "unsure"; }

std::vector<size_t> by_size(const Explanation& explanation) {
  std::vector<size_t> order(explanation.features.size());
  for (size_t j = 0; j < order.size(); ++j) order[j] = j;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::abs(explanation.features[a].importance) > std::abs(explanation.features[b].importance);
  });
  return order;
}

std::string shown_value(const Feature& feature, double value) {
  return feature.kind == ColumnKind::categorical ? feature.levels[static_cast<size_t>(value)] : short_number(value);
}

std::string label_of(const Explainer& explainer, const Explanation& explanation, size_t j) {
  const Feature& feature = explainer.features()[j];
  const FeatureImportance& f = explanation.features[j];
  const std::string own = fmt::format("{} = {}", feature.name, shown_value(feature, f.value));
  return feature.kind == ColumnKind::categorical ? own + " (not " + shown_value(feature, f.baseline) + ")" : own;
}

std::string shortened(const std::string& text, size_t limit) {
  if (text.size() <= limit) return text;
  size_t cut = limit - 1;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;  // never inside a UTF-8 sequence
  return text.substr(0, cut) + "…";
}

std::string interval_plot(const Explainer& explainer, const Explanation& explanation) {
  const std::vector<size_t> order = by_size(explanation);
  double low = 0, high = 0;
  for (const FeatureImportance& f : explanation.features) {
    low = std::min({low, f.lower, f.importance});
    high = std::max({high, f.upper, f.importance});
  }
  const double margin = 0.04 * std::max(high - low, 1e-12);
  const int bottom = 24 + 26 * static_cast<int>(order.size());
  Svg svg(940, bottom + 34);
  const Axis x{low - margin, high + margin, 300, 920};
  for (const double tick : ticks(x.low, x.high, 7)) {
    svg.line(x.at(tick), 10, x.at(tick), bottom, tick == 0 ? "zero" : "grid");
    svg.text(x.at(tick), bottom + 18, short_number(tick), "mid");
  }
  double y = 24;
  for (const size_t j : order) {
    const FeatureImportance& f = explanation.features[j];
    const char* kind = direction(f.lower, f.upper);
    svg.text(288, y + 4, shortened(label_of(explainer, explanation, j), 40), "end");
    svg.line(x.at(f.lower), y, x.at(f.upper), y, kind);
    svg.circle(x.at(f.importance), y, 5, kind);
    y += 26;
  }
  return svg.str();
}

std::string slice_plot(const Explainer& explainer, const Explanation& explanation, size_t j) {
  const Feature& feature = explainer.features()[j];
  const auto column = static_cast<int64_t>(j);
  std::vector<double> query;
  for (const FeatureImportance& f : explanation.features) query.push_back(f.value);
  double left = query[j], right = query[j];
  double low = std::min(explanation.prediction, 0.0), high = explanation.prediction;
  low = high = explanation.prediction;
  for (const int64_t i : explanation.neighbours) {
    left = std::min(left, explainer.inputs().at(i, column));
    right = std::max(right, explainer.inputs().at(i, column));
    low = std::min(low, explainer.outputs()[static_cast<size_t>(i)]);
    high = std::max(high, explainer.outputs()[static_cast<size_t>(i)]);
  }
  if (!(left < right)) return "";
  std::vector<double> at;
  for (int k = 0; k <= 60; ++k) at.push_back(left + (right - left) * k / 60);
  const std::vector<SlicePoint> curve = explainer.slice(query, column, at);
  if (!(low < high)) high = low + 1;
  const double room = 0.15 * (high - low);
  const Axis x{left, right, 44, 300}, y{low - room, high + room, 150, 12};
  Svg svg(310, 190);
  for (const double tick : ticks(y.low, y.high, 4)) {
    svg.line(x.from, y.at(tick), x.to, y.at(tick), "grid");
    svg.text(40, y.at(tick) + 4, short_number(tick), "soft end");
  }
  for (const double tick : ticks(left, right, 5)) svg.text(x.at(tick), 166, short_number(tick), "mid");
  for (const int64_t i : explanation.neighbours) {
    svg.circle(x.at(explainer.inputs().at(i, column)), y.at(explainer.outputs()[static_cast<size_t>(i)]), 2, "row");
  }
  svg.line(x.at(query[j]), 12, x.at(query[j]), 150, "query");
  std::vector<std::pair<double, double>> points;
  for (const SlicePoint& point : curve) points.emplace_back(x.at(point.x), y.at(std::clamp(point.fit, y.low, y.high)));
  svg.path(points, "fit");
  svg.circle(x.at(query[j]), y.at(std::clamp(explanation.prediction, y.low, y.high)), 4, "here");
  svg.text(172, 184, shortened(feature.name, 40), "mid");
  return svg.str();
}

std::string importance_table(const Explainer& explainer, const Explanation& explanation) {
  std::string html =
      "<table><tr><th>feature</th><th>value</th><th>compared with</th><th>importance</th><th>interval</th></tr>\n";
  for (const size_t j : by_size(explanation)) {
    const Feature& feature = explainer.features()[j];
    const FeatureImportance& f = explanation.features[j];
    const std::string against = feature.kind == ColumnKind::categorical ? shown_value(feature, f.baseline)
                                : explainer.options().importance == ImportanceKind::gradient ? "slope"
                                                                                             : "step";
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} to {}</td></tr>\n",
                        escaped(feature.name), escaped(shown_value(feature, f.value)), escaped(against),
                        short_number(f.importance), short_number(f.lower), short_number(f.upper));
  }
  return html + "</table>\n";
}

}  // namespace

std::string html_section(const Explainer& explainer, const Explanation& explanation, std::string_view title) {
  const Diagnostics& d = explanation.diagnostics;
  std::string html = fmt::format("<h2>{}{}</h2>\n", escaped(title),
                                 explanation.row >= 0 ? fmt::format(", row {}", explanation.row) : "");
  html += fmt::format(
      "<p class=\"facts\">Logged output {}, local fit {}; {} estimator, {} rows used, {:.0f} % intervals ({}).</p>\n",
      short_number(explanation.output), short_number(explanation.prediction), to_string(explanation.estimator),
      d.rows_used, 100 * explainer.options().level, to_string(explainer.options().interval));
  for (const WarningText& warning : explanation.warnings)
    html += fmt::format("<p class=\"warning\">{}</p>\n", escaped(warning.text));
  html += interval_plot(explainer, explanation);
  html += "<p class=\"note\">Grey: the interval contains zero. ";
  html += explainer.options().importance == ImportanceKind::gradient
              ? "Continuous features: change of the output per unit. "
              : "Continuous features: change of the output over one step. ";
  html += "Categories: output here minus output with the other category.</p>\n";
  html += importance_table(explainer, explanation);
  html += "<h3>The local fit along each continuous feature</h3>\n<div class=\"slices\">";
  int shown = 0;
  for (const size_t j : by_size(explanation)) {
    if (explainer.features()[j].kind == ColumnKind::continuous && shown++ < 12)
      html += slice_plot(explainer, explanation, j);
  }
  html += "</div>\n<p class=\"note\">Dots: rows used. Line: the fit with all else as in this row.</p>\n";
  html += fmt::format("<p class=\"facts\">Effective rows {}, held-out R² near the query {}, distance to the data {}",
                      short_number(d.effective_rows), short_number(d.local_r2), short_number(d.distance));
  if (d.calibration_records > 0) {
    html += fmt::format(
        "; conformal factor {} from {} held-out records. It holds for values and differences of records like the "
        "logged ones; for slopes it is carried over",
        short_number(d.calibration_factor), d.calibration_records);
  }
  return html + ".</p>\n";
}

std::string html_page(std::string_view title, std::span<const std::string> sections) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>{}</title><style>{}</style></head><body>\n<h1>What drove the model: "
      "{}</h1>\n",
      escaped(title), kStyle, escaped(title));
  for (const std::string& section : sections) html += section;
  return html + "</body></html>\n";
}

std::string html_summary(std::string_view title, const nlohmann::json& summary) {
  double widest = 0, largest = 0;
  for (const auto& f : summary.at("features")) {
    widest = std::max(widest, f.at("mean_width").get<double>());
    largest = std::max(largest, f.at("mean_absolute_importance").get<double>());
  }
  Svg svg(940, 460);
  const Axis x{0, std::max(widest, 1e-12) * 1.25, 80, 920}, y{0, std::max(largest, 1e-12) * 1.1, 400, 20};
  for (const double tick : ticks(0, x.high, 7)) {
    svg.line(x.at(tick), 20, x.at(tick), 400, "grid");
    svg.text(x.at(tick), 420, short_number(tick), "mid");
  }
  for (const double tick : ticks(0, y.high, 6)) {
    svg.line(80, y.at(tick), 920, y.at(tick), "grid");
    svg.text(74, y.at(tick) + 4, short_number(tick), "soft end");
  }
  std::string rows;
  for (const auto& f : summary.at("features")) {
    const double width = f.at("mean_width"), importance = f.at("mean_absolute_importance");
    const std::string name = f.at("name");
    svg.circle(x.at(width), y.at(importance), 5, importance > width / 2 ? "up" : "unsure");
    svg.text(x.at(width) + 9, y.at(importance) + 4, shortened(name, 32), "label");
    rows +=
        fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.1f} %</td></tr>\n", escaped(name),
                    short_number(importance), short_number(width), 100 * f.at("share_excluding_zero").get<double>());
  }
  svg.text(500, 446, "mean interval width (less sure to the right); upwards: mean |importance|", "mid");
  const std::string section = fmt::format(
      "<p class=\"facts\">{} rows explained.</p>\n{}<table><tr><th>feature</th><th>mean |importance|</th><th>mean "
      "width</th><th>interval excludes zero</th></tr>\n{}</table>\n",
      summary.at("rows").get<int64_t>(), svg.str(), rows);
  return html_page(title, std::span(&section, 1));
}

}  // namespace tessera::explain
