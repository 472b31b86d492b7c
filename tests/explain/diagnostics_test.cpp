// Every diagnostic: a table on which its flag is raised, and one on which it is not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "tessera/base/random.h"
#include "tessera/explain/explain.h"

namespace tessera::explain {
namespace {

const std::vector<Feature> kFeatures = {{"x", ColumnKind::continuous, {}, {}, {}},
                                        {"z", ColumnKind::continuous, {}, {}, {}},
                                        {"c", ColumnKind::categorical, {"no", "yes"}, {}, {}},
                                        {"d", ColumnKind::categorical, {"no", "yes"}, {}, {}}};

// Smooth, well covered, two categories: no flag is raised in its middle.
struct Table400 {
  std::vector<double> inputs, outputs;
  explicit Table400(int64_t rows = 400) {
    Random random(1);
    for (int64_t i = 0; i < rows; ++i) {
      const double x = random.uniform(), z = random.uniform();
      const auto c = static_cast<double>(random.below(2)), d = static_cast<double>(random.below(2));
      inputs.insert(inputs.end(), {x, z, c, d});
      outputs.push_back(0.3 + 0.3 * x - 0.2 * z + 0.1 * c + 0.05 * d);
    }
  }
  int64_t rows() const { return static_cast<int64_t>(outputs.size()); }
  void set(int64_t column, auto&& value_of_row) {
    for (int64_t i = 0; i < rows(); ++i) inputs[static_cast<size_t>(4 * i + column)] = value_of_row(i);
  }
};

Options quick(Estimator estimator) {
  Options options = estimator == Estimator::published ? published_options(false) : Options{};
  options.estimator = estimator;
  options.neighbours = 60;
  options.replicates = 50;
  options.calibration = 40;
  options.trees = 20;
  return options;
}

const std::vector<double> kMiddle = {0.5, 0.5, 1, 1};

struct Raised {
  nlohmann::json json;
  bool operator()(Warning flag) const {
    bool sentence = false;
    for (const auto& warning : json["warnings"]) {
      if (warning["flag"] != to_string(flag)) continue;
      sentence = true;
      const std::string text = warning["text"];
      EXPECT_GT(text.size(), 20U);
      EXPECT_EQ(text.back(), '.') << text;
    }
    EXPECT_EQ(json["flags"][to_string(flag)].get<bool>(), sentence);
    return sentence;
  }
};

Raised explain(const Table400& table, const Options& options, const std::vector<double>& query = kMiddle,
               std::optional<double> step = {}) {
  const TableView view{table.inputs.data(), nullptr, table.rows(), 4};
  std::vector<Feature> features = kFeatures;
  features[0].delta = step;
  const Explainer explainer(view, table.outputs, features, options);
  return {to_json(explainer.explain(query), kFeatures)};
}

class Diagnostic : public ::testing::TestWithParam<Estimator> {};

TEST_P(Diagnostic, NothingIsRaisedOnASmoothWellCoveredTable) {
  const Raised raised = explain(Table400(), quick(GetParam()));
  for (int flag = 0; flag < kWarnings; ++flag) {
    if (GetParam() == Estimator::forest && static_cast<Warning>(flag) == Warning::poor_fit) continue;  // 20 trees
    EXPECT_FALSE(raised(static_cast<Warning>(flag))) << to_string(static_cast<Warning>(flag));
  }
  EXPECT_EQ(raised.json["flags"].size(), static_cast<size_t>(kWarnings));
  for (const char* number : {"rows_used", "parameters", "effective_rows", "local_r2", "condition", "distance"})
    EXPECT_TRUE(raised.json["diagnostics"][number].is_number()) << number;
}

TEST_P(Diagnostic, Extrapolation) {
  EXPECT_TRUE(explain(Table400(), quick(GetParam()), {3, 0.5, 1, 1})(Warning::extrapolation));
  Options steps = quick(GetParam());
  steps.importance = ImportanceKind::difference;
  EXPECT_TRUE(explain(Table400(), steps, {0.999, 0.5, 1, 1}, 0.5)(Warning::extrapolation));  // its step leaves the data
}

TEST_P(Diagnostic, ADefaultStepAtTheEdgeOfDenseDataIsNoExtrapolation) {
  Options steps = quick(GetParam());
  steps.importance = ImportanceKind::difference;
  EXPECT_FALSE(explain(Table400(), steps, {0.99, 0.5, 1, 1})(Warning::extrapolation));
}

TEST_P(Diagnostic, FewRows) { EXPECT_TRUE(explain(Table400(40), quick(GetParam()))(Warning::few_rows)); }

TEST_P(Diagnostic, OneCategory) {
  Table400 table;
  if (GetParam() == Estimator::published) {
    // The nearest rows have c = yes only, those with c = no are far and few.
    table.set(2, [](int64_t i) { return i < 2 ? 0 : 1; });
    Options options = quick(Estimator::published);
    options.neighbours = 3;  // quota 0: no balance
    options.degree = 1;
    EXPECT_TRUE(explain(table, options)(Warning::one_category));
    return;
  }
  // c = no never goes with d = yes.
  table.set(3, [&](int64_t i) {
    return table.inputs[static_cast<size_t>(4 * i + 2)] == 0 ? 0.0 : static_cast<double>(i % 2);
  });
  EXPECT_TRUE(explain(table, quick(GetParam()))(Warning::one_category));
}

TEST_P(Diagnostic, FlatAndSaturatedOutputs) {
  Table400 flat;
  std::fill(flat.outputs.begin(), flat.outputs.end(), 0.25);
  EXPECT_TRUE(explain(flat, quick(GetParam()))(Warning::flat_output));
  Table400 saturated;
  for (int64_t i = 0; i < 400; ++i)
    if (i % 3 != 0) saturated.outputs[static_cast<size_t>(i)] = i % 2;
  Options options = quick(GetParam());
  options.classification = true;
  const Raised raised = explain(saturated, options);
  EXPECT_TRUE(raised(Warning::saturated_output));
  EXPECT_FALSE(raised(Warning::flat_output));
}

TEST_P(Diagnostic, PoorFit) {
  Table400 noise;
  Random random(2);
  for (double& output : noise.outputs) output = random.normal();
  EXPECT_TRUE(explain(noise, quick(GetParam()))(Warning::poor_fit));
}

TEST_P(Diagnostic, IllConditioned) {
  Table400 table;
  table.set(1, [&](int64_t i) { return 1e6 + 1e-5 * table.inputs[static_cast<size_t>(4 * i)]; });
  EXPECT_TRUE(explain(table, quick(GetParam()), {0.5, 1e6 + 0.5e-5, 1, 1})(Warning::ill_conditioned));
}

INSTANTIATE_TEST_SUITE_P(Estimators, Diagnostic,
                         ::testing::Values(Estimator::published, Estimator::kernel, Estimator::forest),
                         [](const auto& estimator) { return std::string(to_string(estimator.param)); });

TEST(Diagnostic, FewEffectiveRows) {
  // Published: the farthest row is so far that only its distance counts for the weights of the rest... so none is left:
  // linear weights of rows at equal distances but one.
  Table400 table(8);
  table.set(0, [](int64_t i) { return i == 0 ? 0.5 : 0.9 + 1e-3 * static_cast<double>(i); });
  table.set(1, [](int64_t i) { return 0.5 + 1e-3 * static_cast<double>(i); });
  Options options = quick(Estimator::published);
  options.neighbours = 8;
  options.degree = 1;
  EXPECT_TRUE(explain(table, options)(Warning::few_effective_rows));
  // Kernel: very short lengths, found from outputs that change with every row.
  Table400 rough(1000);
  for (int64_t i = 0; i < rough.rows(); ++i)
    rough.outputs[static_cast<size_t>(i)] = std::sin(60 * rough.inputs[static_cast<size_t>(4 * i)]) +
                                            std::sin(50 * rough.inputs[static_cast<size_t>(4 * i + 1)]);
  const TableView view{rough.inputs.data(), nullptr, rough.rows(), 4};
  const Explainer explainer(view, rough.outputs, kFeatures, quick(Estimator::kernel));
  EXPECT_TRUE(Raised{to_json(explainer.explain_row(0), kFeatures)}(Warning::few_effective_rows));
}

TEST(Diagnostic, MoreParametersThanRows) {
  Options options = quick(Estimator::published);
  options.neighbours = 20;
  options.degree = 3;
  const Raised raised = explain(Table400(), options);
  EXPECT_TRUE(raised(Warning::few_rows));
  EXPECT_GE(raised.json["diagnostics"]["parameters"].get<int64_t>(), 20);
}

// Too few records to calibrate with: the forest says nothing narrower than the range of the outputs, the kernel warns.
TEST(Diagnostic, TooFewRecordsToCalibrate) {
  const auto calibration_warned = [](const Raised& raised) {
    const auto& warnings = raised.json["warnings"];
    return std::any_of(warnings.begin(), warnings.end(), [](const auto& warning) {
      return warning["text"].template get<std::string>().find("to calibrate the intervals") != std::string::npos;
    });
  };
  for (const int64_t rows : {2, 3, 6, 12}) {
    Table400 table(rows);
    table.set(2, [](int64_t i) { return static_cast<double>(i % 2); });
    table.set(3, [](int64_t i) { return static_cast<double>((i + 1) % 2); });
    Options options = quick(Estimator::forest);
    options.neighbours = rows;
    options.importance = ImportanceKind::difference;
    const auto [low, high] = std::minmax_element(table.outputs.begin(), table.outputs.end());
    for (const bool classification : {false, true}) {
      options.classification = classification;
      const Raised forest = explain(table, options);
      EXPECT_TRUE(forest(Warning::few_rows) && calibration_warned(forest)) << rows;
      const double range = classification ? 1 : *high - *low;
      for (const auto& feature : forest.json["features"]) {
        EXPECT_NEAR(feature["lower"].get<double>(), -range, 1e-12) << rows;
        EXPECT_NEAR(feature["upper"].get<double>(), range, 1e-12) << rows;
      }
    }
    options.classification = false;
    options.estimator = Estimator::kernel;
    EXPECT_TRUE(calibration_warned(explain(table, options))) << rows;
  }
  EXPECT_FALSE(calibration_warned(explain(Table400(), quick(Estimator::forest))));
}

}  // namespace
}  // namespace tessera::explain
