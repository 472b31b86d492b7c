// Point estimates of the published Python code (arXiv 2301.05761), equal to 1e-5.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "explain/simulation.h"
#include "tessera/base/file.h"
#include "tessera/explain/explain.h"

namespace tessera::explain {
namespace {

struct Setting {
  int64_t neighbours;
  int degree;
  double ratio;
  Weights weights;
};

Setting setting(char name) {
  switch (name) {
    case 'A':
      return {66, 4, 0.894, Weights::linear};
    case 'B':
      return {64, 2, 0.75, Weights::none};
    default:
      return {66, 2, 2.0 / 3, Weights::linear};
  }
}

struct Golden {
  uint64_t trial;
  char setting;
  int64_t index_sum;
  double u, v;
  double a[2], b[2];
};

Explanation explain_trial(const Golden& golden) {
  const Simulation simulation(1000 + golden.trial, 2000);
  const Setting chosen = setting(golden.setting);
  Options options = published_options(false);
  options.neighbours = chosen.neighbours;
  options.degree = chosen.degree;
  options.ratio = chosen.ratio;
  options.weights = chosen.weights;
  options.replicates = 50;
  const Explainer explainer(simulation.view(), simulation.outputs, simulation.features, options);
  return explainer.explain(simulation.query);
}

class SimulationGolden : public testing::TestWithParam<Golden> {};

TEST_P(SimulationGolden, EqualsThePublishedCode) {
  const Golden& golden = GetParam();
  const Explanation answer = explain_trial(golden);
  EXPECT_EQ(std::accumulate(answer.neighbours.begin(), answer.neighbours.end(), int64_t{0}), golden.index_sum);
  EXPECT_NEAR(answer.features[0].importance, golden.u, 1e-5);
  EXPECT_NEAR(answer.features[1].importance, golden.v, 1e-5);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(answer.features[2].contrasts[i].importance, golden.a[i], 1e-5);
    EXPECT_NEAR(answer.features[3].contrasts[i].importance, golden.b[i], 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Spec, SimulationGolden,
    testing::Values(
        Golden{0, 'A', 61400, -1.659348, 2.553523, {-2.015192, -1.398754}, {0.698360, 0.794256}},
        Golden{0, 'B', 58579, 0.368867373, -0.181460469, {-0.117368527, 0.033359580}, {-0.044929826, 0.194255414}},
        Golden{0, 'C', 61400, 0.416153959, -0.108361651, {-0.120275338, 0.027700461}, {0.054131205, 0.271716966}},
        Golden{1, 'A', 66068, -0.079741605, -0.024428248, {-0.048144152, 0.026756381}, {-0.023585270, 0.017823770}},
        Golden{1, 'C', 66068, 0.030407404, -0.050898100, {-0.038739877, 0.007771066}, {-0.017842510, 0.002302462}},
        Golden{2, 'B', 64037, -0.003057604, 0.015395196, {0.006415252, 0.003302200}, {0.001515088, 0.000405860}}));

TEST(SimulationGoldenTable, DataAndPredictionAreReproduced) {
  const Simulation simulation(1000, 2000);
  EXPECT_NEAR(simulation.inputs[0], -2.65156117, 1e-8);
  EXPECT_NEAR(simulation.outputs[0], 0.028775604227882626, 1e-15);
  EXPECT_NEAR(std::accumulate(simulation.outputs.begin(), simulation.outputs.end(), 0.0), 10.028192251571, 1e-9);
  EXPECT_NEAR(explain_trial({0, 'A', 0, 0, 0, {}, {}}).prediction, 0.844544275, 1e-6);
  EXPECT_NEAR(explain_trial({0, 'B', 0, 0, 0, {}, {}}).prediction, 0.423702027, 1e-8);
  EXPECT_NEAR(explain_trial({0, 'C', 0, 0, 0, {}, {}}).prediction, 0.438246856, 1e-8);
}

std::filesystem::path shared_data() {
  if (const char* folder = std::getenv("TESSERA_SHARED_DATA"); folder != nullptr)
    return std::filesystem::path(folder) / "explain";
  return std::filesystem::path(TESSERA_SOURCE_DIR) / ".." / "shared" / "data" / "explain";
}

Options options_of(const nlohmann::json& test) {
  Options options = published_options(test["mode"] == "classification");
  options.neighbours = test["neighbours"];
  options.degree = test["degree"];
  options.weights = test["weighted"] ? Weights::linear : Weights::none;
  options.importance = test["type"] == "diffs" ? ImportanceKind::difference : ImportanceKind::gradient;
  options.replicates = 20;
  return options;
}

TEST(RealDataGolden, EqualsThePublishedCode) {
  if (!std::filesystem::exists(shared_data() / "golden_reference.json")) {
    GTEST_SKIP() << "no golden_reference.json in " << shared_data() << "; set TESSERA_SHARED_DATA";
  }
  const nlohmann::json golden = read_json(shared_data() / "golden_reference.json");
  ReadOptions reading;
  reading.categorical = golden["categorical"].get<std::vector<std::string>>();
  const Table table = read_table(shared_data() / golden["table"].get<std::string>(), reading);
  std::vector<double> inputs, outputs;
  std::vector<Feature> features;
  for (const std::string name : golden["features"]) {
    const Column& column = table.columns[static_cast<size_t>(table.column(name))];
    Feature feature{name, column.kind, column.levels, {}, {}};
    if (golden["deltas"].contains(name)) feature.delta = golden["deltas"][name].get<double>();
    features.push_back(feature);
  }
  for (int64_t i = 0; i < table.rows; ++i) {
    for (const Feature& feature : features) inputs.push_back(table.at(i, table.column(feature.name)));
    outputs.push_back(table.at(i, table.column("model_output")));
  }
  const TableView view{inputs.data(), nullptr, table.rows, static_cast<int64_t>(features.size())};
  for (const nlohmann::json& test : golden["cases"]) {
    const Explainer explainer(view, outputs, features, options_of(test));
    const Explanation answer = explainer.explain_row(test["row"]);
    EXPECT_EQ(answer.diagnostics.parameters, test["parameters"]);
    for (size_t j = 0; j < features.size(); ++j) {
      const double expected = test["importance"][j];
      EXPECT_NEAR(answer.features[j].importance, expected, 1e-5) << test.dump() << features[j].name;
      if (!test["baseline"][j].is_null()) {
        EXPECT_EQ(answer.features[j].baseline, test["baseline"][j].get<double>());
      }
    }
  }
}

}  // namespace
}  // namespace tessera::explain
