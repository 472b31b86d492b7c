// Explanations for a terminal.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/explain_command.h"

namespace tessera::cli {
namespace {

using namespace tessera::explain;

constexpr size_t kLine = 100;  // characters
constexpr size_t kName = 28;   // of a feature's name
constexpr size_t kValue = 14;  // of a category's name
constexpr size_t kAcross = 5;  // outputs side by side

size_t letters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// At most `most` letters, padded to `width`.
std::string cell(std::string text, size_t most, size_t width, bool right) {
  if (letters(text) > most) {
    size_t bytes = 0, seen = 0;
    while (bytes < text.size() && (seen < most - 2 || (text[bytes] & 0xC0) == 0x80))
      seen += (text[bytes++] & 0xC0) != 0x80;
    text = text.substr(0, bytes) + "..";
  }
  const std::string room(width > letters(text) ? width - letters(text) : 0, ' ');
  return right ? room + text : text + room;
}

void print_wrapped(const std::string& mark, const std::string& text) {
  std::string line = mark;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (letters(line) + 1 + letters(word) > kLine && letters(line) > mark.size()) {
      fmt::print("{}\n", line);
      line = std::string(mark.size(), ' ');
    }
    line += (line.size() > mark.size() || begin > 0) && line.back() != ' ' ? " " + word : word;
    begin = end + 1;
  }
  fmt::print("{}\n", line);
}

std::string shown(const Feature& feature, double value) {
  return feature.kind == ColumnKind::categorical ? feature.levels[static_cast<size_t>(value)]
                                                 : fmt::format("{:.6g}", value);
}

std::vector<size_t> largest_first(const Explanation& answer) {
  std::vector<size_t> order(answer.features.size());
  for (size_t j = 0; j < order.size(); ++j) order[j] = j;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::abs(answer.features[a].importance) > std::abs(answer.features[b].importance);
  });
  return order;
}

size_t name_width(const std::vector<Feature>& features) {
  size_t width = 7;
  for (const Feature& feature : features) width = std::max(width, std::min(kName, letters(feature.name)));
  return width;
}

bool clear(const FeatureImportance& f) { return f.lower > 0 || f.upper < 0; }

}  // namespace

void print_answer(const Explanation& answer, const Explainer& explainer, const std::string& output) {
  const auto& features = explainer.features();
  const Options& options = explainer.options();
  const size_t width = name_width(features);
  fmt::print("{}{}: {}local fit {:.6g}\n", output, answer.row >= 0 ? fmt::format(", row {}", answer.row) : "",
             std::isfinite(answer.output) ? fmt::format("logged {:.6g}, ", answer.output) : "", answer.prediction);
  fmt::print("{} estimator, {} rows used, {:g} % intervals ({}); * the interval excludes zero\n",
             to_string(answer.estimator), answer.diagnostics.rows_used, 100 * options.level,
             to_string(options.interval));
  fmt::print("  {}  {}  {}  {:>12}  {:>12} {:>12}\n", cell("feature", kName, width, false),
             cell("here", kValue, kValue, true), cell("against", kValue, kValue, true), "importance", "lower", "upper");
  for (const size_t j : largest_first(answer)) {
    const FeatureImportance& f = answer.features[j];
    const std::string against = features[j].kind == ColumnKind::categorical      ? shown(features[j], f.baseline)
                                : options.importance == ImportanceKind::gradient ? "slope"
                                                                                 : fmt::format("step {:.4g}", f.step);
    fmt::print("  {}  {}  {}  {:>12.5g}  {:>12.5g} {:>12.5g}{}\n", cell(features[j].name, kName, width, false),
               cell(shown(features[j], f.value), kValue, kValue, true), cell(against, kValue, kValue, true),
               f.importance, f.lower, f.upper, clear(f) ? " *" : "");
  }
  const Diagnostics& d = answer.diagnostics;
  print_wrapped("  fit: ",
                fmt::format("{:.3g} effective rows, {}held-out R2 {:.2f}, condition {:.2g}, {:.2g} times the usual "
                            "distance to the data",
                            d.effective_rows, d.parameters > 0 ? fmt::format("{} parameters, ", d.parameters) : "",
                            d.local_r2, d.condition, d.distance));
  for (const WarningText& warning : answer.warnings) print_wrapped("  ! ", warning.text);
}

void print_side_by_side(const std::vector<Explanation>& answers, const Prepared& prepared) {
  const size_t width = name_width(prepared.features);
  for (size_t from = 0; from < answers.size(); from += kAcross) {
    const size_t to = std::min(answers.size(), from + kAcross);
    std::string head = "  " + cell("importance", kName, width, false);
    for (size_t k = from; k < to; ++k) head += "  " + cell(prepared.outputs[k].name, kValue, kValue, true);
    fmt::print("{}\n", head);
    for (size_t j = 0; j < prepared.features.size(); ++j) {
      std::string line = "  " + cell(prepared.features[j].name, kName, width, false);
      for (size_t k = from; k < to; ++k) {
        const FeatureImportance& f = answers[k].features[j];
        line += "  " + cell(fmt::format("{:.4g}{}", f.importance, clear(f) ? " *" : "  "), kValue, kValue, true);
      }
      fmt::print("{}\n", line);
    }
  }
  if (prepared.classes) {
    const auto likely = std::max_element(answers.begin(), answers.end(),
                                         [](const auto& a, const auto& b) { return a.prediction < b.prediction; });
    fmt::print("  most likely here: {} ({:.3g})\n",
               prepared.outputs[static_cast<size_t>(likely - answers.begin())].name, likely->prediction);
  }
}

void print_summary(const nlohmann::json& summary) {
  size_t width = 7;
  for (const auto& f : summary["features"])
    width = std::max(width, std::min(kName, letters(f["name"].get<std::string>())));
  fmt::print("{}: {} rows explained\n", summary["output"].get<std::string>(), summary["rows"].get<int64_t>());
  fmt::print("  {}  {:>17}  {:>12}  {:>12}  {:>11}\n", cell("feature", kName, width, false), "mean |importance|",
             "mean width", "excludes 0", "same sign");
  std::vector<nlohmann::json> sorted(summary["features"].begin(), summary["features"].end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a["mean_absolute_importance"].template get<double>() > b["mean_absolute_importance"].template get<double>();
  });
  for (const auto& f : sorted) {
    const nlohmann::json& sign = f["sign_consistency"];
    fmt::print("  {}  {:>17.4g}  {:>12.4g}  {:>10.1f} %  {:>11}\n",
               cell(f["name"].get<std::string>(), kName, width, false), f["mean_absolute_importance"].get<double>(),
               f["mean_width"].get<double>(), 100 * f["share_excluding_zero"].get<double>(),
               sign.is_null() ? "" : fmt::format("{:.1f} %", 100 * sign.get<double>()));
  }
  for (const auto& [flag, rows] : summary["warnings"].items())
    fmt::print("  ! {} ({}): {} {}\n", meaning_of(flag), flag, rows.get<int64_t>(),
               rows.get<int64_t>() == 1 ? "row" : "rows");
}

}  // namespace tessera::cli
