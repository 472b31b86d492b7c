#include "experts_table.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::experts {
namespace {

std::filesystem::path data_folder() {
  if (const char* folder = std::getenv("TESSERA_DATA")) return folder;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return std::filesystem::path(cache) / "tessera/data";
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home != nullptr ? home : ".") / ".cache/tessera/data";
}

// Two-sided 95 % quantile of Student's t for `n` values.
double t_quantile(size_t n) {
  constexpr double kTable[] = {0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262};
  return n >= 2 && n <= 10 ? kTable[n - 1] : 1.96;
}

}  // namespace

Split load_split(const std::string& name) {
  const std::filesystem::path folder = data_folder() / name;
  if (!std::filesystem::exists(folder)) {
    throw Error(ErrorCode::not_found, "{}: no such folder; run scripts/fetch-data {}", folder.string(), name);
  }
  const bool idx = name == "fashion";
  Split split;
  split.train = read_dataset(folder / (idx ? "train-images-idx3-ubyte.gz" : "train.csv"), {});
  split.test =
      read_dataset(folder / (idx ? "t10k-images-idx3-ubyte.gz" : "test.csv"), {.classes = split.train.classes});
  if (name == "digits") {
    for (Dataset* data : {&split.train, &split.test}) data->channels = 1, data->height = 8, data->width = 8;
  }
  return split;
}

LearnerOptions table_settings(const std::string& data, const std::string& kind) {
  LearnerOptions options{.kind = kind, .hidden = 64, .epochs = 10, .learning_rate = 0.002};
  if (data == "letter") options.hidden = 128, options.epochs = 30, options.learning_rate = 0.004;
  if (data == "fashion") options.hidden = 64, options.epochs = kind == "cnn" ? 12 : 6, options.mirror = kind == "cnn";
  if (data == "digits") options.hidden = 64, options.epochs = 40;
  return options;
}

Design table_design(const std::filesystem::path& folder, int classes, int size) {
  if (size >= classes) {
    Design design{.classes = classes, .sets = {{}}};
    for (int k = 0; k < classes; ++k) design.sets[0].push_back(k);
    return design;
  }
  const nlohmann::json file = read_json(folder / fmt::format("{}-{}.json", classes, size));
  return {.classes = classes, .sets = file.at("sets").get<std::vector<std::vector<int>>>()};
}

std::vector<nlohmann::json> read_runs(const std::filesystem::path& path) {
  std::vector<nlohmann::json> runs;
  if (path.empty() || !std::filesystem::exists(path)) return runs;
  const std::string text = read_file(path);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    runs.push_back(parse_json(std::string_view(text).substr(begin, end - begin), path.string()));
    begin = end + 1;
  }
  return runs;
}

Interval interval_of(const std::vector<double>& values) {
  Interval result;
  double square = 0;
  const auto count = static_cast<double>(values.size());
  for (const double value : values) result.mean += value / count;
  for (const double value : values) square += (value - result.mean) * (value - result.mean);
  result.half = values.size() < 2 ? std::numeric_limits<double>::quiet_NaN()
                                  : t_quantile(values.size()) * std::sqrt(square / (count * (count - 1)));
  return result;
}

}  // namespace tessera::experts
