#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "explain/svg.h"
#include "tessera/base/html.h"
#include "tessera/explain/report.h"

namespace tessera::explain {
namespace {

constexpr size_t kMostBars = 40;  // the table below a plot has all features
constexpr int kMostSlices = 12;

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

// Most influential first. narrow: for a phone, names above their bars.
std::string interval_plot(const Explainer& explainer, const Explanation& explanation, bool narrow) {
  std::vector<size_t> order = by_size(explanation);
  if (order.size() > kMostBars) order.resize(kMostBars);
  double low = 0, high = 0;
  for (const FeatureImportance& f : explanation.features) {
    low = std::min({low, f.lower, f.importance});
    high = std::max({high, f.upper, f.importance});
  }
  const double margin = 0.04 * std::max(high - low, 1e-12);
  const int step = narrow ? 44 : 26;
  const int bottom = 12 + step * static_cast<int>(order.size());
  Svg svg(narrow ? 360 : 940, bottom + 34);
  const Axis x{low - margin, high + margin, narrow ? 12.0 : 330.0, narrow ? 348.0 : 926.0};
  for (const double tick : ticks(x.low, x.high, narrow ? 4 : 7)) {
    svg.line(x.at(tick), 10, x.at(tick), bottom, tick == 0 ? "zero" : "grid");
    svg.text(std::clamp(x.at(tick), x.from + 8, x.to - 8), bottom + 18, short_number(tick), "mid");
  }
  double y = narrow ? 20 : 24;
  for (const size_t j : order) {
    const FeatureImportance& f = explanation.features[j];
    const char* kind = direction(f.lower, f.upper);
    const double bar = narrow ? y + 16 : y;
    svg.text(narrow ? 12 : 318, y + 4, shortened(label_of(explainer, explanation, j), narrow ? 50 : 46),
             narrow ? "start halo" : "end");
    svg.line(x.at(f.lower), bar, x.at(f.upper), bar, kind);
    svg.circle(x.at(f.importance), bar, 5, kind);
    y += step;
  }
  return fmt::format("<div class=\"{}\">{}</div>\n", narrow ? "narrow" : "wide", svg.str());
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
      "<div "
      "class=\"scroll\"><table><tr><th>feature</th><th>importance</th><th>interval</th><th>here</th><th>against</th></"
      "tr>\n";
  for (const size_t j : by_size(explanation)) {
    const Feature& feature = explainer.features()[j];
    const FeatureImportance& f = explanation.features[j];
    const std::string against = feature.kind == ColumnKind::categorical ? shown_value(feature, f.baseline)
                                : explainer.options().importance == ImportanceKind::gradient
                                    ? "slope"
                                    : "step of " + short_number(f.step);
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n", escape_html(feature.name),
                        short_number(f.importance), interval_text(f.lower, f.upper),
                        escape_html(shown_value(feature, f.value)), escape_html(against));
  }
  return html + "</table></div>\n";
}

std::string diagnostics_table(const Diagnostics& d) {
  std::string html = "<h3>Can it be trusted?</h3>\n<div class=\"scroll\"><table class=\"facts-table\">\n";
  const auto line = [&](std::string_view what, const std::string& value, std::string_view meaning) {
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n", what, value, meaning);
  };
  line("effective rows", short_number(d.effective_rows), "rows that the weights leave; below 10 is thin");
  if (d.parameters > 0)  // trees have none
    line("parameters", fmt::format("{} for {} rows", d.parameters, d.rows_used), "what the local fit had to find");
  line("held-out R²", short_number(d.local_r2), "of left-out outputs near the row; 1: all predicted, 0 or less: none");
  line("condition", short_number(d.condition), "how nearly features depend on each other here");
  line("distance to the data", short_number(d.distance), "1: as usual among the rows nearby; above 4 is outside");
  if (d.calibration_records > 0 && d.calibration_factor > 0) {
    line("conformal factor",
         fmt::format("{} from {} records", short_number(d.calibration_factor), d.calibration_records),
         "widens the model's own errors; it holds for values and differences of records like the logged ones, for "
         "slopes it is carried over");
  }
  return html + "</table></div>\n";
}

}  // namespace

std::string html_section(const Explainer& explainer, const Explanation& explanation, std::string_view title) {
  const Diagnostics& d = explanation.diagnostics;
  std::string html = fmt::format("<h2>{}{}</h2>\n", escape_html(title),
                                 explanation.row >= 0 ? fmt::format(", row {}", explanation.row) : "");
  html += fmt::format(
      "<p class=\"facts\">Logged output {}, local fit {}; {} estimator, {} rows used, {:.0f} % intervals ({}).</p>\n",
      short_number(explanation.output), short_number(explanation.prediction), to_string(explanation.estimator),
      d.rows_used, 100 * explainer.options().level, to_string(explainer.options().interval));
  for (const WarningText& warning : explanation.warnings)
    html += fmt::format("<p class=\"warning\">{}</p>\n", escape_html(warning.text));
  html += interval_plot(explainer, explanation, false) + interval_plot(explainer, explanation, true);
  if (explanation.features.size() > kMostBars)
    html +=
        fmt::format("<p class=\"note\">The {} largest of {} features.</p>\n", kMostBars, explanation.features.size());
  html +=
      "<p class=\"note\">Dot: importance; bar: its interval; red: raises the output, blue: lowers it, grey: the "
      "interval "
      "contains zero. ";
  html += explainer.options().importance == ImportanceKind::gradient
              ? "Continuous features: change of the output per unit. "
              : "Continuous features: change of the output over one step, half of it on each side. ";
  html += "Categories: output here minus output with the other category.</p>\n";
  html += importance_table(explainer, explanation);
  std::string slices;
  int shown = 0;
  for (const size_t j : by_size(explanation)) {
    if (explainer.features()[j].kind == ColumnKind::continuous && shown++ < kMostSlices)
      slices += slice_plot(explainer, explanation, j);
  }
  if (!slices.empty()) {
    html += "<h3>The local fit along each continuous feature</h3>\n<div class=\"slices\">" + slices + "</div>\n";
    html += shown > kMostSlices
                ? fmt::format("<p class=\"note\">The {} most important of {} continuous features. ", kMostSlices, shown)
                : "<p class=\"note\">";
    html +=
        "Small dots: rows used; their other features differ from this row's. Line: the fit with all else as in this "
        "row. Red dot: this row.</p>\n";
  }
  return html + diagnostics_table(d);
}

std::string html_side_by_side(const SideBySide& outputs, std::string_view title) {
  std::string html =
      fmt::format("<h2>{}</h2>\n<div class=\"scroll\"><table><tr><th>importance for</th>", escape_html(title));
  for (const std::string& name : outputs.names) html += fmt::format("<th>{}</th>", escape_html(name));
  html += "</tr>\n";
  for (size_t j = 0; j < outputs.features.size(); ++j) {
    html += fmt::format("<tr><td>{}</td>", escape_html(outputs.features[j].name));
    for (const Explanation& answer : outputs.answers) {
      const FeatureImportance& f = answer.features[j];
      const bool clear = f.lower > 0 || f.upper < 0;
      html += fmt::format("<td>{}{}</td>", short_number(f.importance), clear ? "&nbsp;*" : "");
    }
    html += "</tr>\n";
  }
  html += "</table></div>\n<p class=\"note\">* The interval excludes zero.";
  if (outputs.classes) {
    const auto likely = std::max_element(outputs.answers.begin(), outputs.answers.end(),
                                         [](const auto& a, const auto& b) { return a.prediction < b.prediction; });
    html += fmt::format(" Most likely here: {} ({}).",
                        escape_html(outputs.names[static_cast<size_t>(likely - outputs.answers.begin())]),
                        short_number(likely->prediction));
  }
  return html + "</p>\n";
}

}  // namespace tessera::explain
