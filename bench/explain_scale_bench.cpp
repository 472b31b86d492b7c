// What large tables cost: docs/explain.md, "Scale" (S1 to S3), one thread unless said.
//
//   bench_explain_scale one    [--rows 1000000]  one explanation, by an index and by a scan of all rows
//   bench_explain_scale table  [--rows 1000000] [--explained 20000]  a stretch of rows of the whole-table report
//   bench_explain_scale file   [--rows 100000000] --folder DIR  a float32 file: index it, open it again, answer
//
// Tables hold 8 features uniform on [0, 1] as float32 and f = sin(3 x0) x1 + x2^2 + 0.3 x3, or for `file` 7 features
// and f as the eighth column. --json FILE stores the figures.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "explain/row_search.h"
#include "tessera/base/build_info.h"
#include "tessera/base/clock.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"
#include "tessera/base/statistics.h"
#include "tessera/base/thread_pool.h"
#include "tessera/explain/explain.h"

namespace tessera::explain {
namespace {

std::vector<Feature> features(int64_t count) {
  std::vector<Feature> result;
  for (int64_t j = 0; j < count; ++j) result.push_back({"x" + std::to_string(j), ColumnKind::continuous, {}, {}, {}});
  return result;
}

double black_box(const float* x) { return std::sin(3 * x[0]) * x[1] + x[2] * x[2] + 0.3 * x[3]; }

struct Uniform {
  std::vector<float> inputs;
  std::vector<double> outputs;
  int64_t rows;
  explicit Uniform(int64_t count) : rows(count) {
    inputs.resize(static_cast<size_t>(rows) * 8);
    Random random(1);
    for (float& x : inputs) x = static_cast<float>(random.uniform());
    for (int64_t i = 0; i < rows; ++i) outputs.push_back(black_box(inputs.data() + 8 * i));
  }
  TableView view() const { return {nullptr, inputs.data(), rows, 8}; }
};

struct Case {
  std::string name;
  Options options;
};

std::vector<Case> cases() {
  Options classical = published_options(false);
  classical.interval = IntervalKind::delete_one;
  Options kernel;
  kernel.estimator = Estimator::kernel;
  return {{"default (kernel), 150 rows, conformal", kernel},
          {"published, 150 rows, degree 2, delete-one", classical},
          {"published, 150 rows, degree 2, 1000 replicates", published_options(false)}};
}

struct Times {
  double median_ms = 0, low_ms = 0, high_ms = 0, wall_ms = 0;
};

template <typename Body>
Times time_each(int64_t count, const Body& body) {
  std::vector<double> cpu, wall;
  for (int64_t i = 0; i < count; ++i) {
    const Stopwatch watch;
    body(i);
    cpu.push_back(watch.elapsed().cpu_ms);
    wall.push_back(watch.elapsed().wall_ms);
  }
  return {median(cpu), quantile(cpu, 0.05), quantile(cpu, 0.95), median(wall)};
}

nlohmann::json report(const std::string& name, const Times& times) {
  fmt::print("  {:58} {:9.3f} ms CPU (5 to 95 %: {:.3f} to {:.3f})\n", name, times.median_ms, times.low_ms,
             times.high_ms);
  std::fflush(stdout);
  return {{"name", name},
          {"cpu_ms", times.median_ms},
          {"cpu_ms_5", times.low_ms},
          {"cpu_ms_95", times.high_ms},
          {"wall_ms", times.wall_ms}};
}

nlohmann::json one(int64_t rows) {
  const Uniform table(rows);
  nlohmann::json result;
  for (const bool indexed : {true, false}) {
    const Stopwatch building;
    const auto index = TableIndex::build(table.view(), features(8), {.tree_features = indexed ? 10 : 0});
    const std::string kind = indexed ? "indexed" : "scan";
    fmt::print("{} rows x 8, {}: built in {:.2f} s CPU, {:.0f} MB\n", rows, kind, building.elapsed().cpu_ms / 1000,
               static_cast<double>(index->bytes()) / 1e6);
    const RowSearch search(table.view(), index);
    const auto query = [&](int64_t i) {
      std::vector<double> values;
      for (int64_t j = 0; j < 8; ++j) values.push_back(table.view().at(i * 9973 % rows, j));
      return values;
    };
    result.push_back(report(kind + ": the 150 nearest rows", time_each(indexed ? 301 : 51, [&](int64_t i) {
                              (void)search.nearest(query(i), search.standard_metric(), 150);
                            })));
    for (const Case& c : cases()) {
      const Explainer explainer(table.view(), table.outputs, features(8), c.options, index);
      (void)explainer.explain_row(0);  // what a table costs once is paid
      result.push_back(report(kind + ": " + c.name, time_each(indexed ? 301 : 51, [&](int64_t i) {
                                (void)explainer.explain_row(i * 9973 % rows);
                              })));
    }
  }
  return result;
}

nlohmann::json whole_table(int64_t rows, int64_t explained) {
  const Uniform table(rows);
  nlohmann::json result;
  for (const Case& c : cases()) {
    if (c.options.interval == IntervalKind::percentile) continue;
    const Explainer explainer(table.view(), table.outputs, features(8), c.options);
    (void)explainer.explain_row(0);
    const Stopwatch watch;
    size_t bytes = 0;
    // Rows spread over the table, chunk by chunk, each written as its line of JSON, like the program does.
    for (int64_t done = 0; done < explained; done += 100) {
      const int64_t begin = done * (rows - 100) / std::max<int64_t>(1, explained);
      for (const Explanation& answer : explainer.explain_rows(begin, begin + 100))
        bytes += to_json(answer, explainer.features()).dump().size() + 1;
    }
    const Elapsed elapsed = watch.elapsed();
    const double each = elapsed.cpu_ms / static_cast<double>(explained);
    fmt::print("{} of {} rows, {}: {:.3f} ms CPU each, {:.0f} bytes of JSON each; all rows: {:.1f} core-minutes\n",
               explained, rows, c.name, each, static_cast<double>(bytes) / static_cast<double>(explained),
               each * static_cast<double>(rows) / 60000);
    result.push_back({{"name", c.name},
                      {"rows", rows},
                      {"explained", explained},
                      {"cpu_ms_each", each},
                      {"core_minutes_all", each * static_cast<double>(rows) / 60000}});
  }
  return result;
}

// A .npy file written in pieces.
void write_table(const std::filesystem::path& path, int64_t rows) {
  std::ofstream file(path, std::ios::binary);
  std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 8), }}", rows);
  header.resize(128 - 10 - 1, ' ');
  header += '\n';
  file.write("\x93NUMPY\x01\x00\x76\x00", 10);
  file << header;
  Random random(1);
  std::vector<float> piece(8 << 16);
  for (int64_t done = 0; done < rows;) {
    const int64_t count = std::min<int64_t>(1 << 16, rows - done);
    for (int64_t i = 0; i < count; ++i) {
      float* x = piece.data() + 8 * i;
      for (int j = 0; j < 7; ++j) x[j] = static_cast<float>(random.uniform());
      x[7] = static_cast<float>(black_box(x));
    }
    file.write(reinterpret_cast<const char*>(piece.data()), count * 32);
    done += count;
  }
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

nlohmann::json from_file(int64_t rows, const std::filesystem::path& folder) {
  const std::filesystem::path data = folder / "explain_scale.npy", index_path = folder / "explain_scale.npy.index";
  if (!std::filesystem::exists(data)) write_table(data, rows);
  const MappedTable table(data);
  rows = table.rows();
  const std::vector<int64_t> picked = {0, 1, 2, 3, 4, 5, 6};
  const TableView view = table.view(picked);
  nlohmann::json result = {{"rows", rows}, {"table_bytes", std::filesystem::file_size(data)}};
  if (!std::filesystem::exists(index_path)) {
    const Stopwatch watch;
    const auto built = TableIndex::build(view, features(7), {.file = index_path, .outputs = {7}});
    const Elapsed elapsed = watch.elapsed();
    fmt::print("{} rows x 8: indexed in {:.1f} s ({:.1f} s CPU), {:.0f} MB beside {:.0f} MB\n", rows,
               elapsed.wall_ms / 1000, elapsed.cpu_ms / 1000, static_cast<double>(built->bytes()) / 1e6,
               static_cast<double>(std::filesystem::file_size(data)) / 1e6);
    result["index_s"] = elapsed.wall_ms / 1000;
    result["index_cpu_s"] = elapsed.cpu_ms / 1000;
    result["index_bytes"] = built->bytes();
  }
  for (const Case& c : cases()) {
    const Stopwatch opening;
    const auto index = TableIndex::open(index_path, view, features(7));
    const double index_ms = opening.elapsed().wall_ms;
    const Explainer explainer(view, index->output(view, 7), features(7), c.options, index);
    const double open_ms = opening.elapsed().wall_ms;
    (void)explainer.explain_row(1);
    const double first_ms = opening.elapsed().wall_ms - open_ms;
    fmt::print("{}: index open in {:.1f} ms, explainer in {:.1f} ms, first answer {:.1f} ms\n", c.name, index_ms,
               open_ms, first_ms);
    const std::string learned = explainer.learned();
    double again_ms = 0;  // a fresh explainer with what was learned: open, index and the first answer
    if (!learned.empty()) {
      const Stopwatch again;
      const auto same = TableIndex::open(index_path, view, features(7));
      const Explainer restored(view, same->output(view, 7), features(7), c.options, same, learned);
      (void)restored.explain_row(1);
      again_ms = again.elapsed().wall_ms;
      fmt::print("{}: opened and answered in {:.1f} ms with what was learned\n", c.name, again_ms);
    }
    const Times times = time_each(101, [&](int64_t i) { (void)explainer.explain_row((i * 999983) % rows); });
    nlohmann::json row = report(c.name, times);
    row["open_and_answer_with_learned_ms"] = again_ms;
    row["open_index_ms"] = index_ms;
    row["open_ms"] = open_ms;
    row["first_answer_ms"] = first_ms;
    result["answers"].push_back(row);
  }
  return result;
}

int run(int argc, char** argv) {
  CLI::App app{"what large tables cost"};
  std::string what, json, folder = ".";
  int64_t rows = 0, explained = 20000;
  int threads = 1;
  app.add_option("table", what, "one, table or file")->required();
  app.add_option("--rows", rows, "of the table");
  app.add_option("--explained", explained, "table: rows explained");
  app.add_option("--folder", folder, "file: where the table and its index are kept");
  app.add_option("--threads", threads, "");
  app.add_option("--json", json, "file to write");
  CLI11_PARSE(app, argc, argv);
  ThreadPool::set_default_threads(threads);
  nlohmann::json result = {{"machine", machine_description()}, {"table", what}, {"threads", threads}};
  fmt::print("{}\n", result["machine"].dump());
  if (rows == 0) rows = what == "file" ? 100000000 : 1000000;
  if (what == "one") result["result"] = one(rows);
  if (what == "table") result["result"] = whole_table(rows, explained);
  if (what == "file") result["result"] = from_file(rows, folder);
  if (!json.empty()) write_file_atomically(json, result.dump(1) + "\n");
  return 0;
}

}  // namespace
}  // namespace tessera::explain

int main(int argc, char** argv) { return tessera::explain::run(argc, argv); }
