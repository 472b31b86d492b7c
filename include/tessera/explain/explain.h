// What drove a black box near one input, and how sure are we, from logged inputs and outputs alone.
//
//   Explainer explainer({x.data(), nullptr, rows, columns}, y, features, {.importance = ImportanceKind::gradient});
//   Explanation answer = explainer.explain_row(26);
//   answer.features[0].importance, .lower, .upper
//
// The table is borrowed and must outlive the explainer. Row-major, one column per feature; categorical columns hold
// codes 0..C-1. The model is never called.
//
// Estimators
//   published   local polynomial regression among the nearest rows with a bootstrap, exactly as in Ahn, Grana,
//               Tamene, Holsheimer, "Uncertainty Quantification for Local Model Explanations Without Model Access"
//               (arXiv 2301.05761), refitted in closed form. Cost per answer: one QR of neighbours x parameters and
//               one small Cholesky per replicate, independent of the number of rows once the neighbours are known.
//   kernel      local kernel regression (Gaussian process) in the cell of rows that share the query's categories, or
//               with a product kernel over categories where cells are thin; mixed over smoothness and bandwidth;
//               intervals scaled by conformal calibration on held-out records. Cost per answer: O(rows_used^3), 150
//               rows by default.
//   forest      trees that mimic the model, extremely randomised (Geurts et al. 2006) or with best splits (Breiman
//               2001), whichever predicts held-out records better, same conformal layer; for step-like outputs such
//               as those of forests.
//   automatic   kernel or forest, whichever predicts held-out records better.
//
// Errors: Error(invalid_argument) in one sentence naming row and column. Everything after construction is thread-safe,
// and every answer depends on the table, the options and the seed only, never on the thread count or on earlier
// answers.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/explain/table.h"
#include "tessera/explain/table_index.h"

namespace tessera::explain {

enum class Estimator { automatic, kernel, forest, published };
enum class Weights { linear, none };
// A local polynomial with no fewer parameters than rows: shrunk by a ridge penalty chosen by generalised
// cross-validation, in units of the query and the columns' deviations, or the minimum-norm solution in raw units, as
// the published code does.
enum class UnderDetermined { ridge, minimum_norm };
enum class ImportanceKind { gradient, difference };
enum class IntervalKind { conformal, percentile, basic, bca, studentised, delete_one, classical };

// Parse the words of the command line ("delete-one", ...). Throw Error(invalid_argument) listing the choices.
Estimator parse_estimator(std::string_view word);
Weights parse_weights(std::string_view word);
ImportanceKind parse_importance(std::string_view word);
IntervalKind parse_interval(std::string_view word);
const char* to_string(Estimator estimator);
const char* to_string(IntervalKind kind);

struct Options {
  Estimator estimator = Estimator::automatic;
  // `published` offers percentile, basic, bca, studentised, delete_one and classical; kernel and forest are conformal.
  IntervalKind interval = IntervalKind::conformal;
  ImportanceKind importance = ImportanceKind::gradient;
  bool classification = false;        // outputs are probabilities; importance is on the probability scale
  int64_t neighbours = 150;           // rows near the query that take part
  int degree = 2;                     // of the local polynomial (published), 1 to 6
  Weights weights = Weights::linear;  // published: linear in the distance, or none
  UnderDetermined under_determined = UnderDetermined::ridge;  // published
  int64_t replicates = 1000;                                  // bootstrap refits (published)
  double ratio = 2.0 / 3.0;  // share of the neighbours drawn per replicate, without replacement (published)
  double level = 0.95;       // coverage promised, in (0, 1)
  uint64_t seed = 0;
  // published, classification: log-odds of probabilities held at least this far from 0 and 1. The published code moves
  // only exact 0 and 1, and by 1e-8: set 0 for that. Default: a forest of 100 trees cannot resolve less.
  double clip = 0.005;
  bool output_known = true;   // the query's own logged output may be used when the query is a row of the table
  int64_t calibration = 200;  // held-out records behind the conformal factors
  int64_t trees = 200;        // forest
};

// The settings of the published program: percentile intervals, 1e-8 clipping.
Options published_options(bool classification);

enum class Warning {
  extrapolation,       // the query or its step lies outside the data near it
  few_rows,            // fewer rows than parameters, or than asked for
  one_category,        // a category is missing among the rows used, so its contrast rests on others
  flat_output,         // all outputs near the query are equal
  saturated_output,    // most outputs near the query are exactly 0 or 1
  poor_fit,            // held-out outputs near the query are not predicted
  ill_conditioned,     // the local design is close to singular
  few_effective_rows,  // the weights leave few rows
  quantile_crossing,   // several outputs are quantiles and their local fits cross
};
constexpr int kWarnings = 9;
const char* to_string(Warning warning);
// What a flag means, in a few words; the flag itself when it is unknown.
std::string meaning_of(std::string_view flag);

struct WarningText {
  Warning flag;
  std::string text;  // one plain sentence
};

// Importance of one level against the baseline (categorical features; "what if").
struct Contrast {
  int64_t level = 0;  // code
  double importance = 0;
  double lower = 0;
  double upper = 0;
};

struct FeatureImportance {
  double value = 0;       // the query's
  double baseline = 0;    // categorical: code compared with; otherwise NaN
  double importance = 0;  // gradient: output units per input unit; difference or category: output units
  double lower = 0;
  double upper = 0;
  std::vector<Contrast> contrasts;                         // categorical: every level except the baseline, ascending
  double step = std::numeric_limits<double>::quiet_NaN();  // difference of a continuous feature: its whole width
};

struct Diagnostics {
  int64_t rows_used = 0;
  int64_t parameters = 0;         // kernel: effective degrees of freedom, rounded
  double effective_rows = 0;      // (sum w)^2 / sum w^2 (Kish)
  double local_r2 = 0;            // of held-out (leave-one-out) predictions among the rows used; NaN when flat
  double condition = 0;           // of the local design (kernel, forest: of the continuous features' correlations)
  double distance = 0;            // to the nearest other row used, in units of the typical such distance near it
  double calibration_factor = 0;  // conformal: multiplies the model's own standard errors; 0 when not used
  int64_t calibration_records = 0;
};

struct Explanation {
  int64_t row = -1;       // of the table, or -1
  double prediction = 0;  // of the local fit at the query
  double output = 0;      // logged output when the query is a row of the table, otherwise NaN
  Estimator estimator = Estimator::published;
  std::vector<FeatureImportance> features;  // in the table's order
  Diagnostics diagnostics;
  std::vector<WarningText> warnings;
  std::vector<int64_t> neighbours;  // rows used, nearest first
};

// One point of a slice: the local fit along one feature with everything else at the query.
struct SlicePoint {
  double x = 0;
  double fit = 0;
};

class Explainer {
 public:
  // inputs: [rows, features.size()], outputs: [rows]. Checks everything. index: of these inputs and features, shared by
  // several explainers of one table or kept in a file; null: built here, in O(rows log rows).
  // learned: what an earlier explainer of this table returned from learned(); other text, or that of another table,
  // output or options, is not used.
  Explainer(TableView inputs, ColumnView outputs, std::vector<Feature> features, Options options,
            std::shared_ptr<const TableIndex> index = nullptr, std::string_view learned = {});
  ~Explainer();
  Explainer(Explainer&&) noexcept;

  // Row of the table, 0-based. Its own logged output is used unless options.output_known is false.
  Explanation explain_row(int64_t row) const;

  // A point given by its feature values.
  Explanation explain(std::span<const double> query) const;

  // The local fit at `points` values of one continuous feature around `explanation`'s query (for plots).
  std::vector<SlicePoint> slice(std::span<const double> query, int64_t feature, std::span<const double> at) const;

  // Rows [begin, end) on the shared pool; result i belongs to row begin + i.
  std::vector<Explanation> explain_rows(int64_t begin, int64_t end) const;

  const std::vector<Feature>& features() const;
  const Options& options() const;
  TableView inputs() const;
  ColumnView outputs() const;
  // Which estimator `automatic` chose, and why, in one sentence.
  Estimator estimator() const;
  std::string choice() const;
  // The kernels and conformal factors learned so far, and the choice of the estimator, as JSON to keep beside the
  // table's index: learning them takes most of a first answer's time. Empty where the estimator learns no kernel.
  std::string learned() const;

  struct Implementation;

 private:
  std::unique_ptr<Implementation> implementation_;
};

// {"row", "prediction", "features": [{"name", "type", "value", "baseline", "importance", "lower", "upper",
// "step" (of a difference), "contrasts" (of a category)}],
//  "diagnostics", "flags": {flag: whether it is raised, all of them}, "warnings": [{"flag", "text"}]}
nlohmann::json to_json(const Explanation& explanation, const std::vector<Feature>& features);

}  // namespace tessera::explain
