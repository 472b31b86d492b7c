#include "tessera/explain/summary.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "tessera/base/error.h"

namespace tessera::explain {

Summary::Summary(const std::vector<Feature>& features, std::string output)
    : features_(features), output_(std::move(output)), sums_(features.size()) {}

void Summary::add_feature(Sums& sums, double importance, double lower, double upper) {
  sums.importance += std::abs(importance);
  sums.squares += importance * importance;
  sums.width += upper - lower;
  sums.clear += lower > 0 || upper < 0 ? 1 : 0;
  sums.up += importance > 0 ? 1 : 0;
  sums.down += importance < 0 ? 1 : 0;
}

void Summary::add(const Explanation& explanation) {
  for (size_t j = 0; j < sums_.size(); ++j) {
    const FeatureImportance& f = explanation.features[j];
    add_feature(sums_[j], f.importance, f.lower, f.upper);
  }
  std::set<std::string> flags;
  for (const WarningText& warning : explanation.warnings) flags.insert(to_string(warning.flag));
  for (const std::string& flag : flags) ++warnings_[flag];
  ++rows_;
}

void Summary::add_json(const nlohmann::json& line) {
  try {
    if (line.at("features").size() != sums_.size())
      throw Error(ErrorCode::bad_file, "a stored explanation has {} features, {} were expected",
                  line.at("features").size(), sums_.size());
    const auto number = [](const nlohmann::json& value) { return value.is_null() ? 0.0 : value.get<double>(); };
    for (size_t j = 0; j < sums_.size(); ++j) {
      const nlohmann::json& f = line["features"][j];
      add_feature(sums_[j], number(f.at("importance")), number(f.at("lower")), number(f.at("upper")));
    }
    std::set<std::string> flags;
    for (const nlohmann::json& warning : line.at("warnings")) flags.insert(warning.at("flag").get<std::string>());
    for (const std::string& flag : flags) ++warnings_[flag];
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::bad_file, "a stored explanation cannot be read: {}", error.what());
  }
  ++rows_;
}

nlohmann::json Summary::to_json() const {
  nlohmann::json result = {{"output", output_},
                           {"rows", rows_},
                           {"features", nlohmann::json::array()},
                           {"warnings", nlohmann::json::object()}};
  const auto count = static_cast<double>(std::max<int64_t>(1, rows_));
  for (size_t j = 0; j < sums_.size(); ++j) {
    const Sums& s = sums_[j];
    const double mean = s.importance / count;
    const double half = 1.959963984540054 * std::sqrt(std::max(0.0, s.squares / count - mean * mean) / count);
    const int64_t signs = s.up + s.down;
    result["features"].push_back(
        {{"name", features_[j].name},
         {"type", to_string(features_[j].kind)},
         {"mean_absolute_importance", mean},
         {"mean_absolute_importance_lower", std::max(0.0, mean - half)},
         {"mean_absolute_importance_upper", mean + half},
         {"mean_width", s.width / count},
         {"share_excluding_zero", static_cast<double>(s.clear) / count},
         {"sign_consistency",
          signs > 0 ? nlohmann::json(static_cast<double>(std::max(s.up, s.down)) / static_cast<double>(signs))
                    : nlohmann::json()}});
  }
  for (const auto& [flag, rows] : warnings_) result["warnings"][flag] = rows;
  return result;
}

}  // namespace tessera::explain
