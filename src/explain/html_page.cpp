// The frame of a report: style, head, and the summary of a whole table.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "explain/svg.h"
#include "tessera/base/html.h"
#include "tessera/explain/report.h"

namespace tessera::explain {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5b6676; --line: #d5dae2; --page: #ffffff; --card: #f7f8fa; --up: #b2472f; --down: #2b6cb0; --unsure: #98a2b3; --warn: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #3a4352; --page: #14181f; --card: #1c222b; --up: #f0876c; --down: #6cb2f0; --unsure: #6b7686; --warn: #e3b341; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 980px; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; padding-top: 1rem; border-top: 1px solid var(--line); } h3 { font-size: 1rem; margin-top: 1.8rem; }
.facts, .note, .remark { color: var(--soft); } .note { font-size: .9em; } .remark { margin: .2rem 0; }
.warning { border-left: 3px solid var(--warn); padding: .2rem .8rem; margin: .4rem 0; background: var(--card); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0; overflow-wrap: normal; }
td, th { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; white-space: nowrap; } td:first-child, th:first-child { text-align: left; padding-right: 1.2rem; } th { font-weight: 600; color: var(--soft); }
.facts-table td { text-align: left; } .facts-table td:last-child { color: var(--soft); white-space: normal; min-width: 14rem; }
svg { max-width: 100%; height: auto; display: block; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg text.soft { fill: var(--soft); } svg text.end { text-anchor: end; } svg text.mid { text-anchor: middle; fill: var(--soft); } svg text.centre { text-anchor: middle; }
svg text.halo { paint-order: stroke; stroke: var(--page); stroke-width: 4px; }
line.grid { stroke: var(--line); } line.zero { stroke: var(--soft); } line.up { stroke: var(--up); stroke-width: 4; } line.down { stroke: var(--down); stroke-width: 4; } line.unsure { stroke: var(--unsure); stroke-width: 4; } line.leader { stroke: var(--unsure); }
line.query { stroke: var(--soft); stroke-dasharray: 3 3; }
circle.up { fill: var(--up); } circle.down { fill: var(--down); } circle.unsure { fill: var(--unsure); } circle.row { fill: var(--soft); opacity: .45; } circle.here { fill: var(--up); } path.fit { fill: none; stroke: var(--down); stroke-width: 2; } path.even { fill: none; stroke: var(--unsure); stroke-dasharray: 4 4; }
.slices { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: .8rem; }
.narrow { display: none; } @media (max-width: 640px) { table { font-size: .85em; } td, th { padding-right: .5rem; } td:first-child, th:first-child { padding-right: .5rem; } .facts-table, .facts-table tbody { display: block; } .facts-table tr { display: grid; grid-template-columns: 1fr 1fr; border-bottom: 1px solid var(--line); } .facts-table td { border: 0; white-space: normal; } .facts-table td:last-child { grid-column: 1 / -1; } .narrow { display: block; } .wide { display: none; } body { margin: 1rem auto; } h1 { font-size: 1.3rem; } }
)";

struct Dot {
  std::string name;
  double width, importance, clear;
  nlohmann::json sign;
};

struct Box {
  double left, top, right, bottom;
  bool meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

double letters_wide(const std::string& text) {
  double letters = 0;
  for (const char c : text) letters += (c & 0xC0) != 0x80 ? 1 : 0;
  return 7.0 * letters;
}

// Mean |importance| against mean width. Names stand where they cover no dot and no other name; the rest are in the
// table.
std::string scatter(const std::vector<Dot>& dots, bool narrow) {
  double widest = 1e-12, largest = 1e-12;
  for (const Dot& dot : dots) {
    widest = std::max(widest, dot.width);
    largest = std::max(largest, dot.importance);
  }
  const int right = narrow ? 360 : 940, bottom = narrow ? 330 : 420;
  Svg svg(right, bottom + 50);
  const Axis x{0, widest * 1.12, narrow ? 48.0 : 70.0, right - 12.0}, y{0, largest * 1.12, bottom * 1.0, 30};
  for (const double tick : ticks(0, x.high, narrow ? 4 : 8)) {
    svg.line(x.at(tick), 30, x.at(tick), bottom, "grid");
    svg.text(x.at(tick), bottom + 18, short_number(tick), "mid");
  }
  for (const double tick : ticks(0, y.high, 6)) {
    svg.line(x.from, y.at(tick), x.to, y.at(tick), "grid");
    svg.text(x.from - 6, y.at(tick) + 4, short_number(tick), "soft end");
  }
  // Above this line an average interval on one side of zero would not reach zero.
  const double end = std::min(x.high, 2 * y.high);
  svg.path({{x.at(0), y.at(0)}, {x.at(end), y.at(end / 2)}}, "even");
  std::vector<Box> taken;
  for (const Dot& dot : dots) {
    const double cx = x.at(dot.width), cy = y.at(dot.importance);
    svg.circle(cx, cy, 5, dot.importance > dot.width / 2 ? "up" : "unsure");
    taken.push_back({cx - 6, cy - 6, cx + 6, cy + 6});
  }
  for (size_t k = 0; k < dots.size(); ++k) {
    const double cx = x.at(dots[k].width), cy = y.at(dots[k].importance);
    const std::string name = shortened(dots[k].name, narrow ? 22 : 34);
    const double wide = letters_wide(name);
    struct Place {
      double left, base;
      const char* anchor;
    };
    const Place places[] = {{cx + 9, cy + 4, "halo"},
                            {cx - 9 - wide, cy + 4, "halo end"},
                            {cx - wide / 2, cy - 10, "halo centre"},
                            {cx - wide / 2, cy + 19, "halo centre"},
                            {cx + 7, cy - 8, "halo"},
                            {cx + 7, cy + 17, "halo"},
                            {cx - 7 - wide, cy - 8, "halo end"},
                            {cx - 7 - wide, cy + 17, "halo end"}};
    for (const auto& [left, base, anchor] : places) {
      const Box box{left - 1, base - 11, left + wide + 1, base + 4};
      if (box.left < x.from || box.right > right || box.top < 16 || box.bottom > bottom) continue;
      if (std::any_of(taken.begin(), taken.end(), [&](const Box& other) { return box.meets(other); })) continue;
      const std::string_view at = anchor;
      svg.text(at == "halo" ? left : at == "halo end" ? left + wide : left + wide / 2, base, name, anchor);
      taken.push_back(box);
      break;
    }
  }
  svg.text(x.from - 40, 14, "mean |importance|", "soft");
  svg.text(x.to, bottom + 40, "mean width of the interval", "soft end");
  return fmt::format("<div class=\"{}\">{}</div>\n", narrow ? "narrow" : "wide", svg.str());
}

}  // namespace

std::string html_summary(const nlohmann::json& summary) {
  std::vector<Dot> dots;
  for (const auto& f : summary.at("features")) {
    dots.push_back({f.at("name"), f.at("mean_width"), f.at("mean_absolute_importance"), f.at("share_excluding_zero"),
                    f.at("sign_consistency")});
  }
  std::stable_sort(dots.begin(), dots.end(), [](const Dot& a, const Dot& b) { return a.importance > b.importance; });
  std::string html = fmt::format(
      "<h2>{}</h2>\n<p class=\"facts\">{} rows explained. Higher: matters more; further right: "
      "less sure.</p>\n",
      escape_html(summary.at("output").get<std::string>()), summary.at("rows").get<int64_t>());
  html += scatter(dots, false) + scatter(dots, true);
  html +=
      "<p class=\"note\">Red dots lie above the dashed line: their mean |importance| exceeds half the mean width, so "
      "an average interval stays clear of zero. The table: means over rows, the share of rows whose interval excludes "
      "zero, and how often the more common sign is taken.</p>\n";
  html +=
      "<div class=\"scroll\"><table><tr><th>feature</th><th>|importance|</th><th>width</th><th>excludes "
      "zero</th><th>same sign</th></tr>\n";
  for (const Dot& dot : dots) {
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.1f} %</td><td>{}</td></tr>\n",
                        escape_html(dot.name), short_number(dot.importance), short_number(dot.width), 100 * dot.clear,
                        dot.sign.is_null() ? "–" : fmt::format("{:.1f} %", 100 * dot.sign.get<double>()));
  }
  html += "</table></div>\n";
  const auto& warnings = summary.at("warnings");
  for (const auto& [flag, rows] : warnings.items()) {
    const double share = 100 * rows.get<double>() / std::max(1.0, summary.at("rows").get<double>());
    html += fmt::format("<p class=\"warning\">{}: {} {} ({} %)</p>\n", escape_html(meaning_of(flag)),
                        rows.get<int64_t>(), rows.get<int64_t>() == 1 ? "row" : "rows",
                        share < 0.1 ? "below 0.1" : fmt::format("{:.1f}", share));
  }
  return html;
}

std::string html_page(std::string_view title, std::span<const std::string> sections,
                      std::span<const std::string> remarks) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\"><title>{}</title><style>{}</style></head><body>\n<h1>What drove "
      "the model: {}</h1>\n",
      escape_html(title), kStyle, escape_html(title));
  for (const std::string& remark : remarks) html += fmt::format("<p class=\"remark\">{}</p>\n", escape_html(remark));
  for (const std::string& section : sections) html += section;
  return html + "</body></html>\n";
}

}  // namespace tessera::explain
