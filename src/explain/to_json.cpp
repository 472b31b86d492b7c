#include <cmath>
#include <nlohmann/json.hpp>

#include "tessera/explain/explain.h"

namespace tessera::explain {
namespace {

nlohmann::json number(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(); }

nlohmann::json feature_json(const FeatureImportance& importance, const Feature& feature) {
  const bool categorical = feature.kind == ColumnKind::categorical;
  const auto level = [&](double code) { return feature.levels[static_cast<size_t>(code)]; };
  nlohmann::json item = {{"name", feature.name},
                         {"type", to_string(feature.kind)},
                         {"value", categorical ? nlohmann::json(level(importance.value)) : number(importance.value)},
                         {"baseline", categorical ? nlohmann::json(level(importance.baseline)) : nlohmann::json()},
                         {"importance", number(importance.importance)},
                         {"lower", number(importance.lower)},
                         {"upper", number(importance.upper)}};
  if (std::isfinite(importance.step)) item["step"] = importance.step;
  for (const Contrast& contrast : importance.contrasts) {
    item["contrasts"].push_back({{"level", level(static_cast<double>(contrast.level))},
                                 {"importance", number(contrast.importance)},
                                 {"lower", number(contrast.lower)},
                                 {"upper", number(contrast.upper)}});
  }
  return item;
}

}  // namespace

nlohmann::json to_json(const Explanation& explanation, const std::vector<Feature>& features) {
  nlohmann::json result = {{"row", explanation.row >= 0 ? nlohmann::json(explanation.row) : nlohmann::json()},
                           {"prediction", number(explanation.prediction)},
                           {"output", number(explanation.output)},
                           {"estimator", to_string(explanation.estimator)},
                           {"features", nlohmann::json::array()},
                           {"warnings", nlohmann::json::array()}};
  for (size_t j = 0; j < features.size(); ++j)
    result["features"].push_back(feature_json(explanation.features[j], features[j]));
  const Diagnostics& d = explanation.diagnostics;
  result["diagnostics"] = {{"rows_used", d.rows_used},
                           {"parameters", d.parameters},
                           {"effective_rows", number(d.effective_rows)},
                           {"local_r2", number(d.local_r2)},
                           {"condition", number(d.condition)},
                           {"distance", number(d.distance)},
                           {"calibration_factor", number(d.calibration_factor)},
                           {"calibration_records", d.calibration_records}};
  for (int flag = 0; flag < kWarnings; ++flag) result["flags"][to_string(static_cast<Warning>(flag))] = false;
  for (const WarningText& warning : explanation.warnings) {
    result["flags"][to_string(warning.flag)] = true;
    result["warnings"].push_back({{"flag", to_string(warning.flag)}, {"text", warning.text}});
  }
  return result;
}

}  // namespace tessera::explain
