// Speed of tessera::linear at the shapes of the bundled and default models, beside the measured FMA peak.
//
//   build/release/bin/bench_tensor_linear                            table on stdout
//   build/release/bin/bench_tensor_linear --json linear.json         and machine-readable
//   build/release/bin/bench_tensor_linear --types q4_1 --rows 1,512  a part
//
// One thread is measured in CPU time of that thread, so that other programs disturb little; all threads in wall time.
// Every product is checked against fp64 sums at sampled places before it is timed.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "fma_peak.h"
#include "tessera/base/build_info.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"
#include "tessera/base/statistics.h"
#include "tessera/tensor/ops.h"

namespace tessera::bench {
namespace {

const std::map<std::string, DType> kTypes = {{"f32", DType::f32},   {"f16", DType::f16},   {"bf16", DType::bf16},
                                             {"q8_0", DType::q8_0}, {"q4_0", DType::q4_0}, {"q4_1", DType::q4_1}};

struct Matrix {
  const char* name;
  int64_t out, in;
};

constexpr Matrix kMatrices[] = {
    {"smollm2-135m q, o", 576, 576},  {"smollm2-135m k, v", 192, 576},   {"smollm2-135m gate, up", 1536, 576},
    {"smollm2-135m down", 576, 1536}, {"smollm2-135m head", 49152, 576}, {"nano q, o", 256, 256},
    {"nano k, v", 128, 256},          {"nano gate, up", 768, 256},       {"nano down", 256, 768},
    {"nano head", 4096, 256},
};

struct Options {
  std::vector<std::string> types = {"f32", "bf16", "q8_0", "q4_1"};
  std::vector<int64_t> rows = {1, 8, 64, 512};
  int repeats = 9;
  double seconds = 0.02;  // least time of one repeat
  std::string json;
};

struct Timing {
  double median = 0;  // seconds of one call
  double low = 0, high = 0;
};

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Calls body often enough to fill options.seconds, options.repeats times, by the given clock.
template <typename Body>
Timing measure(const Options& options, double (*clock)(), const Body& body) {
  body();  // warm-up
  double start = clock();
  body();
  const auto calls = static_cast<int64_t>(std::ceil(options.seconds / std::max(1e-7, clock() - start)));
  std::vector<double> times;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    start = clock();
    for (int64_t call = 0; call < calls; ++call) body();
    times.push_back((clock() - start) / static_cast<double>(calls));
  }
  return {median(times), *std::min_element(times.begin(), times.end()), *std::max_element(times.begin(), times.end())};
}

Tensor random_weights(DType dtype, int64_t out, int64_t in, uint64_t seed) {
  Tensor weights = Tensor::empty(dtype, {out, in});
  std::vector<float> row(static_cast<size_t>(in));
  Random random(seed);
  for (int64_t n = 0; n < out; ++n) {
    for (float& value : row) value = static_cast<float>(random.uniform() - 0.5) * 3.46F;  // variance 1
    convert_from_f32(row.data(), in, dtype, weights.mutable_raw() + n * row_bytes(dtype, in));
  }
  return weights;
}

// The expected answer: sampled elements of y as fp64 sums over the expanded weights.
void verify(const Tensor& x, const Tensor& weight, const Tensor& y) {
  const int64_t out = weight.shape()[0];
  const int64_t in = weight.shape()[1];
  std::vector<float> row(static_cast<size_t>(in));
  Random random(99);
  for (int sample = 0; sample < 200; ++sample) {
    const int64_t r = random.below(x.shape()[0]);
    const int64_t n = random.below(out);
    convert_to_f32(weight.dtype(), weight.raw() + n * row_bytes(weight.dtype(), in), in, row.data());
    double sum = 0;
    for (int64_t k = 0; k < in; ++k)
      sum += static_cast<double>(x.data<float>()[r * in + k]) * row[static_cast<size_t>(k)];
    const double error = std::fabs(sum - y.data<float>()[r * out + n]);
    if (error > 1e-5 * std::sqrt(static_cast<double>(in)) * 4) {
      throw Error(ErrorCode::internal, "wrong product: element ({}, {}) is off by {}", r, n, error);
    }
  }
}

struct Bench {
  Options options;
  FmaPeak peak;
  ThreadPool one{1};
  nlohmann::json results = nlohmann::json::array();

  void report(std::string_view name, std::string_view type, std::array<int64_t, 3> shape, Timing single, Timing all,
              double bytes) {
    const double work =
        2e-9 * static_cast<double>(shape[0]) * static_cast<double>(shape[1]) * static_cast<double>(shape[2]);
    const double gflops = work / single.median;
    const double gflops_all = work / all.median;
    fmt::print("{:<24}{:>5}{:>7}{:>7}{:>7}{:>9.1f}{:>6.0f} %{:>7.1f}{:>7.1f}{:>10.1f}{:>8.1f}\n", name, type, shape[0],
               shape[1], shape[2], gflops, 100 * gflops / peak.one_thread, work / single.high, work / single.low,
               gflops_all, 1e-9 * bytes / single.median);
    results.push_back({{"matrix", name},
                       {"type", type},
                       {"rows", shape[0]},
                       {"out", shape[1]},
                       {"in", shape[2]},
                       {"gflops_one_thread", gflops},
                       {"gflops_one_thread_low", work / single.high},
                       {"gflops_one_thread_high", work / single.low},
                       {"share_of_peak", gflops / peak.one_thread},
                       {"gflops_all_threads", gflops_all},
                       {"gigabytes_of_weights_per_second", 1e-9 * bytes / single.median}});
  }

  void run(const Matrix& matrix, const std::string& type, int64_t rows) {
    const Tensor weight = random_weights(kTypes.at(type), matrix.out, matrix.in, 1);
    const Tensor x = random_weights(DType::f32, rows, matrix.in, 2);
    Tensor y = Tensor::empty(DType::f32, {rows, matrix.out});
    const auto call = [&](ThreadPool& pool) { linear(x, weight, Tensor(), y, {.pool = &pool}); };
    call(one);
    verify(x, weight, y);
    const Timing single = measure(options, thread_cpu_seconds, [&] { call(one); });
    const Timing all = measure(options, wall_seconds, [&] { call(ThreadPool::shared()); });
    report(matrix.name, type, {rows, matrix.out, matrix.in}, single, all, static_cast<double>(weight.bytes()));
  }

  // All matrices of SmolLM2-135M in the order of one decoded token; the weights come from memory, not from a cache.
  void decode(const std::string& type, int64_t rows) {
    std::vector<Tensor> weights;
    for (int layer = 0; layer < 30; ++layer) {
      for (const auto& [out, in] :
           {std::pair{576, 576}, {192, 576}, {192, 576}, {576, 576}, {1536, 576}, {1536, 576}, {576, 1536}}) {
        weights.push_back(random_weights(kTypes.at(type), out, in, weights.size()));
      }
    }
    weights.push_back(random_weights(kTypes.at(type), 49152, 576, 3));
    const Tensor narrow = random_weights(DType::f32, rows, 576, 4);
    const Tensor wide = random_weights(DType::f32, rows, 1536, 5);
    Tensor memory = Tensor::empty(DType::f32, {rows * 49152});
    const auto token = [&](ThreadPool& pool) {
      for (const Tensor& weight : weights) {
        Tensor y = memory.slice(0, rows * weight.shape()[0]).reshape({rows, weight.shape()[0]});
        linear(weight.shape()[1] == 576 ? narrow : wide, weight, Tensor(), y, {.pool = &pool});
      }
    };
    double bytes = 0;
    int64_t elements = 0;
    for (const Tensor& weight : weights) {
      bytes += static_cast<double>(weight.bytes());
      elements += weight.elements();
    }
    const Timing single = measure(options, thread_cpu_seconds, [&] { token(one); });
    const Timing all = measure(options, wall_seconds, [&] { token(ThreadPool::shared()); });
    report("smollm2-135m whole pass", type, {rows, elements / 576, 576}, single, all, bytes);
    fmt::print("  {:.2f} ms a pass on one thread, {:.2f} ms on all; {:.1f} and {:.1f} passes a second\n",
               1e3 * single.median, 1e3 * all.median, 1 / single.median, 1 / all.median);
  }
};

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Speed of linear layers beside the FMA peak");
  app.add_option("--types", options.types, "element types of the weights")->delimiter(',');
  app.add_option("--rows", options.rows, "rows of x")->delimiter(',');
  app.add_option("--repeats", options.repeats, "repeats of every measurement");
  app.add_option("--json", options.json, "file for machine-readable results");
  CLI11_PARSE(app, argc, argv);
  for (const std::string& type : options.types) {
    if (!kTypes.contains(type)) throw Error(ErrorCode::invalid_argument, "--types: found '{}'", type);
  }
  Bench bench{.options = options, .peak = measure_fma_peak(ThreadPool::shared())};
  fmt::print("{}\n{}: FMA peak {:.1f} GFLOP/s on one thread, {:.1f} on {}\n\n", machine_description().dump(),
             bench.peak.target, bench.peak.one_thread, bench.peak.all_threads, bench.peak.threads);
  fmt::print("{:<24}{:>5}{:>7}{:>7}{:>7}{:>9}{:>8}{:>7}{:>7}{:>10}{:>8}\n", "GFLOP/s", "type", "rows", "out", "in",
             "one", "of peak", "low", "high", "all", "GB/s");
  for (const std::string& type : options.types) {
    for (const int64_t rows : options.rows) {
      for (const Matrix& matrix : kMatrices) bench.run(matrix, type, rows);
      if (rows <= 8) bench.decode(type, rows);
    }
    bench.run({"square", 2048, 2048}, type, 2048);
  }
  if (!options.json.empty()) {
    nlohmann::json document = {{"machine", machine_description()},
                               {"fma_peak",
                                {{"target", bench.peak.target},
                                 {"one_thread", bench.peak.one_thread},
                                 {"all_threads", bench.peak.all_threads},
                                 {"threads", bench.peak.threads}}},
                               {"repeats", options.repeats},
                               {"seed", 1},
                               {"results", bench.results}};
    write_file_atomically(options.json, document.dump(1) + "\n");
  }
  return 0;
}

}  // namespace
}  // namespace tessera::bench

int main(int argc, char** argv) {
  try {
    return tessera::bench::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_tensor_linear: {}\n", error.what());
    return 2;
  }
}
