#include "engine/method_registry.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "engine/method_arguments.h"
#include "tessera/attention/minference_config.h"
#include "tessera/attention/selectors.h"
#include "tessera/base/error.h"

namespace tessera::engine {
namespace {

using Maker = void (*)(MethodArguments&, Method&);

struct StageEntry {
  std::string_view name;
  std::string_view help;  // parameters with defaults, what it does, source
  Maker make;
};

constexpr int64_t kMost = int64_t{1} << 40;

void make_a_shape(MethodArguments& arguments, Method& method) {
  attention::AShapeOptions options;
  options.sinks = arguments.integer("sinks", options.sinks, {0, kMost});
  options.window = arguments.integer("window", options.window, {1, kMost});
  method.prefill = attention::make_a_shape(options);
}

void make_tri_shape(MethodArguments& arguments, Method& method) {
  attention::TriShapeOptions options;
  options.sinks = arguments.integer("sinks", options.sinks, {0, kMost});
  options.window = arguments.integer("window", options.window, {1, kMost});
  options.last = arguments.integer("last", options.last, {0, kMost});
  method.prefill = attention::make_tri_shape(options);
}

void make_vertical_slash(MethodArguments& arguments, Method& method) {
  attention::VerticalSlashOptions options;
  options.budget.vertical = arguments.integer("vertical", options.budget.vertical, {0, kMost});
  options.budget.slash = arguments.integer("slash", options.budget.slash, {0, kMost});
  options.recall = arguments.real("recall", options.recall, {0, 1});
  options.probe_rows = arguments.integer("probe", options.probe_rows, {1, 4096});
  options.sinks = arguments.integer("sinks", options.sinks, {0, kMost});
  options.local = arguments.integer("local", options.local, {1, kMost});
  if (const std::string file = arguments.text("config"); !file.empty()) {
    options.per_head = attention::read_minference_config(file);
  }
  method.prefill = attention::make_vertical_slash(options);
}

void make_block_sparse(MethodArguments& arguments, Method& method) {
  attention::BlockSparseOptions options;
  options.top_k = arguments.integer("top_k", options.top_k, {1, kMost});
  method.prefill = attention::make_block_sparse(options);
}

void make_block_lse(MethodArguments& arguments, Method& method) {
  attention::BlockLseOptions options;
  options.threshold = static_cast<float>(arguments.real("threshold", options.threshold, {1e-30, 1}));
  options.sinks = arguments.integer("sinks", options.sinks, {0, kMost});
  options.window = arguments.integer("window", options.window, {1, kMost});
  options.last = arguments.integer("last", options.last, {0, kMost});
  method.prefill = attention::make_block_lse(options);
}

void make_auto(MethodArguments& arguments, Method& method) {
  attention::AutoOptions options;
  options.recall = arguments.real("recall", options.recall, {0.01, 1});
  options.crossover = arguments.integer("crossover", options.crossover, {0, kMost});
  method.prefill = attention::make_auto(options);
}

void make_streaming_llm(MethodArguments& arguments, Method& method) {
  kv::StreamingLlmOptions options;
  options.sinks = arguments.integer("sinks", options.sinks, {0, kMost});
  options.window = arguments.integer("window", options.window, {1, kMost});
  method.cache = kv::make_streaming_llm(options);
}

void make_snapkv(MethodArguments& arguments, Method& method) {
  kv::SnapKvOptions options;
  options.capacity = arguments.integer("capacity", options.capacity, {2, kMost});
  options.window = arguments.integer("window", options.window, {1, kMost});
  options.pool = arguments.integer("pool", options.pool, {1, 4095});
  options.pooling = arguments.choice("pooling", 0, {"average", "maximum"}) == 0 ? kv::SnapKvOptions::Pooling::average
                                                                                : kv::SnapKvOptions::Pooling::maximum;
  method.cache = kv::make_snapkv(options);
}

void make_kivi(MethodArguments& arguments, Method& method) {
  kv::KiviOptions options;
  options.bits = static_cast<int>(arguments.integer("bits", options.bits, {2, 4}));
  options.group = arguments.integer("group", options.group, {1, 4096});
  options.residual = arguments.integer("residual", options.residual, {0, kMost});
  method.cache = kv::make_kivi(options);
}

void make_quest(MethodArguments& arguments, Method& method) {
  kv::QuestOptions options;
  options.budget = arguments.integer("budget", options.budget, {1, kMost});
  options.page = arguments.integer("page", options.page, {1, 64});
  options.dense_layers = static_cast<int>(arguments.integer("dense_layers", options.dense_layers, {0, 4096}));
  method.load = kv::make_quest(options);
}

// One line per method. The order is the order of --help.
constexpr StageEntry kStages[] = {
    {"a-shape", "(sinks=128, window=3968)  prefill: first rows and a window for every query; MInference, arXiv 2407.02490",
     make_a_shape},
    {"tri-shape", "(sinks=128, window=3968, last=128)  prefill: a-shape, last rows dense; SCBench, arXiv 2412.10319",
     make_tri_shape},
    {"vertical-slash",
     "(vertical=1000, slash=6096, recall=0, probe=64, sinks=30, local=100, config=FILE)  prefill: columns and diagonals "
     "found online; recall > 0 replaces the fixed budget; MInference, arXiv 2407.02490",
     make_vertical_slash},
    {"block-sparse", "(top_k=100)  prefill: key tiles by pooled scores; MInference, arXiv 2407.02490", make_block_sparse},
    {"block-lse",
     "(threshold=0.01, sinks=30, window=256, last=0)  prefill: key tiles by the log-sum-exp of scores of 16-row means; "
     "docs/attention.md",
     make_block_lse},
    {"auto", "(recall=0.95, crossover=0)  prefill: dense when short, else vertical-slash by recall target; docs/attention.md",
     make_auto},
    {"streaming-llm", "(sinks=128, window=3968)  cache: keeps first and last rows; arXiv 2309.17453", make_streaming_llm},
    {"snapkv", "(capacity=4096, window=32, pool=5, pooling=average)  cache: keeps the rows the last queries look at; "
               "arXiv 2404.14469",
     make_snapkv},
    {"kivi", "(bits=2, group=32, residual=32)  cache: 2 or 4 bit keys and values; arXiv 2402.02750", make_kivi},
    {"quest", "(budget=1024, page=16, dense_layers=2)  load: each decode step reads the best pages; arXiv 2406.10774",
     make_quest},
};

}  // namespace

void apply_stage(const StageText& stage, std::string_view whole, Method& method) {
  const auto* const entry =
      std::find_if(std::begin(kStages), std::end(kStages), [&](const StageEntry& known) { return known.name == stage.name; });
  if (entry == std::end(kStages)) {
    std::vector<std::string_view> names = {"dense"};
    for (const StageEntry& known : kStages) names.push_back(known.name);
    throw Error(ErrorCode::invalid_argument, "method '{}': unknown method '{}'; expected one of {}", whole, stage.name,
                fmt::join(names, ", "));
  }
  Method alone;
  MethodArguments arguments(stage, whole);
  entry->make(arguments, alone);
  arguments.finish();
  const auto take = [&](auto& slot, auto& made, const char* name) {
    if (!made) return;
    if (slot) throw Error(ErrorCode::invalid_argument, "method '{}': two policies for the {} stage; expected at most one", whole, name);
    slot = made;
  };
  take(method.prefill, alone.prefill, "prefill");
  take(method.cache, alone.cache, "cache");
  take(method.load, alone.load, "load");
}

std::vector<std::string> method_help() {
  std::vector<std::string> lines = {"dense  every stage exact"};
  for (const StageEntry& entry : kStages) lines.push_back(fmt::format("{}{}", entry.name, entry.help));
  return lines;
}

}  // namespace tessera::engine
