// What the tables of bench_explain share: coverage, width and error of intervals with standard errors, and a file that
// keeps every row of a table when it is measured.
#pragma once

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/explain/explain.h"

namespace tessera::explain {

struct Sample {
  double truth = 0, estimate = 0, lower = 0, upper = 0;
  bool covered() const { return lower <= truth && truth <= upper; }
  double width() const { return upper - lower; }
  double score() const { return width() + 40 * std::max({0.0, lower - truth, truth - upper}); }  // at 95 %
};

using Trials = std::vector<std::vector<Sample>>;  // [trials][targets]

// Prints one row of a table and returns it; trials are independent, targets within one are not.
nlohmann::json summarise(const std::string& name, const Trials& trials, double cpu_ms);

// The rows of one table, kept in a file while they come.
class Report {
 public:
  Report(nlohmann::json head, std::filesystem::path file);
  // Measures unless the file has the row already.
  template <typename Measure>
  void add(const std::string& name, const Measure& measure) {
    for (const auto& row : content_["rows"]) {
      if (row["name"] == name) return;
    }
    content_["rows"].push_back(measure());
    save();
  }
  void finish() {
    content_["complete"] = true;
    save();
  }

 private:
  void save() const;
  nlohmann::json content_;
  std::filesystem::path file_;
};

Options published(int64_t neighbours, int degree, double ratio, Weights weights);
Options mimic();

// Tables of real records (explain_real.cpp). folder: holds explain/compas.csv; file: german.csv of scripts/fetch-data.
void compas(Report& report, const std::filesystem::path& folder, int64_t offset);
void german(Report& report, const std::filesystem::path& file, int64_t offset);
std::string german_file();  // its default place

}  // namespace tessera::explain
