// LIBSVM's one-vs-one support vector machine on the rows of the experts' table, as an anchor:
//
//   bench_experts_libsvm --train letter/train.csv --test letter/test.csv [--cost 32] [--gamma 0.1] [--out FILE.jsonl]
//
// Features are standardised on the training rows. -b 0: labels by votes. -b 1: probabilities by its own coupling of
// one-vs-one (Platt's sigmoids, Wu, Lin, Weng 2004, second method), which need five more fits per pair.
#include <fmt/format.h>
#include <libsvm/svm.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tessera/base/build_info.h"
#include "tessera/base/clock.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/experts/dataset.h"
#include "tessera/experts/metrics.h"

namespace tessera::experts {
namespace {

struct Settings {
  std::string train, test, out;
  double cost = 32, gamma = 0.1;
};

// One sparse row per input, closed by index -1.
std::vector<std::vector<svm_node>> nodes_of(const Dataset& data, const std::vector<double>& mean,
                                            const std::vector<double>& scale) {
  std::vector<std::vector<svm_node>> rows;
  const auto width = static_cast<size_t>(data.features);
  for (size_t i = 0; i < static_cast<size_t>(data.rows); ++i) {
    std::vector<svm_node> row;
    for (size_t k = 0; k < width; ++k) {
      row.push_back({static_cast<int>(k) + 1, (static_cast<double>(data.values[i * width + k]) - mean[k]) * scale[k]});
    }
    row.push_back({-1, 0});
    rows.push_back(std::move(row));
  }
  return rows;
}

void measure(const Dataset& data, std::vector<double>& mean, std::vector<double>& scale) {
  const auto width = static_cast<size_t>(data.features);
  mean.assign(width, 0), scale.assign(width, 0);
  for (size_t k = 0; k < data.values.size(); ++k) mean[k % width] += static_cast<double>(data.values[k]);
  for (double& value : mean) value /= static_cast<double>(data.rows);
  for (size_t k = 0; k < data.values.size(); ++k) {
    const double gap = static_cast<double>(data.values[k]) - mean[k % width];
    scale[k % width] += gap * gap / static_cast<double>(data.rows);
  }
  for (double& value : scale) value = value > 0 ? 1 / std::sqrt(value) : 0;
}

nlohmann::json run(const Settings& settings) {
  const Dataset train = read_dataset(settings.train, {});
  const Dataset test = read_dataset(settings.test, {.classes = train.classes});
  std::vector<double> mean, scale, labels(train.labels.begin(), train.labels.end());
  measure(train, mean, scale);
  auto rows = nodes_of(train, mean, scale);
  auto questions = nodes_of(test, mean, scale);
  std::vector<svm_node*> pointers;
  for (auto& row : rows) pointers.push_back(row.data());
  svm_problem problem{};
  problem.l = static_cast<int>(train.rows), problem.y = labels.data(), problem.x = pointers.data();
  svm_parameter parameter{};
  parameter.svm_type = C_SVC, parameter.kernel_type = RBF, parameter.gamma = settings.gamma,
  parameter.C = settings.cost;
  parameter.cache_size = 500, parameter.eps = 0.001, parameter.shrinking = 1;
  svm_set_print_string_function([](const char*) {});
  parameter.probability = 0;
  const Stopwatch votes_watch;
  svm_model* voting = svm_train(&problem, &parameter);
  const double votes_seconds = votes_watch.elapsed().cpu_ms / 1000;
  parameter.probability = 1;
  std::srand(1);  // its cross-validation draws from rand()
  const Stopwatch watch;
  svm_model* model = svm_train(&problem, &parameter);
  const double seconds = watch.elapsed().cpu_ms / 1000;
  const auto classes = train.classes.size();
  std::vector<int> order(classes);
  svm_get_labels(model, order.data());
  std::vector<float> probabilities(static_cast<size_t>(test.rows) * classes);
  std::vector<int32_t> votes, coupled;
  std::vector<double> estimates(classes);
  const Stopwatch ask_watch;
  for (size_t i = 0; i < questions.size(); ++i) {
    votes.push_back(static_cast<int32_t>(svm_predict(voting, questions[i].data())));
    coupled.push_back(static_cast<int32_t>(svm_predict_probability(model, questions[i].data(), estimates.data())));
    for (size_t k = 0; k < classes; ++k) {
      probabilities[i * classes + static_cast<size_t>(order[k])] = static_cast<float>(estimates[k]);
    }
  }
  const double us = ask_watch.elapsed().cpu_ms * 1000 / static_cast<double>(test.rows);
  const Scores by_votes = score(probabilities, votes, test.labels, static_cast<int>(classes));
  const Scores by_coupling = score(probabilities, coupled, test.labels, static_cast<int>(classes));
  svm_free_and_destroy_model(&model), svm_free_and_destroy_model(&voting);
  return {{"anchor", "libsvm one-vs-one, rbf"},
          {"cost", settings.cost},
          {"gamma", settings.gamma},
          {"R", 2},
          {"m", classes * (classes - 1) / 2},
          {"votes_fit_cpu_s", votes_seconds},
          {"fit_cpu_s", seconds},
          {"us_per_input", us},
          {"votes_accuracy", by_votes.accuracy},
          {"accuracy", by_coupling.accuracy},
          {"nll", by_coupling.negative_log_likelihood},
          {"ece", by_coupling.calibration_error},
          {"machine", machine_description()}};
}

}  // namespace
}  // namespace tessera::experts

int main(int argc, char** argv) {
  using namespace tessera;
  experts::Settings settings;
  CLI::App app{"LIBSVM one-vs-one with probabilities on a table of rows"};
  app.add_option("--train", settings.train, "training rows")->required();
  app.add_option("--test", settings.test, "test rows")->required();
  app.add_option("--cost", settings.cost, "C");
  app.add_option("--gamma", settings.gamma, "of the radial kernel on standardised features");
  app.add_option("--out", settings.out, "file of JSON lines to append to");
  CLI11_PARSE(app, argc, argv);
  try {
    const nlohmann::json result = experts::run(settings);
    if (!settings.out.empty()) LineLog(settings.out).append(result.dump());
    fmt::print(
        "-b 0: {:.2f} %, fit {:.1f} s; -b 1: {:.2f} %, NLL {:.3f}, ECE {:.3f}, fit {:.1f} s; {:.0f} us per input\n",
        100 * result["votes_accuracy"].get<double>(), result["votes_fit_cpu_s"].get<double>(),
        100 * result["accuracy"].get<double>(), result["nll"].get<double>(), result["ece"].get<double>(),
        result["fit_cpu_s"].get<double>(), result["us_per_input"].get<double>());
  } catch (const Error& error) {
    fmt::print(stderr, "bench_experts_libsvm: {}\n", error.what());
    return 2;
  }
}
