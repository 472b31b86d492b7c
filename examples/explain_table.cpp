// A service logged what it saw and what its model answered. What drove one answer, and what drives the model overall?
//
//   build/release/bin/example_explain_table
#include "tessera/explain.h"

#include <cmath>
#include <cstdio>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/base/random.h"

using namespace tessera;
using namespace tessera::explain;

int main() {
  // The log: 3 inputs per row, row-major, and one output per row. The table is borrowed, never copied.
  std::vector<float> inputs;
  std::vector<double> outputs;
  Random random(1);
  for (int row = 0; row < 2000; ++row) {
    const double age = 20 + 60 * random.uniform(), income = random.uniform();
    const auto member = static_cast<double>(random.below(2));
    for (const double x : {age, income, member}) inputs.push_back(static_cast<float>(x));
    outputs.push_back(1 / (1 + std::exp(-(0.05 * (age - 50) + 2 * income * member))));  // the black box
  }
  const TableView table{nullptr, inputs.data(), 2000, 3};
  const std::vector<Feature> features = {
      {"age", ColumnKind::continuous, {}, {}, 10.0},  // explained over steps of 10 years
      {"income", ColumnKind::continuous, {}, {}, {}},
      {"member", ColumnKind::categorical, {"no", "yes"}, {}, {}}};
  try {
    const Explainer explainer(table, outputs, features,
                              {.importance = ImportanceKind::difference, .classification = true});
    const Explanation answer = explainer.explain_row(26);
    std::printf("row 26: the model said %.3f\n", answer.output);
    for (size_t j = 0; j < features.size(); ++j) {
      const FeatureImportance& f = answer.features[j];
      std::printf("  %-8s %+.3f, between %+.3f and %+.3f\n", features[j].name.c_str(), f.importance, f.lower, f.upper);
    }
    for (const WarningText& warning : answer.warnings) std::printf("  ! %s\n", warning.text.c_str());
    Summary summary(features, "approval");
    for (const Explanation& each : explainer.explain_rows(0, 200)) summary.add(each);
    std::printf("%lld rows summarised\n", static_cast<long long>(summary.rows()));
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return 0;
}
