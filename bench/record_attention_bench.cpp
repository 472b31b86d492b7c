// Writes what a real model's attention is asked: rotated queries, keys and values of chosen layers, for
// tools/gpu/selector_bench.py.
//
//   bench_record_attention models/nano --length 8192 --layers 1,3,5 --out out/recorded
//
// One folder per layer with q.npy, k.npy and v.npy, f32 [rows, heads * head_dim], and shape.json. The prompt is a task
// on a shared context with its first question (docs/tasks.md), a fixed seed.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "tessera/attention/selectors.h"
#include "tessera/base/error.h"
#include "tessera/base/random.h"
#include "tessera/engine/session.h"
#include "tessera/scbench/task.h"

namespace tessera {
namespace {

void write_npy(const std::filesystem::path& path, const std::vector<float>& values, int64_t columns) {
  std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
                                   static_cast<int64_t>(values.size()) / columns, columns);
  header.resize((10 + header.size() + 64) / 64 * 64 - 11, ' ');
  header += '\n';
  const auto size = static_cast<uint16_t>(header.size());
  std::ofstream file(path, std::ios::binary);
  file.write("\x93NUMPY\x01\x00", 8);
  file.put(static_cast<char>(size & 0xff)).put(static_cast<char>(size >> 8));
  file << header;
  file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  if (!file.flush()) throw Error(ErrorCode::io, "cannot write {}", path.string());
}

// Computes everything, and writes the input of some layers.
class Recorder : public attention::Selector {
 public:
  Recorder(std::vector<int> layers, std::filesystem::path out) : layers_(std::move(layers)), out_(std::move(out)) {}

  std::string describe() const override { return "record"; }

  attention::WorkList select(const attention::AttentionInput& input,
                             const attention::SelectContext& context) const override {
    if (std::find(layers_.begin(), layers_.end(), context.layer) != layers_.end()) record(input, context.layer);
    const auto selector = attention::make_a_shape({.sinks = 0, .window = input.heads.front().rows});
    return selector->select(input, context);
  }

 private:
  void record(const attention::AttentionInput& input, int layer) const {
    const int64_t rows = input.heads.front().rows;
    const int64_t head_dim = input.queries.shape()[2];
    const int64_t heads = input.queries.shape()[1];
    const auto kv_heads = static_cast<int64_t>(input.heads.size());
    const std::filesystem::path folder = out_ / fmt::format("layer{}", layer);
    std::filesystem::create_directories(folder);
    const float* queries = input.queries.data<float>();
    write_npy(folder / "q.npy", std::vector<float>(queries, queries + input.queries.elements()), heads * head_dim);
    std::vector<float> keys(static_cast<size_t>(rows * kv_heads * head_dim));
    std::vector<float> values(keys.size());
    for (int64_t head = 0; head < kv_heads; ++head) {
      for (int64_t row = 0; row < rows; ++row) {
        const auto at = static_cast<size_t>((row * kv_heads + head) * head_dim);
        const attention::KeyValueTile& tile =
            input.heads[static_cast<size_t>(head)].tiles[static_cast<size_t>(row / 64)];
        attention::read_row(tile, head_dim, static_cast<int>(row % 64), keys.data() + at, values.data() + at);
      }
    }
    write_npy(folder / "k.npy", keys, kv_heads * head_dim);
    write_npy(folder / "v.npy", values, kv_heads * head_dim);
    std::ofstream(folder / "shape.json") << fmt::format("{{\"heads\": {}, \"kv_heads\": {}, \"head_dim\": {}}}\n",
                                                        heads, kv_heads, head_dim);
    fmt::print("{}: {} rows, {} and {} heads of {}\n", folder.string(), rows, heads, kv_heads, head_dim);
  }

  std::vector<int> layers_;
  std::filesystem::path out_;
};

struct Settings {
  std::string model;
  int64_t length = 8192;
  std::vector<int> layers = {1, 3, 5};
  std::string task = "kv";
  std::string out = "out/recorded";
  uint64_t seed = 0;
};

void run(const Settings& settings) {
  const auto model = Model::load(settings.model);
  Method method;
  method.prefill = std::make_shared<Recorder>(settings.layers, settings.out);
  const auto count = [&](std::string_view text) {
    return static_cast<int64_t>(model->tokenizer().encode(text, {.add_special = false}).size());
  };
  Random random(settings.seed);
  const scbench::Example example =
      scbench::find_task(settings.task).generate({.tokens = settings.length, .turns = 1}, count, random);
  engine::Session session(model, method, {.allow_beyond_context = true});
  const engine::PrefillStats stats =
      session.prefill(fmt::format("{}{}{}", example.head, example.context, example.turns.front().input));
  fmt::print("{} tokens of task {}, seed {}\n", stats.tokens, settings.task, settings.seed);
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  tessera::Settings settings;
  CLI::App app{"records the attention inputs of a model"};
  app.add_option("model", settings.model, "folder of the model")->required();
  app.add_option("--length", settings.length, "prompt length in tokens")->check(CLI::PositiveNumber);
  app.add_option("--layers", settings.layers, "layers to record")->delimiter(',');
  app.add_option("--task", settings.task, "task that makes the prompt");
  app.add_option("--seed", settings.seed, "of the prompt");
  app.add_option("--out", settings.out, "folder for the arrays");
  CLI11_PARSE(app, argc, argv);
  try {
    tessera::run(settings);
  } catch (const tessera::Error& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
  return 0;
}
