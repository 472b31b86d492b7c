// Whole-model speed: prefill and decode of a model under methods, on random tokens after the token that begins every
// prompt of the model, if it has one: heads that find nothing rest on it.
//
//   bench_session MODEL [--lengths 512,4096] [--methods "dense; auto"] [--repeats 5] [--decode 32] [--json FILE]
//
// Each repeat runs every method once, so that the ratios compare neighbours in time; medians and spread over repeats.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tessera/base/build_info.h"
#include "tessera/base/clock.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"
#include "tessera/base/statistics.h"
#include "tessera/engine/session.h"

namespace tessera {
namespace {

struct Settings {
  std::string model;
  std::vector<int64_t> lengths = {512, 4096};
  std::string methods = "dense";
  int repeats = 5;
  int64_t decode = 32;
  uint64_t seed = 0;
  std::string json;
};

struct Samples {
  std::vector<double> prefill_ms;
  std::vector<double> prefill_cpu_ms;
  std::vector<double> select_ms;
  std::vector<double> attention_ms;
  std::vector<double> decode_ms_per_token;
  double density = 1;
  int64_t kv_bytes = 0;
  int64_t workspace_bytes = 0;
};

std::vector<int32_t> random_tokens(int64_t count, int64_t vocabulary, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(vocabulary));
  return tokens;
}

void measure(const Settings& settings, const std::shared_ptr<const Model>& model, const Method& method,
             std::span<const int32_t> tokens, Samples& samples) {
  Session session(model, method, {.allow_beyond_context = true});
  const engine::PrefillStats stats = session.prefill(tokens);
  samples.prefill_ms.push_back(stats.wall_ms);
  samples.prefill_cpu_ms.push_back(stats.cpu_ms);
  samples.select_ms.push_back(stats.select_ms);
  samples.attention_ms.push_back(stats.attention_ms);
  samples.density = stats.density;
  samples.kv_bytes = session.kv_bytes();
  samples.workspace_bytes = session.workspace_bytes();
  const std::vector<int32_t> more = random_tokens(settings.decode, model->config().vocabulary, settings.seed + 1);
  const Stopwatch watch;
  for (const int32_t& token : more) session.step(token);
  samples.decode_ms_per_token.push_back(watch.elapsed().wall_ms / static_cast<double>(more.size()));
}

nlohmann::json summarise(const std::vector<double>& values) {
  return {{"median", median(values)},
          {"lower_quartile", quantile(values, 0.25)},
          {"upper_quartile", quantile(values, 0.75)}};
}

nlohmann::json row_of(const std::string& method, int64_t length, const Samples& samples) {
  return {{"method", method},
          {"length", length},
          {"prefill_ms", summarise(samples.prefill_ms)},
          {"prefill_cpu_ms", summarise(samples.prefill_cpu_ms)},
          {"prefill_tokens_per_second", 1000.0 * static_cast<double>(length) / median(samples.prefill_ms)},
          {"select_ms", summarise(samples.select_ms)},
          {"attention_ms", summarise(samples.attention_ms)},
          {"decode_ms_per_token", summarise(samples.decode_ms_per_token)},
          {"decode_tokens_per_second", 1000.0 / median(samples.decode_ms_per_token)},
          {"density", samples.density},
          {"kv_bytes", samples.kv_bytes},
          {"workspace_bytes", samples.workspace_bytes}};
}

std::vector<Method> parse_methods(const std::string& text) {
  std::vector<Method> methods;
  for (const std::string& part : CLI::detail::split(text, ';')) methods.push_back(Method::parse(part));
  return methods;
}

int run(const Settings& settings) {
  const auto model = Model::load(settings.model);
  const std::vector<Method> methods = parse_methods(settings.methods);
  nlohmann::json rows = nlohmann::json::array();
  for (const int64_t length : settings.lengths) {
    std::vector<int32_t> tokens = random_tokens(length, model->config().vocabulary, settings.seed);
    if (const int32_t begin = model->tokenizer().bos(); begin >= 0) tokens.front() = begin;
    std::vector<Samples> samples(methods.size());
    Samples warm_up;
    measure(settings, model, methods[0], std::span(tokens).first(std::min<size_t>(tokens.size(), 256)), warm_up);
    for (int repeat = 0; repeat < settings.repeats; ++repeat) {
      for (size_t i = 0; i < methods.size(); ++i) measure(settings, model, methods[i], tokens, samples[i]);
    }
    for (size_t i = 0; i < methods.size(); ++i) {
      rows.push_back(row_of(methods[i].str(), length, samples[i]));
      const nlohmann::json& row = rows.back();
      fmt::print(
          "{:>7} tokens  prefill {:8.1f} tok/s (cpu {:8.0f} ms)  decode {:6.1f} tok/s  density {:.3f}  select {:5.1f} "
          "%  {}\n",
          length, row["prefill_tokens_per_second"].get<double>(), row["prefill_cpu_ms"]["median"].get<double>(),
          row["decode_tokens_per_second"].get<double>(), samples[i].density,
          100 * median(samples[i].select_ms) / median(samples[i].prefill_ms), methods[i].str());
    }
  }
  if (!settings.json.empty()) {
    const nlohmann::json result = {{"machine", machine_description()},
                                   {"model", model->config().name},
                                   {"seed", settings.seed},
                                   {"repeats", settings.repeats},
                                   {"rows", rows}};
    write_file_atomically(settings.json, result.dump(2) + "\n");
  }
  return 0;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  CLI::App app{"prefill and decode speed of a model"};
  tessera::Settings settings;
  app.add_option("MODEL", settings.model, "Hugging Face directory or .gguf file")->required();
  app.add_option("--lengths", settings.lengths, "prompt lengths in tokens")->delimiter(',');
  app.add_option("--methods", settings.methods, "methods, separated by ';'");
  app.add_option("--repeats", settings.repeats, "repeats per length and method")->check(CLI::PositiveNumber);
  app.add_option("--decode", settings.decode, "decoded tokens per repeat")->check(CLI::PositiveNumber);
  app.add_option("--seed", settings.seed, "of the random tokens");
  app.add_option("--json", settings.json, "file for the results");
  CLI11_PARSE(app, argc, argv);
  try {
    return tessera::run(settings);
  } catch (const tessera::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
