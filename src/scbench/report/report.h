// OUT/report.html and OUT/summary.json.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tessera/scbench/summary.h"

namespace tessera::scbench {

// One self-contained page: no script, nothing fetched from anywhere. `lines` are the scored turns, for samples of
// answers.
std::string render_page(const Summary& summary, const std::vector<RunLine>& lines);

// Writes both files into the folder, each whole or not at all. Throws Error(io).
void write_report(const Summary& summary, const std::vector<RunLine>& lines, const std::filesystem::path& folder);

// The sections of the page, as HTML.
std::string score_section(const Summary& summary);
std::string difference_section(const Summary& summary);
std::string turns_section(const Summary& summary);
std::string cost_section(const Summary& summary);
std::string answers_section(const Summary& summary, const std::vector<RunLine>& lines);
std::string settings_section(const Summary& summary);

// Class names for the colour of method m: "fill-2".
std::string series_class(const char* kind, size_t method);
// Marker of method m; with its colour it repeats after 32 methods.
size_t series_shape(size_t method);

// The methods with their colours and markers.
std::string legend(const Summary& summary);

// The style sheet of the page.
extern const char* const kStyle;

}  // namespace tessera::scbench
