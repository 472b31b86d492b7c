#include "explain_tables.h"

#include <fmt/format.h>

#include <cmath>

#include "tessera/base/file.h"
#include "tessera/base/statistics.h"

namespace tessera::explain {
namespace {

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double error_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const auto count = static_cast<double>(values.size());
  return std::sqrt(squares / (count * std::max(1.0, count - 1)));
}

}  // namespace

nlohmann::json summarise(const std::string& name, const Trials& trials, double cpu_ms) {
  std::vector<double> coverage, score, width, all_width, error;
  std::vector<std::vector<double>> per_target(trials[0].size());
  for (const auto& trial : trials) {
    double inside = 0, scores = 0, widths = 0;
    for (size_t t = 0; t < trial.size(); ++t) {
      inside += trial[t].covered();
      scores += trial[t].score();
      widths += trial[t].width();
      all_width.push_back(trial[t].width());
      error.push_back(std::abs(trial[t].estimate - trial[t].truth));
      per_target[t].push_back(trial[t].covered());
    }
    const auto count = static_cast<double>(trial.size());
    coverage.push_back(inside / count);
    score.push_back(scores / count);
    width.push_back(widths / count);
  }
  nlohmann::json row = {{"name", name},
                        {"trials", trials.size()},
                        {"coverage", mean_of(coverage)},
                        {"coverage_se", error_of(coverage)},
                        {"mean_width", mean_of(width)},
                        {"mean_width_se", error_of(width)},
                        {"median_width", median(all_width)},
                        {"interval_score", mean_of(score)},
                        {"interval_score_se", error_of(score)},
                        {"median_error", median(error)},
                        {"mean_error", mean_of(error)},
                        {"cpu_ms", cpu_ms}};
  std::string targets;
  for (const auto& values : per_target) {
    row["target_coverage"].push_back(mean_of(values));
    if (per_target.size() <= 8) targets += fmt::format(" {:.3f}", mean_of(values));
  }
  fmt::print(
      "{:34} T={:4} coverage {:.3f} ± {:.3f} [{} ] width {:.3f} ± {:.3f} median {:.3f} IS {:.3f} ± {:.3f} error median "
      "{:.4f} mean {:.4f} cpu {:.2f} ms\n",
      name, trials.size(), mean_of(coverage), error_of(coverage), targets, mean_of(width), error_of(width),
      median(all_width), mean_of(score), error_of(score), median(error), mean_of(error), cpu_ms);
  std::fflush(stdout);
  return row;
}

Report::Report(nlohmann::json head, std::filesystem::path file) : content_(std::move(head)), file_(std::move(file)) {
  nlohmann::json before;
  if (!file_.empty() && std::filesystem::exists(file_)) before = nlohmann::json::parse(read_file(file_));
  const auto same = [&](const char* key) { return before.contains(key) && before[key] == content_[key]; };
  const bool resumes =
      same("table") && same("commit") && same("first_seed") && same("trials") && !before.value("complete", true);
  content_["rows"] = resumes ? before["rows"] : nlohmann::json::array();
  content_["complete"] = false;
}

void Report::save() const {
  if (!file_.empty()) write_file_atomically(file_, content_.dump(1) + "\n");
}

Options published(int64_t neighbours, int degree, double ratio, Weights weights) {
  Options options = published_options(false);
  options.neighbours = neighbours;
  options.degree = degree;
  options.ratio = ratio;
  options.weights = weights;
  return options;
}

Options mimic() {
  Options options;
  options.estimator = Estimator::forest;
  return options;
}

}  // namespace tessera::explain
