// Cost and loss of the cache floor on one core.
//
// Speed: bookkeeping of a decode step against the dense attention of that step, forks, prefill appends, and every
// policy and loader against dense attention of the same queries. Times are CPU seconds of one thread, medians over
// repeats; ratios are taken within one repeat. Loss: on planted topics, the share of attention mass that a query keeps
// when the policy saw its topic in the window (seen) and when it did not (unseen: the second question on the same
// context), and the relative error of the output.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <vector>

#include "fma_peak.h"
#include "measure.h"
#include "tessera/base/build_info.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"
#include "tessera/base/statistics.h"
#include "tessera/kv/policy.h"

namespace tessera::kv {
namespace {

constexpr int64_t kHeadDim = 64;
constexpr int kKvHeads = 2;
constexpr int64_t kQueryHeads = 8;
constexpr int64_t kWindow = 32;
constexpr uint64_t kSeed = 7;

Tensor normal(Random& random, int64_t rows, int64_t heads, double scale = 1) {
  Tensor tensor = Tensor::empty(DType::f32, {rows, heads, kHeadDim});
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.data<float>()[i] = static_cast<float>(scale * random.normal());
  return tensor;
}

KeyValueCache cache_with(const Tensor& keys, const Tensor& values) {
  KeyValueCache cache({.layers = 1, .kv_heads = kKvHeads, .head_dim = kHeadDim}, std::make_shared<PagePool>());
  cache.append(0, keys, values, 0);
  return cache;
}

attention::AttentionPartial dense(const KeyValueCache& cache, const Tensor& queries, ThreadPool& one) {
  const LayerView view = cache.view(0);
  const int64_t first = cache.next_position() - queries.shape()[0];
  return attention::attend_dense({.queries = queries, .heads = view.heads, .first_position = first}, {.pool = &one});
}

// Measures `name`, prints and stores its seconds and its ratio to what `against` takes in the same repeat.
struct Measure {
  int repeats;
  nlohmann::json results = nlohmann::json::array();

  void operator()(const std::string& name, int64_t rows, const std::function<double()>& seconds,
                  const std::function<double()>& against) {
    std::vector<double> times;
    std::vector<double> ratios;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      times.push_back(seconds());
      ratios.push_back(times.back() / against());
    }
    fmt::print("{:>8}  {:<58} {:>11.2f} us {:>9.4f}\n", rows, name, median(times) * 1e6, median(ratios));
    results.push_back(
        {{"case", name}, {"rows", rows}, {"seconds", bench::spread(times)}, {"over_dense", bench::spread(ratios)}});
  }
};

void bench_speed(Measure& measure, int64_t rows, ThreadPool& one) {
  Random random(kSeed);
  const Tensor keys = normal(random, rows, kKvHeads);
  const Tensor values = normal(random, rows, kKvHeads);
  const Tensor queries = normal(random, kWindow, kQueryHeads);
  const Tensor query = queries.slice(kWindow - 1, 1);
  KeyValueCache cache = cache_with(keys, values);
  const auto dense_step = [&] { return bench::cpu_seconds([&] { dense(cache, query, one); }); };
  const auto dense_window = [&] { return bench::cpu_seconds([&] { dense(cache, queries, one); }); };
  const auto step = [&](KeyValueCache& to) {
    to.append(0, keys.slice(0, 1), values.slice(0, 1), to.next_position());
    (void)to.view(0);
  };

  measure(
      "decode step: append 1 row, view", rows,
      [&] {
        return bench::cpu_seconds([&] {
                 for (int i = 0; i < 64; ++i) step(cache);
               }) /
               64;
      },
      dense_step);
  measure(
      "turn: fork, append 1 row, destroy", rows,
      [&] {
        return bench::cpu_seconds([&] {
          KeyValueCache turn = cache.fork();
          step(turn);
        });
      },
      dense_step);
  cache = cache_with(keys, values);
  measure(
      "prefill: append all rows (over dense of 32 queries)", rows,
      [&] { return bench::cpu_seconds([&] { (void)cache_with(keys, values); }); }, dense_window);

  std::vector<std::unique_ptr<CachePolicy>> policies;
  policies.push_back(make_streaming_llm({.sinks = 128, .window = rows / 32 - 128}));
  policies.push_back(make_snapkv({.capacity = rows / 32, .window = kWindow}));
  policies.push_back(make_kivi({.bits = 4}));
  policies.push_back(make_kivi({.bits = 2}));
  for (const auto& policy : policies) {
    measure(
        policy->describe() + " (over dense of 32 queries)", rows,
        [&] {
          KeyValueCache turn = cache.fork();
          const PrefillEnd end{.last_queries = queries, .first_position = rows - kWindow, .pool = &one};
          return bench::cpu_seconds([&] { policy->after_prefill(turn, end); });
        },
        dense_window);
  }

  const auto quest = make_quest({.budget = 1024, .page = 16, .dense_layers = 0});
  const auto quest_step = [&] {
    return bench::cpu_seconds([&] {
      const LayerView view = cache.view(0);
      (void)quest->attend(0, {.queries = query, .heads = view.heads, .first_position = rows - 1}, view, {.pool = &one});
    });
  };
  measure(
      "quest: first step, bounds of every page", rows,
      [&] {
        const LayerView view = cache.view(0);
        const attention::AttentionInput input{.queries = query, .heads = view.heads, .first_position = rows - 1};
        const auto fresh = make_quest({.budget = 1024, .page = 16, .dense_layers = 0});
        return bench::cpu_seconds([&] { (void)fresh->select(0, input, view, {.pool = &one}); });
      },
      dense_step);
  (void)quest_step();
  measure(quest->describe() + ": a decode step", rows, quest_step, dense_step);
}

// Rows about 64 topics of 8 rows each, 4 sinks, the rest diffuse; queries ask for one topic each.
struct Planted {
  Tensor keys;
  Tensor values;
  Tensor directions;  // [65, 1, head_dim] unit vectors: topics, then the sink

  Planted(int64_t rows, Random& random)
      : keys(normal(random, rows, kKvHeads)),
        values(normal(random, rows, kKvHeads)),
        directions(normal(random, 65, 1)) {
    for (int64_t d = 0; d < 65; ++d) {
      float* direction = directions.data<float>() + d * kHeadDim;
      double norm = 0;
      for (int64_t c = 0; c < kHeadDim; ++c) norm += static_cast<double>(direction[c]) * direction[c];
      for (int64_t c = 0; c < kHeadDim; ++c) direction[c] /= static_cast<float>(std::sqrt(norm));
    }
    for (int64_t topic = 0; topic < 64; ++topic) {
      for (int64_t i = 0; i < 8; ++i) lean(keys, 200 + topic * (rows - 600) / 64 + i, topic, 9);
    }
    for (int64_t row = 0; row < 4; ++row) lean(keys, row, 64, 9);
  }

  Tensor ask(int64_t topic, int64_t rows, Random& random) const {
    Tensor queries = normal(random, rows, kQueryHeads, 0.3);
    for (int64_t row = 0; row < rows; ++row) {
      lean(queries, row, topic, 9);
      lean(queries, row, 64, 9);
    }
    return queries;
  }

  void lean(Tensor& tensor, int64_t row, int64_t direction, float by) const {
    const int64_t width = tensor.shape()[1] * kHeadDim;
    const float* along = directions.data<float>() + direction * kHeadDim;
    float* at = tensor.data<float>() + row * width;
    for (int64_t i = 0; i < width; ++i) at[i] += by * along[i % kHeadDim];
  }
};

struct Loss {
  double mass = 0;   // mean over heads of exp(lse - lse_dense)
  double error = 0;  // |out - dense| / |dense|
};

Loss loss_of(const attention::AttentionPartial& found, const attention::AttentionPartial& exact) {
  Loss loss;
  for (int64_t i = 0; i < exact.lse.elements(); ++i) {
    const double share = std::exp(static_cast<double>(found.lse.data<float>()[i]) - exact.lse.data<float>()[i]);
    loss.mass += share / static_cast<double>(exact.lse.elements());
  }
  double difference = 0;
  double norm = 0;
  for (int64_t i = 0; i < exact.out.elements(); ++i) {
    const double e = exact.out.data<float>()[i];
    difference += (found.out.data<float>()[i] - e) * (found.out.data<float>()[i] - e);
    norm += e * e;
  }
  loss.error = std::sqrt(difference / norm);
  return loss;
}

nlohmann::json bench_loss(int64_t rows, int repeats, ThreadPool& one) {
  nlohmann::json results = nlohmann::json::array();
  fmt::print(
      "\nloss on planted topics, {} rows; bytes as a share of the full cache\n{:<58} {:>7} {:>11} {:>11} {:>11} "
      "{:>11}\n",
      rows, "method", "bytes", "seen mass", "unseen mass", "seen err", "unseen err");
  std::vector<std::unique_ptr<CachePolicy>> policies;
  policies.push_back(make_streaming_llm({.sinks = 128, .window = rows / 16 - 128}));
  policies.push_back(make_snapkv({.capacity = rows / 16, .window = kWindow}));
  policies.push_back(make_kivi({.bits = 4}));
  policies.push_back(make_kivi({.bits = 2}));
  for (size_t method = 0; method <= policies.size(); ++method) {
    const CachePolicy* policy = method < policies.size() ? policies[method].get() : nullptr;
    const auto quest = make_quest({.budget = rows / 16, .page = 16, .dense_layers = 0});
    std::vector<double> masses[2];
    std::vector<double> errors[2];
    double share = 1;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      Random random = Random(kSeed).split(static_cast<uint64_t>(repeat));
      const Planted planted(rows, random);
      const KeyValueCache full = cache_with(planted.keys, planted.values);
      KeyValueCache held = full.fork();
      const int64_t topic = random.below(64);
      const PrefillEnd end{
          .last_queries = planted.ask(topic, kWindow, random), .first_position = rows - kWindow, .pool = &one};
      if (policy != nullptr) policy->after_prefill(held, end);
      share = static_cast<double>(held.bytes()) / static_cast<double>(full.bytes());
      for (const int64_t unseen : {0, 1}) {
        const Tensor query = planted.ask((topic + unseen * 17) % 64, 1, random);
        const LayerView view = held.view(0);
        const attention::AttentionInput input{.queries = query, .heads = view.heads, .first_position = rows - 1};
        const Loss loss =
            loss_of(policy != nullptr ? dense(held, query, one) : quest->fork()->attend(0, input, view, {.pool = &one}),
                    dense(full, query, one));
        masses[unseen].push_back(loss.mass);
        errors[unseen].push_back(loss.error);
      }
    }
    const std::string name = policy != nullptr ? policy->describe() : quest->describe();
    // Mass is what is left of the softmax when rows are missing; quantised rows are all there, only displaced.
    const bool has_mass = policy == nullptr || policy->drops_rows();
    const auto mass_text = [&](int which) { return has_mass ? fmt::format("{:.4f}", median(masses[which])) : "-"; };
    fmt::print("{:<58} {:>7.4f} {:>11} {:>11} {:>11.4f} {:>11.4f}\n", name, share, mass_text(0), mass_text(1),
               median(errors[0]), median(errors[1]));
    nlohmann::json row = {{"method", name},
                          {"bytes_share", share},
                          {"seen_error", bench::spread(errors[0])},
                          {"unseen_error", bench::spread(errors[1])}};
    if (has_mass) row["seen_mass"] = bench::spread(masses[0]);
    if (has_mass) row["unseen_mass"] = bench::spread(masses[1]);
    results.push_back(row);
  }
  return results;
}

int run(int argc, char** argv) {
  CLI::App app("Cache benchmark: bookkeeping, policies and loaders, on one core");
  Measure measure{.repeats = 9};
  int64_t largest = 131072;
  std::string json_path;
  app.add_option("--repeats", measure.repeats, "timed repeats of every case")->check(CLI::Range(1, 1000));
  app.add_option("--largest", largest, "largest number of rows")->check(CLI::Range(8192, 1 << 20));
  app.add_option("--json", json_path, "also write the results to this file");
  CLI11_PARSE(app, argc, argv);

  ThreadPool one(1);
  nlohmann::json result = {{"machine", machine_description()}, {"seed", kSeed}};
  fmt::print("{}\n\n{} KV heads, {} query heads, head_dim {}, f32; one layer, one thread\n{:>8}  {:<58} {:>14} {:>9}\n",
             result["machine"].dump(2), kKvHeads, kQueryHeads, kHeadDim, "rows", "case", "CPU time", "/ dense");
  for (int64_t rows = 8192; rows <= largest; rows *= 4) bench_speed(measure, rows, one);
  result["speed"] = measure.results;
  result["loss"] = bench_loss(16384, measure.repeats, one);
  if (!json_path.empty()) write_file_atomically(json_path, result.dump(2) + "\n");
  return 0;
}

}  // namespace
}  // namespace tessera::kv

int main(int argc, char** argv) {
  try {
    return tessera::kv::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
