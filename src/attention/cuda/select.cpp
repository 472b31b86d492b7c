// Checks, memory and launches of the methods of cuda_select.h.
#include "tessera/attention/cuda_select.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "attention/cuda/block_lists.h"
#include "attention/cuda/line_choice_launch.h"
#include "attention/cuda/line_lists_launch.h"
#include "attention/cuda/probe.h"
#include "attention/cuda/scratch.h"
#include "attention/cuda/status.h"

namespace tessera::attention::cuda {
namespace {

[[noreturn]] void reject(const std::string& message) {
  throw Error(ErrorCode::invalid_argument, "CUDA selection: " + message);
}

Method resolve(const AttentionArguments& arguments, const SelectOptions& options) {
  if (options.method != Method::automatic) return options.method;
  const Sequence& sequence = arguments.sequences.front();
  const bool is_long = sequence.key_rows >= options.crossover && sequence.query_rows >= 16 * kQueryTile;
  return is_long ? Method::recall : Method::dense;
}

void check_options(const AttentionArguments& arguments, const SelectOptions& options) {
  check(arguments);
  if (arguments.sequences.size() != 1) {
    reject("one sequence per call is supported, found " + std::to_string(arguments.sequences.size()));
  }
  const Sequence& sequence = arguments.sequences.front();
  if (sequence.first_position + sequence.query_rows > sequence.key_rows) {
    reject("the last query must see at most the last key, found first_position " +
           std::to_string(sequence.first_position) + " + " + std::to_string(sequence.query_rows) + " query rows and " +
           std::to_string(sequence.key_rows) + " key rows");
  }
  if (options.vertical < 0 || options.slash < 0 || options.sinks < 0 || options.local < 1 || options.window < 1 ||
      options.dense_rows < 0 || options.top_k < 0 || options.crossover < 0 || options.most_entries < 1 ||
      options.most_entries > 0x7fffffff) {
    reject("counts must be >= 0, local and window >= 1 and most_entries in 1 .. 2^31 - 1");
  }
  const auto is_share = [](float x) { return x > 0 && x <= 1; };
  if (!is_share(options.recall) || !is_share(options.share) || !is_share(options.threshold)) {
    reject("recall, share and threshold must lie in (0, 1], found " + std::to_string(options.recall) + ", " +
           std::to_string(options.share) + " and " + std::to_string(options.threshold));
  }
  if (options.most_columns < 128 || options.most_columns % 128 != 0) {
    reject("most_columns must be a positive multiple of 128, found " + std::to_string(options.most_columns));
  }
}

int32_t key_tile_for(const AttentionArguments& arguments) { return arguments.queries.shape[2] == 256 ? 64 : 128; }

int64_t causal_tiles(const TileRule& rule) {
  int64_t tiles = 0;
  for (int32_t t = 0; t < line_query_tiles(rule); ++t) tiles += rule.visible_tiles(t);
  return tiles;
}

// Everything that the methods keep in device memory; null where a method has no use for it.
struct Memory {
  LineLists lists;
  Probe probe;
  float* tile_rest = nullptr;
  float* band_mass = nullptr;
  uint32_t* band_bits = nullptr;
  float* report = nullptr;
  BlockLists blocks;
  std::size_t bytes = 0;
};

bool by_lines(Method method) { return method == Method::vertical_slash; }
bool by_choice(Method method) { return method == Method::recall || method == Method::tiles; }

bool by_blocks(Method method) { return method == Method::block_mean || method == Method::block_lse; }

// What a call is made of.
struct Plan {
  Method method;
  int32_t heads;
  TileRule rule;
  LineListArguments lines;
};

Plan make_plan(const AttentionArguments& arguments, const SelectOptions& options) {
  check_options(arguments, options);
  const Sequence& sequence = arguments.sequences.front();
  Plan plan{resolve(arguments, options), static_cast<int32_t>(arguments.queries.shape[1]), {}, {}};
  plan.rule = {.query_rows = sequence.query_rows,
               .key_rows = sequence.key_rows,
               .first_position = sequence.first_position,
               .query_tile = kQueryTile,
               .key_tile = key_tile_for(arguments)};
  if (plan.method == Method::a_shape) {
    plan.rule.sink_rows = std::min(options.sinks, sequence.key_rows);
    plan.rule.window = options.window;
    if (options.dense_rows > 0) plan.rule.dense_from = sequence.query_rows - options.dense_rows;
  }
  if (by_blocks(plan.method)) {
    if (plan.rule.key_tile != kQueryTile) {
      throw Error(ErrorCode::unsupported, "CUDA selection: the block methods need head_dim 64, 96 or 128, found 256");
    }
    plan.rule.sink_rows = std::min(options.sinks, sequence.key_rows);
    plan.rule.sink_rows = (plan.rule.sink_rows + kQueryTile - 1) / kQueryTile * kQueryTile;
    plan.rule.window = options.window;
    if (options.dense_rows > 0) plan.rule.dense_from = sequence.query_rows - options.dense_rows;
  }
  // The last query tile, where questions are, is dense when it is a small part of the prompt.
  if (by_choice(plan.method) && line_query_tiles(plan.rule) >= 32) plan.rule.dense_from = sequence.query_rows - 1;
  plan.lines.heads = plan.heads;
  plan.lines.columns_kept = std::max(options.vertical, options.sinks);
  plan.lines.diagonals_kept = std::min(std::max(options.slash, options.local), sequence.key_rows);
  plan.lines.forced_columns = options.sinks;
  plan.lines.forced_diagonals = options.local;
  plan.lines.rule = plan.rule;
  return plan;
}

int32_t column_room(const Plan& plan, const SelectOptions& options) {
  if (by_choice(plan.method)) return options.most_columns;
  const int32_t kept = by_lines(plan.method)            ? plan.lines.columns_kept
                       : plan.method == Method::a_shape ? plan.rule.sink_rows % plan.rule.key_tile
                                                        : 0;
  return (std::min(kept, plan.rule.key_rows) + 127) / 128 * 128;
}

void take_probe(Memory& memory, Scratch& scratch, const Plan& plan) {
  const int64_t rows = int64_t{plan.heads} * plan.rule.key_rows;
  const int64_t tiles = int64_t{plan.heads} * memory.probe.key_tiles();
  memory.probe.partial = scratch.take<float>(int64_t{plan.heads} * kMaxProbeSplits * kProbeRows * 2);
  memory.probe.column_mass = scratch.take<float>(rows);
  if (by_lines(plan.method)) {
    memory.probe.diagonal_mass = scratch.take<float>(rows);
    memory.lists.distances = scratch.take<int32_t>(int64_t{plan.heads} * plan.lines.diagonals_kept);
    memory.lists.distance_bits = scratch.take<uint32_t>(int64_t{plan.heads} * distance_words(plan.rule.key_rows));
    return;
  }
  memory.probe.column_gain = scratch.take<float>(rows);
  memory.probe.tile_mass = scratch.take<float>(tiles * kProbeGroups);
  memory.probe.column_groups = scratch.take<float>(int64_t{plan.heads} * memory.lists.column_stride * kProbeGroups);
  memory.tile_rest = scratch.take<float>(tiles * kProbeGroups);
  memory.band_mass = scratch.take<float>(tiles * 2);
  memory.band_bits = scratch.take<uint32_t>(int64_t{plan.heads} * ((memory.probe.key_tiles() + 31) / 32));
  memory.report = scratch.take<float>(int64_t{plan.heads} * 2);
}

Memory lay_out(void* base, const AttentionArguments& arguments, const Plan& plan, const SelectOptions& options) {
  Memory memory;
  if (plan.method == Method::dense || line_query_tiles(plan.rule) == 0) return memory;
  Scratch scratch(base);
  const int64_t lists = int64_t{plan.heads} * line_query_tiles(plan.rule);
  LineLists& to = memory.lists;
  to.column_stride = column_room(plan, options);
  to.tile_capacity = std::min(plan.heads * causal_tiles(plan.rule), options.most_entries);
  if (to.column_stride > 0) {
    to.columns = scratch.take<int32_t>(int64_t{plan.heads} * to.column_stride);
    to.column_count = scratch.take<int32_t>(plan.heads);
    to.column_cut = scratch.take<int32_t>(lists);
  }
  if (!by_blocks(plan.method)) to.flags = scratch.take<uint32_t>(int64_t{plan.heads} * plan.rule.flag_words());
  to.counts = scratch.take<int32_t>(lists + 1);
  to.tile_begin = scratch.take<int32_t>(lists + 1);
  to.tiles = scratch.take<uint32_t>(to.tile_capacity);
  to.overflow = scratch.take<uint32_t>(1);
  memory.probe.key_rows = plan.rule.key_rows;
  memory.probe.query_heads = plan.heads;
  memory.probe.kv_heads = static_cast<int32_t>(arguments.keys.shape[1]);
  memory.probe.head_dim = static_cast<int32_t>(arguments.queries.shape[2]);
  if (by_lines(plan.method) || by_choice(plan.method)) take_probe(memory, scratch, plan);
  if (by_blocks(plan.method)) {
    BlockLists& blocks = memory.blocks;
    blocks.query_heads = plan.heads;
    blocks.kv_heads = memory.probe.kv_heads;
    blocks.head_dim = memory.probe.head_dim;
    blocks.mean_rows = plan.method == Method::block_mean ? kQueryTile : 32;
    blocks.choice = {plan.rule, -std::log(options.threshold), plan.method == Method::block_mean ? options.top_k : 0};
    blocks.query_means = scratch.take<uint16_t>(int64_t{plan.heads} * blocks.query_means_count() * blocks.head_dim);
    blocks.key_means = scratch.take<uint16_t>(int64_t{blocks.kv_heads} * blocks.key_means_count() * blocks.head_dim);
  }
  to.scan_bytes = line_scan_bytes(lists + 1);
  to.scan = scratch.take<char>(static_cast<int64_t>(to.scan_bytes));
  memory.bytes = scratch.used();
  return memory;
}

// Rows, strides and scale, for the probe and the block methods alike.
template <typename Target>
void point_rows(Target& to, const AttentionArguments& arguments) {
  const int64_t key_begin = arguments.sequences.front().key_begin;
  to.queries = arguments.queries.data;
  to.keys = static_cast<const uint16_t*>(arguments.keys.data) + key_begin * arguments.keys.strides[0];
  for (size_t axis = 0; axis < 2; ++axis) {
    to.query_stride[axis] = arguments.queries.strides[axis];
    to.key_stride[axis] = arguments.keys.strides[axis];
  }
  to.scale = arguments.scale > 0 ? arguments.scale : 1.0F / std::sqrt(static_cast<float>(to.head_dim));
}

void point_probe(Probe& probe, const AttentionArguments& arguments) {
  point_rows(probe, arguments);
  int device = 0;
  int multiprocessors = 0;
  check_cuda(cudaGetDevice(&device), "looking for a GPU");
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
             "counting multiprocessors");
  set_splits(probe, multiprocessors);
}

void must(int status, const char* what) { check_cuda(static_cast<cudaError_t>(status), what); }

LineChoice make_choice(const Memory& memory, const Plan& plan, const SelectOptions& options, int32_t groups) {
  LineChoice choice{.column_mass = memory.probe.column_mass,
                    .column_gain = memory.probe.column_gain,
                    .column_key = reinterpret_cast<uint32_t*>(memory.probe.column_gain),
                    .tile_mass = memory.probe.tile_mass,
                    .tile_rest = memory.tile_rest,
                    .band_mass = memory.band_mass,
                    .columns = memory.lists.columns,
                    .column_count = memory.lists.column_count,
                    .column_groups = memory.probe.column_groups,
                    .band_bits = memory.band_bits,
                    .report = memory.report,
                    .geometry = {plan.rule.query_rows, plan.rule.key_rows, plan.rule.first_position},
                    .groups = groups,
                    .row_count = memory.probe.row_count,
                    .target = plan.method == Method::tiles ? ChoiceTarget::tiles : ChoiceTarget::recall,
                    .share = plan.method == Method::tiles ? options.share : options.recall,
                    .column_room = memory.lists.column_stride,
                    .forced_columns = std::min(options.sinks, plan.rule.key_rows)};
  for (int32_t g = 0; g < groups; ++g) {
    // Of the query tile, not of the row: its last row may see one tile more.
    const int32_t query_tile =
        (memory.probe.own[g * (kProbeRows / kProbeGroups)] - plan.rule.first_position) / kQueryTile;
    choice.own_tile[g] = choice.geometry.own_tile(query_tile);
  }
  choice.forced_bands = plan.rule.first_position % kQueryTile == 0 ? 1 : 2;  // the own rows of every query tile
  const auto dense_entries =
      static_cast<double>(choice.geometry.dense_tiles()) * (kBandRows / plan.rule.key_tile) * plan.heads;
  const double room = static_cast<double>(memory.lists.tile_capacity) / dense_entries;
  choice.dense_fits = room > 0.99;
  if (!choice.dense_fits) choice.most_tiles = static_cast<float>(std::min(0.9, 0.95 * room));
  return choice;
}

DeviceWorkList view_of(const Memory& memory, const Plan& plan) {
  return {.key_tile = plan.rule.key_tile,
          .list_heads = plan.heads,
          .query_tiles = line_query_tiles(plan.rule),
          .tile_begin = memory.lists.tile_begin,
          .tiles = memory.lists.tiles,
          .tile_capacity = memory.lists.tile_capacity,
          .column_stride = memory.lists.column_stride,
          .columns = memory.lists.columns,
          .column_count = memory.lists.column_count,
          .column_cut = memory.lists.column_cut};
}

}  // namespace

std::size_t list_bytes(const AttentionArguments& arguments, const SelectOptions& options) {
  const Plan plan = make_plan(arguments, options);
  return lay_out(nullptr, arguments, plan, options).bytes;
}

std::size_t selection_bytes(const AttentionArguments& arguments, const SelectOptions& options) {
  const Plan plan = make_plan(arguments, options);
  const Memory memory = lay_out(nullptr, arguments, plan, options);
  if (memory.bytes == 0) return workspace_bytes(arguments);
  // Only sizes matter here, so any non-null pointers pass the checks.
  DeviceWorkList work = view_of(memory, plan);
  static const int32_t somewhere[1] = {};
  work.tile_begin = work.columns = work.column_count = work.column_cut = somewhere;
  work.tiles = reinterpret_cast<const uint32_t*>(somewhere);
  return memory.bytes + workspace_bytes(arguments, work);
}

Selected select(const AttentionArguments& arguments, const SelectOptions& options, const Launch& launch) {
  const Plan plan = make_plan(arguments, options);
  Memory memory = lay_out(launch.data, arguments, plan, options);
  Selected selected;
  selected.dense = memory.bytes == 0;
  if (selected.dense) return selected;
  if (launch.data == nullptr || launch.bytes < memory.bytes) {
    reject("scratch memory of " + std::to_string(memory.bytes) + " bytes is needed, found " +
           std::to_string(launch.bytes) + "; see list_bytes()");
  }
  const bool half_precision = arguments.queries.type == ElementType::f16;
  const Sequence& sequence = arguments.sequences.front();
  LineListArguments lines = plan.lines;
  if (by_lines(plan.method)) {
    point_probe(memory.probe, arguments);
    set_last_rows(memory.probe, sequence.query_begin, sequence.query_rows, sequence.first_position);
    must(launch_probe(memory.probe, ProbeKind::lines, half_precision, launch.stream), "launching the probe");
    lines.column_mass = memory.probe.column_mass;
    lines.diagonal_mass = memory.probe.diagonal_mass;
    selected.column_mass = lines.column_mass;
    selected.diagonal_mass = lines.diagonal_mass;
  } else if (by_choice(plan.method)) {
    point_probe(memory.probe, arguments);
    const int32_t groups =
        set_spread_rows(memory.probe, sequence.query_begin, sequence.query_rows, sequence.first_position);
    must(launch_probe(memory.probe, ProbeKind::spread, half_precision, launch.stream), "launching the probe");
    const LineChoice choice = make_choice(memory, plan, options, groups);
    memory.probe.columns = memory.lists.columns;
    memory.probe.column_count = memory.lists.column_count;
    memory.probe.column_stride = memory.lists.column_stride;
    for (const bool again : {false, true}) {
      must(launch_choose_columns(choice, plan.heads, again, launch.stream), "launching the choice of columns");
      must(launch_column_groups(memory.probe, half_precision, launch.stream), "launching the column masses");
    }
    must(launch_choose_bands(choice, plan.heads, launch.stream), "launching the choice of bands");
    lines.given_columns = true;
    lines.rule.bands = memory.band_bits;
    selected.column_mass = memory.probe.column_mass;
    selected.report = memory.report;
  } else if (by_blocks(plan.method)) {
    point_rows(memory.blocks, arguments);
    memory.blocks.query_begin = sequence.query_begin;
    must(build_block_lists(memory.blocks, memory.lists, half_precision, launch.stream), "launching the block lists");
    selected.work = view_of(memory, plan);
    selected.overflow = memory.lists.overflow;
    return selected;
  } else {
    lines.first_column = plan.rule.sink_rows / plan.rule.key_tile * plan.rule.key_tile;
    lines.columns_kept = plan.rule.sink_rows - lines.first_column;
  }
  must(build_line_lists(lines, memory.lists, launch.stream), "launching the lists");
  selected.work = view_of(memory, plan);
  selected.overflow = memory.lists.overflow;
  return selected;
}

Selected attend_selected(const AttentionArguments& arguments, const SelectOptions& options, const Launch& launch,
                         Kernel kernel) {
  const std::size_t needed = selection_bytes(arguments, options);
  if (launch.data == nullptr || launch.bytes < needed || reinterpret_cast<uintptr_t>(launch.data) % 256 != 0) {
    reject("scratch memory of " + std::to_string(needed) + " bytes aligned to 256 is needed, found " +
           std::to_string(launch.bytes) + "; see selection_bytes()");
  }
  kernel_for(compute_capability());
  // The attention's own memory comes first: finish() looks there.
  const std::size_t attention_bytes = needed - list_bytes(arguments, options);
  auto* const memory = static_cast<unsigned char*>(launch.data);
  const Selected selected = select(
      arguments, options,
      {.data = memory + attention_bytes, .bytes = launch.bytes - attention_bytes, .stream = launch.stream});
  if (selected.dense) {
    attend_dense(arguments, launch, kernel);
    return selected;
  }
  attend(arguments, selected.work, {.data = memory, .bytes = attention_bytes, .stream = launch.stream}, kernel);
  return selected;
}

}  // namespace tessera::attention::cuda
