#include "tessera/explain/summary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tessera/base/error.h"
#include "tessera/explain/report.h"

namespace tessera::explain {
namespace {

const std::vector<Feature> kFeatures = {{"x", ColumnKind::continuous, {}, {}, {}},
                                        {"<i>", ColumnKind::continuous, {}, {}, {}}};

Explanation answer(double importance, double half) {
  Explanation result;
  result.features = {{1, std::nan(""), importance, importance - half, importance + half, {}},
                     {1, std::nan(""), 0, -1, 1, {}}};
  return result;
}

TEST(Summary, AveragesCountsAndSigns) {
  Summary summary(kFeatures, "y");
  for (const double importance : {2.0, 4.0, -3.0, 3.0}) summary.add(answer(importance, importance == 2 ? 2.5 : 1));
  Explanation warned = answer(3, 1);
  warned.warnings = {{Warning::few_rows, "a."}, {Warning::few_rows, "b."}, {Warning::poor_fit, "c."}};
  summary.add(warned);
  const nlohmann::json found = summary.to_json(), x = found["features"][0];
  EXPECT_EQ(found["rows"], 5);
  EXPECT_DOUBLE_EQ(x["mean_absolute_importance"].get<double>(), 3);
  EXPECT_DOUBLE_EQ(x["mean_width"].get<double>(), (5 + 4 * 2) / 5.0);
  EXPECT_DOUBLE_EQ(x["share_excluding_zero"].get<double>(), 0.8);
  EXPECT_DOUBLE_EQ(x["sign_consistency"].get<double>(), 0.8);
  // Variance of |importance| is 2/5.
  EXPECT_NEAR(x["mean_absolute_importance_upper"].get<double>(), 3 + 1.959964 * std::sqrt(0.4 / 5), 1e-6);
  EXPECT_TRUE(found["features"][1]["sign_consistency"].is_null());
  EXPECT_EQ(found["warnings"]["few-rows"], 1);  // rows, not sentences
  EXPECT_EQ(found["warnings"]["poor-fit"], 1);
}

TEST(Summary, StoredLinesCountLikeTheirExplanations) {
  Summary direct(kFeatures, "y"), stored(kFeatures, "y");
  for (const double importance : {1.5, -0.25}) {
    direct.add(answer(importance, 1));
    stored.add_json(nlohmann::json::parse(to_json(answer(importance, 1), kFeatures).dump()));
  }
  EXPECT_EQ(direct.to_json(), stored.to_json());
  EXPECT_THROW(stored.add_json(nlohmann::json::parse(R"({"features": []})")), Error);
  EXPECT_THROW(stored.add_json(nlohmann::json::parse(R"({"features": [1, 2], "warnings": []})")), Error);
  EXPECT_THROW(stored.add_json(nlohmann::json::parse("[]")), Error);
}

TEST(Summary, ItsPageIsEscapedAndDrawnForBothWidths) {
  Summary summary(kFeatures, "y <b>");
  summary.add(answer(2, 1));
  const std::vector<std::string> sections = {html_summary(summary.to_json())}, remarks = {"a < b"};
  const std::string page = html_page("t", sections, remarks);
  EXPECT_EQ(page.find("<i>"), std::string::npos);
  EXPECT_EQ(page.find("y <b>"), std::string::npos);
  EXPECT_NE(page.find("a &lt; b"), std::string::npos);
  EXPECT_NE(page.find("class=\"narrow\""), std::string::npos);
  EXPECT_NE(page.find("class=\"wide\""), std::string::npos);
  EXPECT_EQ(page.find("http"), std::string::npos);
}

}  // namespace
}  // namespace tessera::explain
