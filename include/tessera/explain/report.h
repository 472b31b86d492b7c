// Self-contained HTML: an interval plot per explanation, slices of the local fit with the rows used, warnings, and the
// summary of a whole table. No scripts, no outside resources; drawings are SVG.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "tessera/explain/explain.h"

namespace tessera::explain {

// One explanation as a section of a page. title: for example the output column.
std::string html_section(const Explainer& explainer, const Explanation& explanation, std::string_view title);

// A page of sections.
std::string html_page(std::string_view title, std::span<const std::string> sections);

// A page with mean |importance| against mean interval width per feature; summary: {"rows", "features": [{"name",
// "mean_absolute_importance", "mean_width", "share_excluding_zero"}]}.
std::string html_summary(std::string_view title, const nlohmann::json& summary);

}  // namespace tessera::explain
