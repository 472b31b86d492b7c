// What drives a model over a whole table: every explained row counted, none kept.
//
//   Summary summary(explainer.features(), "score");
//   for (...) summary.add(explanation);                 // or add_json(line) for a stored one
//   html_summary("records.csv", summary.to_json());
//
// Per feature: mean |importance| with a 95 % normal interval over rows and mean interval width (the meta-explanation of
// arXiv 2301.05761), the share of rows whose interval excludes zero, and sign consistency: among rows whose importance
// is not zero, the share of the more common sign (0.5: as often up as down; 1: always the same way). O(features)
// memory.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tessera/explain/explain.h"

namespace tessera::explain {

class Summary {
 public:
  Summary(const std::vector<Feature>& features, std::string output);

  void add(const Explanation& explanation);
  // A line that to_json(Explanation) made. Throws Error(bad_file) when it is not of these features.
  void add_json(const nlohmann::json& line);

  int64_t rows() const { return rows_; }
  // {"output", "rows", "features": [{"name", "type", "mean_absolute_importance", "mean_absolute_importance_lower",
  // "..._upper", "mean_width", "share_excluding_zero", "sign_consistency"}], "warnings": {flag: rows that have it}}
  nlohmann::json to_json() const;

 private:
  struct Sums {
    double importance = 0, squares = 0, width = 0;
    int64_t clear = 0, up = 0, down = 0;
  };
  void add_feature(Sums& sums, double importance, double lower, double upper);

  std::vector<Feature> features_;
  std::string output_;
  std::vector<Sums> sums_;
  std::map<std::string, int64_t> warnings_;
  int64_t rows_ = 0;
};

}  // namespace tessera::explain
