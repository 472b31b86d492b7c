// Self-contained HTML: an interval plot per explanation, slices of the local fit with the rows used, warnings, and the
// summary of a whole table; drawn once for a wide window and once for a phone. No scripts, no outside resources;
// drawings are SVG.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "tessera/explain/explain.h"

namespace tessera::explain {

// One explanation as a section of a page. title: for example the output column.
std::string html_section(const Explainer& explainer, const Explanation& explanation, std::string_view title);

// Importances of one row for several outputs, one column each; `answers` and `names` are of the same length, at least
// one. classes: the outputs are probabilities of classes, of which the likeliest is named.
struct SideBySide {
  std::span<const Feature> features;
  std::span<const Explanation> answers;
  std::vector<std::string> names;
  bool classes = false;
};
std::string html_side_by_side(const SideBySide& outputs, std::string_view title);

// What drives the model over a whole table as a section; summary: Summary::to_json().
std::string html_summary(const nlohmann::json& summary);

// A page of sections. remarks: plain sentences about the table, shown at its head.
std::string html_page(std::string_view title, std::span<const std::string> sections,
                      std::span<const std::string> remarks = {});

}  // namespace tessera::explain
