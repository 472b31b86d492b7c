// Coverings against what is known, one command per question:
//
//   bench_experts_design cells [--seconds 10]    sizes 5 to 16 up to 32 classes: bench/expected_coverings.json
//   bench_experts_design small [--most 100]      sizes 3 and 4, every number of classes
//   bench_experts_design beyond [--seconds 2]    sizes 4 to 8, 33 to 60 classes, of which no table is at hand
//   bench_experts_design planes                  affine and projective planes up to order 16
//   bench_experts_design scale [--seconds 60]    large designs
//   bench_experts_design robust [--seconds 10]   lambda = 3, up to 16 classes
//   bench_experts_design select [--seconds 60]   the fewest of given experts
//   bench_experts_design moves                   annealing proposals per second
//
// Each prints a table and stores it under --out. A cell ends as soon as it meets the expected number or the lower
// bound.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "experts/covering/anneal.h"
#include "measure.h"
#include "tessera/base/build_info.h"
#include "tessera/base/clock.h"
#include "tessera/base/file.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/random.h"
#include "tessera/experts/covering.h"
#include "tessera/experts/select.h"

namespace {

using namespace tessera;
using namespace tessera::experts;

struct Settings {
  double seconds = 10;
  uint64_t seed = 0;
  int from = 5, to = 32, most = 100;
  std::string out = "bench/results/experts";
  std::string expected = "bench/expected_coverings.json";
};

struct Row {
  CoveringProblem problem;
  int64_t expected = 0;  // 0: the lower bound
};

// Runs one problem and appends its line; returns whether it met what was expected.
bool measure(const Row& row, const Settings& settings, nlohmann::json& lines) {
  CoveringOptions options{.seconds = settings.seconds, .seed = settings.seed};
  options.stop_at = row.expected;
  Covering covering;
  const Stopwatch watch;
  const double cpu = bench::cpu_seconds([&] { covering = find_covering(row.problem, options); });
  const double wall = watch.elapsed().wall_ms / 1000;
  const auto sets = static_cast<int64_t>(covering.design.sets.size());
  const int64_t wanted = row.expected > 0 ? row.expected : covering.bound.sets;
  const char* verdict = sets < wanted ? "better" : sets == wanted ? "equal" : "WORSE";
  fmt::print(
      "({:4}, {:3}) lambda {}  sets {:4}  expected {:4} {:6}  bound {:4} ({})  {:8.3f} s wall {:8.3f} s cpu  {}\n",
      row.problem.classes, row.problem.size, row.problem.lambda, sets, wanted, verdict, covering.bound.sets,
      covering.bound.source, wall, cpu, covering.method);
  std::fflush(stdout);
  lines.push_back({{"classes", row.problem.classes},
                   {"size", row.problem.size},
                   {"lambda", row.problem.lambda},
                   {"sets", sets},
                   {"expected", wanted},
                   {"bound", covering.bound.sets},
                   {"bound_source", covering.bound.source},
                   {"seconds", wall},
                   {"cpu_seconds", cpu},
                   {"method", covering.method}});
  return sets <= wanted;
}

void run_rows(const std::string& name, const std::vector<Row>& rows, const Settings& settings) {
  nlohmann::json lines = nlohmann::json::array();
  int64_t met = 0;
  const Stopwatch watch;
  for (const Row& row : rows) {
    if (interrupted()) break;
    met += measure(row, settings, lines) ? 1 : 0;
  }
  double slowest = 0;
  std::vector<double> ratios;
  for (const auto& line : lines) {
    slowest = std::max(slowest, line["seconds"].get<double>());
    ratios.push_back(line["sets"].get<double>() / line["bound"].get<double>());
  }
  fmt::print(
      "{}: {} of {} cells meet what is expected; {:.1f} s in all, slowest {:.3f} s; sets to lower bound: median "
      "{:.3f}, "
      "largest {:.3f}\n",
      name, met, lines.size(), watch.elapsed().wall_ms / 1000, slowest, median(ratios),
      *std::max_element(ratios.begin(), ratios.end()));
  const nlohmann::json document = {{"machine", machine_description()}, {"bench", name}, {"seed", settings.seed},
                                   {"seconds", settings.seconds},      {"met", met},    {"cells", lines}};
  write_file_atomically(settings.out + "/" + name + ".json", document.dump(1) + "\n");
}

std::vector<Row> cells(const Settings& settings) {
  std::vector<Row> rows;
  const nlohmann::json document = read_json(settings.expected);
  for (const auto& cell : document.at("cells")) {
    const int classes = cell[0], size = cell[1];
    if (size < 5 || size > classes - 2 || classes < settings.from || classes > settings.to) continue;
    rows.push_back({.problem = {classes, size, 1}, .expected = cell[2]});
  }
  return rows;
}

std::vector<Row> small(const Settings& settings) {
  std::vector<Row> rows;
  for (int size = 3; size <= 4; ++size) {
    for (int classes = size + 1; classes <= settings.most; ++classes) rows.push_back({.problem = {classes, size, 1}});
  }
  return rows;
}

std::vector<Row> beyond() {
  std::vector<Row> rows;
  for (int size = 4; size <= 8; ++size) {
    for (int classes = 33; classes <= 60; classes += 3) rows.push_back({.problem = {classes, size, 1}});
  }
  return rows;
}

std::vector<Row> planes() {
  std::vector<Row> rows;
  for (const int q : {2, 3, 4, 5, 7, 8, 9, 11, 13, 16}) {
    rows.push_back({.problem = {q * q, q, 1}});
    rows.push_back({.problem = {q * q + q + 1, q + 1, 1}});
  }
  return rows;
}

std::vector<Row> scale() {
  return {{{77, 9, 1}, 90},   {{77, 20, 1}, 21},   {{100, 10, 1}, 130}, {{150, 13, 1}, 181},
          {{174, 20, 1}, 91}, {{256, 16, 1}, 272}, {{1000, 50, 1}, 553}};
}

std::vector<Row> robust() {
  std::vector<Row> rows;
  for (int classes = 5; classes <= 16; ++classes) {
    for (int size = 3; size <= classes - 2; ++size) rows.push_back({.problem = {classes, size, 3}});
  }
  return rows;
}

// Random experts of 3 to 12 classes; sets for the pairs that they leave open replace the last ones, so that every pair
// is held by some candidate.
Design random_candidates(int classes, int64_t experts, uint64_t seed) {
  Random random(seed);
  const auto draw = [&](int size) {
    std::vector<int> all(static_cast<size_t>(classes));
    for (int i = 0; i < classes; ++i) all[static_cast<size_t>(i)] = i;
    random.shuffle(all);
    all.resize(static_cast<size_t>(size));
    std::sort(all.begin(), all.end());
    return all;
  };
  Design design{.classes = classes, .sets = {}};
  for (int64_t j = 0; j < experts; ++j) design.sets.push_back(draw(static_cast<int>(3 + random.below(10))));
  for (;;) {
    const PairCoverage pairs = count_pairs(design, 1);
    if (pairs.uncovered == 0) return design;
    const auto [a, b] = pairs.uncovered_pairs[0];
    std::vector<int> set = draw(static_cast<int>(3 + random.below(10)));
    set[0] = a;
    set[1] = b;
    std::sort(set.begin(), set.end());
    set.erase(std::unique(set.begin(), set.end()), set.end());
    design.sets.push_back(set);
  }
}

void select(const Settings& settings) {
  nlohmann::json lines = nlohmann::json::array();
  for (const int classes : {26, 100}) {
    for (const int64_t experts : {200, 2000}) {
      const Design candidates = random_candidates(classes, experts, settings.seed);
      Selection chosen;
      const Stopwatch watch;
      const double cpu = bench::cpu_seconds([&] {
        chosen = select_experts({.candidates = candidates}, {.seconds = settings.seconds, .seed = settings.seed});
      });
      const double wall = watch.elapsed().wall_ms / 1000;
      const double gap = 100 * (chosen.cost / chosen.lp_bound - 1),
                   proved = 100 * (chosen.cost / chosen.lower_bound - 1);
      fmt::print(
          "K {:3}  candidates {:4}  chosen {:4g}  relaxation {:8.3f} gap {:5.2f} %  proved {:8.3f} ({}) gap {:5.2f} %  "
          "{:.1f} s wall {:.1f} s cpu  {}\n",
          classes, candidates.sets.size(), chosen.cost, chosen.lp_bound, gap, chosen.lower_bound, chosen.bound_source,
          proved, wall, cpu, chosen.method);
      std::fflush(stdout);
      lines.push_back({{"classes", classes},
                       {"candidates", candidates.sets.size()},
                       {"chosen", chosen.cost},
                       {"lp_bound", chosen.lp_bound},
                       {"lower_bound", chosen.lower_bound},
                       {"lower_bound_source", chosen.bound_source},
                       {"gap_to_lp_percent", gap},
                       {"gap_to_bound_percent", proved},
                       {"seconds", wall},
                       {"method", chosen.method}});
    }
  }
  const nlohmann::json document = {{"machine", machine_description()},
                                   {"bench", "select"},
                                   {"seed", settings.seed},
                                   {"seconds", settings.seconds},
                                   {"cells", lines}};
  write_file_atomically(settings.out + "/select.json", document.dump(1) + "\n");
}

void moves(const Settings& settings) {
  nlohmann::json lines = nlohmann::json::array();
  for (const Row& row : {Row{{26, 4, 1}, 57}, Row{{32, 5, 1}, 50}, Row{{32, 6, 1}, 36}, Row{{32, 8, 1}, 18},
                         Row{{64, 8, 1}, 70}, Row{{100, 8, 1}, 180}}) {
    std::vector<double> rates;
    for (uint64_t repeat = 0; repeat < 5; ++repeat) {
      AnnealResult result;
      const double cpu = bench::cpu_seconds(
          [&] { result = anneal(row.problem, row.expected, {.moves = 20'000'000, .seed = settings.seed + repeat}); });
      rates.push_back(static_cast<double>(result.moves) / cpu);
    }
    fmt::print("({:4}, {:3}) {:4} sets: {:.3g} proposals per CPU second\n", row.problem.classes, row.problem.size,
               row.expected, median(rates));
    lines.push_back({{"classes", row.problem.classes},
                     {"size", row.problem.size},
                     {"sets", row.expected},
                     {"moves_per_second", bench::spread(rates)}});
  }
  const nlohmann::json document = {{"machine", machine_description()}, {"bench", "moves"}, {"cells", lines}};
  write_file_atomically(settings.out + "/moves.json", document.dump(1) + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"coverings against what is known"};
  app.option_defaults()->always_capture_default();
  Settings settings;
  app.require_subcommand(1);
  const auto command = [&](const char* name, const char* text, auto action) {
    CLI::App* sub = app.add_subcommand(name, text);
    sub->add_option("--seconds", settings.seconds, "most time per cell");
    sub->add_option("--seed", settings.seed, "of the search");
    sub->add_option("--out", settings.out, "folder of the JSON files");
    sub->add_option("--from", settings.from, "fewest classes (cells)");
    sub->add_option("--to", settings.to, "most classes (cells)");
    sub->add_option("--most", settings.most, "most classes (small)");
    sub->add_option("--expected", settings.expected, "file of known numbers (cells)");
    sub->callback([&settings, action] {
      std::filesystem::create_directories(settings.out);
      action();
    });
  };
  command("cells", "sizes 5 to 16, up to 32 classes", [&] { run_rows("cells", cells(settings), settings); });
  command("small", "sizes 3 and 4", [&] { run_rows("small", small(settings), settings); });
  command("beyond", "sizes 4 to 8, 33 to 60 classes", [&] { run_rows("beyond", beyond(), settings); });
  command("planes", "planes up to order 16", [&] { run_rows("planes", planes(), settings); });
  command("scale", "large designs", [&] { run_rows("scale", scale(), settings); });
  command("robust", "every pair three times", [&] { run_rows("robust", robust(), settings); });
  command("select", "fewest of given experts", [&] { select(settings); });
  command("moves", "speed of annealing", [&] { moves(settings); });
  try {
    catch_interrupts();
    CLI11_PARSE(app, argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_experts_design: {}\n", error.what());
    return 2;
  }
  return 0;
}
