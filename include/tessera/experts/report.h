// One self-contained page about an ensemble: its design, how well it does beside the centralised classifier, and what
// an input costs.
//
//   write_file_atomically("report.html", html_report(content));
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/experts/design.h"
#include "tessera/experts/metrics.h"

namespace tessera::experts {

// How one way of answering did on the test rows.
struct ReportLine {
  std::string name;  // a rule, or "centralised"
  Scores scores;
};

// Experts asked per input under one guarantee of adaptive evaluation.
struct ReportQuestions {
  std::string name;
  double accuracy = 0;
  std::vector<int32_t> asked;  // [inputs]
};

struct ReportContent {
  std::string title;               // of the data
  std::vector<std::string> facts;  // sentences under the title
  Design design;
  std::vector<std::string> classes;        // names, [design.classes]
  std::vector<ReportLine> lines;           // the first one is drawn: reliability and confusion
  int centralised = -1;                    // index of the line to compare with, or -1
  std::vector<ReportQuestions> questions;  // may be empty
  std::vector<double> in_set_accuracy;     // [experts], on test rows whose class the expert knows
  std::vector<std::string> warnings;
};

// HTML with inline style and SVG, no script, nothing fetched. Text from data is escaped. Pictures of more than
// kMostDrawn classes or experts are left out, with a sentence in their place.
inline constexpr int kMostDrawn = 400;
std::string html_report(const ReportContent& content);

}  // namespace tessera::experts
