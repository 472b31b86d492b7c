// Speed of the attention floor on one core: dense by length and head size against the FMA peak, and every selector
// against dense on inputs with planted structure. Times are CPU seconds of one thread, medians over repeats; ratios are
// taken within one repeat.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <vector>

#include "fma_peak.h"
#include "measure.h"
#include "tessera/attention/selectors.h"
#include "tessera/base/build_info.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"
#include "tessera/base/statistics.h"

namespace tessera::attention {
namespace {

struct CaseShape {
  int64_t query_rows;
  int64_t key_rows;
  int64_t query_heads;
  int64_t kv_heads;
  int64_t head_dim;
  TileFormat format = TileFormat::f32;
};

// A cache with storage of its own.
struct Case {
  CaseShape shape;
  Tensor queries;               // [query_rows, query_heads, head_dim]
  std::vector<Tensor> storage;  // [kv_heads] tiles as raw words
  std::vector<std::vector<KeyValueTile>> tiles;
  std::vector<HeadKeys> heads;

  AttentionInput input() const {
    return {.queries = queries, .heads = heads, .first_position = shape.key_rows - shape.query_rows};
  }
  // Causal pairs times query heads.
  double pairs() const {
    const auto rows = static_cast<double>(shape.query_rows);
    const auto before = static_cast<double>(shape.key_rows - shape.query_rows);
    return static_cast<double>(shape.query_heads) * (rows * before + rows * (rows + 1) / 2);
  }
  double flops() const { return 4 * pairs() * static_cast<double>(shape.head_dim); }
};

// Channels 1..16 of keys and of plain queries: a rotation at eight frequencies, so that scores have a peak at distance
// zero that falls off over some tens of rows, with weak echoes far away, as rotary position embeddings give.
void plant_position(float* row, int64_t position, float size) {
  double frequency = 0.05;
  for (int64_t i = 0; i < 8; ++i, frequency *= 0.55) {
    row[1 + 2 * i] = size * static_cast<float>(std::cos(frequency * static_cast<double>(position)));
    row[2 + 2 * i] = size * static_cast<float>(std::sin(frequency * static_cast<double>(position)));
  }
}

// N(0, 1) content. With `planted`, the structure that heads of language models show: four sinks, one column in 500, a
// local window, and in odd heads a diagonal at distance 1000 instead of the window; the rest of the mass is diffuse.
Case make_case(const CaseShape& shape, bool planted) {
  Case made{.shape = shape, .queries = {}, .storage = {}, .tiles = {}, .heads = {}};
  Random random(7);
  made.queries = Tensor::empty(DType::f32, {shape.query_rows, shape.query_heads, shape.head_dim});
  float* queries = made.queries.data<float>();
  for (int64_t i = 0; i < made.queries.elements(); ++i) queries[i] = static_cast<float>(random.normal());
  const int64_t group = shape.query_heads / shape.kv_heads;
  const int64_t row_tiles = (shape.key_rows + kTileRows - 1) / kTileRows;
  const int64_t bytes = tile_bytes(shape.format, shape.head_dim);
  const int64_t first_position = shape.key_rows - shape.query_rows;
  std::vector<float> keys(static_cast<size_t>(row_tiles * kTileRows * shape.head_dim));
  std::vector<float> values(keys.size());
  for (int64_t h = 0; h < shape.kv_heads; ++h) {
    for (float& x : keys) x = static_cast<float>(random.normal());
    for (float& x : values) x = static_cast<float>(random.normal());
    if (planted) {
      // Channel 0 marks sinks and columns with a score of 14; a window's peak scores 16.
      const float root = std::sqrt(static_cast<float>(shape.head_dim));
      for (int64_t row = 0; row < shape.key_rows; ++row) {
        float* key = keys.data() + row * shape.head_dim;
        key[0] = row < 4 || row % 500 == 77 ? 14 * root : 0;
        plant_position(key, row, std::sqrt(2 * root));
      }
      for (int64_t row = 0; row < shape.query_rows; ++row) {
        for (int64_t g = 0; g < group; ++g) {
          float* query = queries + (row * shape.query_heads + h * group + g) * shape.head_dim;
          const int64_t target = g % 2 == 1 ? first_position + row - 1000 : first_position + row;
          plant_position(query, target, std::sqrt(2 * root));
          query[0] = 1;
        }
      }
    }
    made.storage.push_back(Tensor::empty(DType::i32, {row_tiles, bytes / 4}));
    std::byte* base = made.storage.back().mutable_raw();
    made.tiles.emplace_back();
    for (int64_t tile = 0; tile < row_tiles; ++tile) {
      const int64_t offset = tile * kTileRows * shape.head_dim;
      encode_tile(base + tile * bytes, shape.format, shape.head_dim,
                  {keys.data() + offset, values.data() + offset, shape.head_dim});
      const auto rows = static_cast<int32_t>(std::min<int64_t>(kTileRows, shape.key_rows - tile * kTileRows));
      made.tiles.back().push_back({base + tile * bytes, rows, shape.format});
    }
  }
  for (const auto& head_tiles : made.tiles)
    made.heads.push_back({.tiles = head_tiles, .positions = {}, .rows = shape.key_rows});
  return made;
}

struct Settings {
  int repeats = 5;
  int64_t largest = 16384;
};

nlohmann::json bench_dense(const Settings& settings, ThreadPool& one) {
  nlohmann::json rows = nlohmann::json::array();
  fmt::print("\ndense prefill, 4 query heads / 2 KV heads, f32 unless said\n{:>8} {:>9} {:>8} {:>10} {:>8}\n", "rows",
             "head_dim", "format", "GFLOP/s", "of peak");
  const auto run = [&](const CaseShape& shape) {
    const Case made = make_case(shape, false);
    std::vector<double> rates;
    std::vector<double> shares;  // of the peak measured right before
    for (int repeat = 0; repeat < settings.repeats; ++repeat) {
      const double peak = bench::measure_fma_peak(one, 1).one_thread;
      rates.push_back(made.flops() / bench::cpu_seconds([&] { attend_dense(made.input(), {.pool = &one}); }) * 1e-9);
      shares.push_back(rates.back() / peak);
    }
    fmt::print("{:>8} {:>9} {:>8} {:>10.1f} {:>7.1f}%\n", shape.key_rows, shape.head_dim, to_string(shape.format),
               median(rates), 100 * median(shares));
    rows.push_back({{"rows", shape.key_rows},
                    {"head_dim", shape.head_dim},
                    {"format", to_string(shape.format)},
                    {"gflops", bench::spread(rates)},
                    {"share_of_peak", bench::spread(shares)}});
  };
  for (const int64_t head_dim : {64, 128}) {
    for (int64_t n = 1024; n <= settings.largest; n *= 2) run({n, n, 4, 2, head_dim});
  }
  for (const int64_t head_dim : {32, 96, 256}) run({2048, 2048, 4, 2, head_dim});
  for (const TileFormat format : {TileFormat::bf16, TileFormat::f16, TileFormat::kivi4, TileFormat::kivi2}) {
    run({4096, 4096, 4, 2, 64, format});
  }
  return rows;
}

nlohmann::json bench_decode(const Settings& settings, ThreadPool& one) {
  nlohmann::json rows = nlohmann::json::array();
  fmt::print("\ndecode, one query row, 32K rows, head_dim 64, 4 KV heads\n{:>6} {:>8} {:>10} {:>8}\n", "group",
             "format", "GFLOP/s", "GB/s");
  for (const TileFormat format : {TileFormat::f32, TileFormat::bf16, TileFormat::f16, TileFormat::kivi4}) {
    for (const int64_t group : {1, 2, 4, 8}) {
      const Case made = make_case({1, 32768, 4 * group, 4, 64, format}, false);
      const double bytes = 4.0 * 32768 / kTileRows * static_cast<double>(tile_bytes(format, 64));
      std::vector<double> rates;
      for (int repeat = 0; repeat < 4 * settings.repeats; ++repeat) {
        rates.push_back(1 / bench::cpu_seconds([&] { attend_dense(made.input(), {.pool = &one}); }) * 1e-9);
      }
      fmt::print("{:>6} {:>8} {:>10.1f} {:>8.1f}\n", group, to_string(format), made.flops() * median(rates),
                 bytes * median(rates));
      rows.push_back({{"group", group},
                      {"format", to_string(format)},
                      {"gflops", made.flops() * median(rates)},
                      {"gbytes_per_second", bytes * median(rates)}});
    }
  }
  return rows;
}

// Mean over rows and heads of |found - exact| / |exact|.
double output_error(const AttentionPartial& found, const AttentionPartial& exact) {
  const int64_t head_dim = exact.out.shape().last();
  double sum = 0;
  for (int64_t i = 0; i < exact.lse.elements(); ++i) {
    double difference = 0;
    double norm = 0;
    for (int64_t c = i * head_dim; c < (i + 1) * head_dim; ++c) {
      const double want = exact.out.data<float>()[c];
      difference += (found.out.data<float>()[c] - want) * (found.out.data<float>()[c] - want);
      norm += want * want;
    }
    sum += std::sqrt(difference / norm);
  }
  return sum / static_cast<double>(exact.lse.elements());
}

// One selector with the pooled mean correction off, of one and of two levels.
nlohmann::json bench_correction(const Case& made, const WorkList& work, const AttentionPartial& dense,
                                const Settings& settings, ThreadPool& one) {
  nlohmann::json rows = nlohmann::json::array();
  for (const int levels : {0, 1, 2}) {
    AttentionPartial found;
    std::vector<double> seconds;
    for (int repeat = 0; repeat < settings.repeats; ++repeat) {
      seconds.push_back(
          bench::cpu_seconds([&] { found = attend(made.input(), work, {.pool = &one, .correction_levels = levels}); }));
    }
    const double error = output_error(found, dense);
    const double skipped = skipped_mass(made.input(), found, 32, {.pool = &one});
    fmt::print("{:>7} {:<44} {:>8.4f} {:>8.4f} {:>9.5f}\n", "", fmt::format("  correction of {} levels", levels),
               median(seconds), error, skipped);
    rows.push_back({{"levels", levels},
                    {"attend_seconds", bench::spread(seconds)},
                    {"output_error", error},
                    {"missing_mass", skipped}});
  }
  return rows;
}

nlohmann::json bench_corrections(const Settings& settings, ThreadPool& one) {
  nlohmann::json rows = nlohmann::json::array();
  fmt::print("\npooled mean correction at equal tiles, 4 query heads / 2 KV heads, head_dim 64\n");
  fmt::print("{:>7} {:<44} {:>8} {:>8} {:>9}\n", "rows", "selector", "seconds", "error", "missing");
  for (const bool planted : {true, false}) {
    for (int64_t n = 4096; n <= std::max<int64_t>(settings.largest, 4096); n *= 4) {
      const Case made = make_case({n, n, 4, 2, 64}, planted);
      const AttentionPartial dense = attend_dense(made.input(), {.pool = &one});
      std::vector<std::unique_ptr<Selector>> selectors;
      selectors.push_back(make_a_shape({.sinks = 128, .window = n / 8}));
      selectors.push_back(make_vertical_slash({.budget = {.vertical = n / 16, .slash = n / 8}}));
      selectors.push_back(make_vertical_slash({.recall = 0.9}));
      selectors.push_back(make_block_sparse({.top_k = n / 64 / 8}));
      for (const auto& selector : selectors) {
        const WorkList work = selector->select(made.input(), {.pool = &one});
        const double density = executed_density(work);
        fmt::print("{:>7} {:<44} density {:.4f}{}\n", n, selector->describe(), density, planted ? "" : ", N(0, 1)");
        rows.push_back({{"rows", n},
                        {"planted", planted},
                        {"selector", selector->describe()},
                        {"density", density},
                        {"corrections", bench_correction(made, work, dense, settings, one)}});
      }
    }
  }
  return rows;
}

nlohmann::json bench_selectors(const Settings& settings, ThreadPool& one) {
  nlohmann::json rows = nlohmann::json::array();
  fmt::print("\nselectors, planted structure, 4 query heads / 2 KV heads, head_dim 64; times over dense\n");
  fmt::print("{:>7} {:<44} {:>8} {:>8} {:>8} {:>8} {:>9}\n", "rows", "selector", "density", "attend", "limit", "select",
             "skipped");
  for (int64_t n = 4096; n <= std::max<int64_t>(settings.largest, 4096); n *= 2) {
    const Case made = make_case({n, n, 4, 2, 64}, true);
    std::vector<std::unique_ptr<Selector>> selectors;
    selectors.push_back(make_a_shape({.sinks = 128, .window = n / 8}));
    selectors.push_back(make_tri_shape({.sinks = 128, .window = n / 8}));
    selectors.push_back(make_vertical_slash({.budget = {.vertical = n / 16, .slash = n / 8}}));
    selectors.push_back(make_vertical_slash({.recall = 0.95}));
    selectors.push_back(make_block_sparse({.top_k = n / 64 / 8}));
    selectors.push_back(make_auto({}));
    for (const auto& selector : selectors) {
      const WorkList work = selector->select(made.input(), {.pool = &one});
      std::vector<double> attend_ratios;
      std::vector<double> select_ratios;
      AttentionPartial sparse;
      for (int repeat = 0; repeat < settings.repeats; ++repeat) {
        const double dense = bench::cpu_seconds([&] { attend_dense(made.input(), {.pool = &one}); });
        attend_ratios.push_back(bench::cpu_seconds([&] { sparse = attend(made.input(), work, {.pool = &one}); }) /
                                dense);
        select_ratios.push_back(bench::cpu_seconds([&] { selector->select(made.input(), {.pool = &one}); }) / dense);
      }
      const double density = executed_density(work);
      const double skipped = skipped_mass(made.input(), sparse, 32, {.pool = &one});
      fmt::print("{:>7} {:<44} {:>8.4f} {:>8.4f} {:>8.4f} {:>8.4f} {:>9.5f}\n", n, selector->describe(), density,
                 median(attend_ratios), 1.15 * density + 0.02, median(select_ratios), skipped);
      rows.push_back({{"rows", n},
                      {"selector", selector->describe()},
                      {"density", density},
                      {"attend_over_dense", bench::spread(attend_ratios)},
                      {"select_over_dense", bench::spread(select_ratios)},
                      {"skipped_mass", skipped}});
    }
  }
  return rows;
}

int run(int argc, char** argv) {
  CLI::App app("Attention benchmark: dense, decode and every selector, on one core");
  Settings settings;
  std::string json_path;
  std::string part = "all";
  app.add_option("--repeats", settings.repeats, "timed repeats of every case")->check(CLI::Range(1, 1000));
  app.add_option("--largest", settings.largest, "largest number of rows")->check(CLI::Range(1024, 1 << 20));
  app.add_option("--part", part, "which part to run")
      ->check(CLI::IsMember({"all", "dense", "decode", "selectors", "correction"}));
  app.add_option("--json", json_path, "also write the results to this file");
  CLI11_PARSE(app, argc, argv);

  ThreadPool one(1);
  const bench::FmaPeak peak = bench::measure_fma_peak(one);
  nlohmann::json result = {
      {"machine", machine_description()}, {"seed", 7}, {"fma_peak_gflops", peak.one_thread}, {"target", peak.target}};
  fmt::print("{}\nFMA peak of one core: {:.1f} GFLOP/s ({})\n", result["machine"].dump(2), peak.one_thread,
             peak.target);
  if (part == "all" || part == "dense") result["dense"] = bench_dense(settings, one);
  if (part == "all" || part == "decode") result["decode"] = bench_decode(settings, one);
  if (part == "all" || part == "selectors") result["selectors"] = bench_selectors(settings, one);
  if (part == "all" || part == "correction") result["correction"] = bench_corrections(settings, one);
  if (!json_path.empty()) write_file_atomically(json_path, result.dump(2) + "\n");
  return 0;
}

}  // namespace
}  // namespace tessera::attention

int main(int argc, char** argv) {
  try {
    return tessera::attention::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
