#include "attention/cuda/select_plan.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "attention/cuda/scratch.h"

namespace tessera::attention::cuda {
namespace {

[[noreturn]] void reject(const std::string& message) {
  throw Error(ErrorCode::invalid_argument, "CUDA selection: " + message);
}

Method resolve(const Sequence& sequence, const SelectOptions& options) {
  if (options.method != Method::automatic) return options.method;
  const bool is_long = sequence.key_rows >= options.crossover && sequence.query_rows >= 16 * kQueryTile;
  return is_long ? Method::recall : Method::dense;
}

void check_options(const AttentionArguments& arguments, const SelectOptions& options) {
  check(arguments);
  for (const Sequence& sequence : arguments.sequences) {
    if (sequence.query_rows == 0 || sequence.first_position + sequence.query_rows <= sequence.key_rows) continue;
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
  if (options.correction_levels < 0 || options.correction_levels > 2) {
    reject("correction_levels must be 0, 1 or 2, found " + std::to_string(options.correction_levels));
  }
  if (!options.bands) return;
  if (options.method != Method::vertical_slash) reject("bands stand for the diagonals of vertical_slash alone");
  if (options.slash < 1) reject("bands need diagonals, found slash 0");
  if (options.correction_levels > 0) reject("the mean correction needs tiles, found bands");
  if (arguments.queries.shape[2] > 128) {
    reject("bands need head_dim 64, 96 or 128, found " + std::to_string(arguments.queries.shape[2]));
  }
}

void check_block_rows(const Sequence& sequence, const SelectOptions& options) {
  const int32_t most = most_block_key_rows(options.top_k);
  if (sequence.key_rows <= most) return;
  throw Error(ErrorCode::limit_exceeded,
              "CUDA selection: the block methods hold the scores of four query tiles in shared memory, which has room "
              "for " +
                  std::to_string(most) + " key rows, found " + std::to_string(sequence.key_rows) +
                  "; use recall or vertical_slash");
}

SequencePlan plan_sequence(const Sequence& sequence, const SelectOptions& options, int32_t heads, int32_t key_tile) {
  SequencePlan plan{.sequence = sequence, .method = resolve(sequence, options)};
  TileRule& rule = plan.rule;
  rule = {.query_rows = sequence.query_rows,
          .key_rows = sequence.key_rows,
          .first_position = sequence.first_position,
          .query_tile = kQueryTile,
          .key_tile = key_tile};
  if (plan.method == Method::dense) rule.dense_from = 0;
  if (plan.method == Method::a_shape || is_by_blocks(plan.method)) {
    rule.sink_rows = std::min(options.sinks, sequence.key_rows);
    rule.window = options.window;
    if (options.dense_rows > 0) rule.dense_from = sequence.query_rows - options.dense_rows;
  }
  if (is_by_blocks(plan.method)) {
    check_block_rows(sequence, options);
    rule.key_tile = kQueryTile;  // chosen so, and written as tiles of key_tile
    rule.sink_rows = (rule.sink_rows + kQueryTile - 1) / kQueryTile * kQueryTile;
  }
  // The last query tile, where questions are, is dense when it is a small part of the prompt.
  if (is_by_choice(plan.method) && plan.query_tiles() >= 32) rule.dense_from = sequence.query_rows - 1;
  LineListArguments& lines = plan.lines;
  lines.heads = heads;
  lines.columns_kept = std::max(options.vertical, options.sinks);
  lines.diagonals_kept = std::min(std::max(options.slash, options.local), sequence.key_rows);
  lines.forced_columns = options.sinks;
  lines.forced_diagonals = options.local;
  if (plan.method == Method::a_shape) {
    lines.first_column = rule.sink_rows / rule.key_tile * rule.key_tile;
    lines.columns_kept = rule.sink_rows - lines.first_column;
  }
  lines.given_columns = is_by_choice(plan.method);
  lines.rule = rule;
  return plan;
}

int32_t column_room(const SequencePlan& plan, const SelectOptions& options) {
  if (is_by_choice(plan.method)) return options.most_columns;
  const bool has_lines = is_by_lines(plan.method) || plan.method == Method::a_shape;
  const int32_t kept = has_lines ? std::min(plan.lines.columns_kept, plan.rule.key_rows) : 0;
  return (kept + 127) / 128 * 128;
}

int64_t causal_entries(const SequencePlan& plan, int32_t key_tile) {
  TileRule rule = plan.rule;
  rule.key_tile = key_tile;
  int64_t entries = 0;
  for (int32_t t = 0; t < line_query_tiles(rule); ++t) entries += rule.visible_tiles(t);
  return entries;
}

// What is used for one sequence after the other: room for the largest.
void take_probe(SelectMemory& memory, Scratch& scratch, const SelectPlan& plan) {
  int64_t rows = 0;
  int64_t diagonals = 0;
  int64_t choice_rows = 0;
  for (const SequencePlan& sequence : plan.sequences) {
    const int64_t keys = sequence.sequence.key_rows;
    if (is_by_lines(sequence.method)) diagonals = std::max(diagonals, keys);
    if (is_by_choice(sequence.method)) choice_rows = std::max(choice_rows, keys);
    rows = std::max(diagonals, choice_rows);
  }
  if (rows == 0) return;
  const int64_t heads = plan.heads;
  memory.probe.partial = scratch.take<float>(heads * kMaxProbeSplits * kProbeRows * 2);
  memory.probe.column_mass = scratch.take<float>(heads * rows);
  if (diagonals > 0) memory.probe.diagonal_mass = scratch.take<float>(heads * diagonals);
  if (choice_rows == 0) return;
  const int64_t tiles = (choice_rows + kProbeTile - 1) / kProbeTile;
  memory.probe.column_gain = scratch.take<float>(heads * choice_rows);
  memory.probe.tile_mass = scratch.take<float>(heads * tiles * kProbeGroups);
  memory.probe.column_groups = scratch.take<float>(heads * plan.column_stride * kProbeGroups);
  memory.tile_rest = scratch.take<float>(heads * tiles * kProbeGroups);
  memory.band_mass = scratch.take<float>(heads * tiles * 2);
}

void take_blocks(BlockLists& blocks, Scratch& scratch, const SequencePlan& plan, const SelectOptions& options) {
  blocks.mean_rows = plan.method == Method::block_mean ? kQueryTile : 32;
  blocks.choice = {plan.rule, -std::log(options.threshold), plan.method == Method::block_mean ? options.top_k : 0,
                   blocks.head_dim == 256 ? 64 : kQueryTile};
  const int64_t query_means = int64_t{blocks.query_heads} * blocks.query_means_count();
  const int64_t key_means = int64_t{blocks.kv_heads} * blocks.key_means_count();
  blocks.query_means = scratch.take<uint16_t>(query_means * blocks.head_dim);
  blocks.key_means = scratch.take<uint16_t>(key_means * blocks.head_dim);
  blocks.query_steps = scratch.take<float>(query_means);
  blocks.key_steps = scratch.take<float>(key_means);
}

// The part of a sequence in the arrays of all.
LineLists view_of_sequence(const LineLists& all, const SelectPlan& plan, const SequencePlan& sequence) {
  LineLists lists = all;
  const auto skip = [](auto*& pointer, int64_t count) {
    if (pointer != nullptr) pointer += count;
  };
  skip(lists.columns, int64_t{sequence.index} * plan.heads * all.column_stride);
  skip(lists.column_count, int64_t{sequence.index} * plan.heads);
  skip(lists.column_cut, sequence.first_tile);
  skip(lists.counts, sequence.first_tile);
  skip(lists.tile_begin, sequence.first_tile);
  skip(lists.bands, int64_t{sequence.index} * plan.heads * all.band_stride);
  skip(lists.band_count, int64_t{sequence.index} * plan.heads);
  skip(lists.band_cut, sequence.first_tile);
  lists.list_pitch = plan.query_tiles;
  return lists;
}

}  // namespace

SelectPlan plan_selection(const AttentionArguments& arguments, const SelectOptions& options) {
  check_options(arguments, options);
  SelectPlan plan{.dense = true,
                  .heads = static_cast<int32_t>(arguments.queries.shape[1]),
                  .sequence_count = static_cast<int32_t>(arguments.sequences.size()),
                  .key_tile = arguments.queries.shape[2] == 256 ? 64 : 128};
  for (int32_t s = 0; s < plan.sequence_count; ++s) {
    const Sequence& sequence = arguments.sequences[static_cast<size_t>(s)];
    if (sequence.query_rows == 0) continue;
    SequencePlan one = plan_sequence(sequence, options, plan.heads, plan.key_tile);
    one.index = s;
    one.first_tile = plan.query_tiles;
    plan.query_tiles += one.query_tiles();
    plan.dense = plan.dense && one.method == Method::dense;
    plan.column_stride = std::max(plan.column_stride, column_room(one, options));
    plan.dense_entries += plan.heads * causal_entries(one, plan.key_tile);
    if (options.bands) {
      plan.band_stride = std::max(plan.band_stride, band_room(one.lines.diagonals_kept, sequence.key_rows));
    }
    plan.sequences.push_back(one);
  }
  return plan;
}

SelectMemory lay_out_selection(void* base, const AttentionArguments& arguments, const SelectPlan& plan,
                               const SelectOptions& options, std::size_t scan_bytes) {
  SelectMemory memory;
  if (plan.dense) return memory;
  Scratch scratch(base);
  LineLists& to = memory.lists;
  to.column_stride = plan.column_stride;
  to.tile_capacity = std::min(plan.dense_entries, options.most_entries);
  const int64_t owners = int64_t{plan.sequence_count} * plan.heads;
  if (to.column_stride > 0) {
    to.columns = scratch.take<int32_t>(owners * to.column_stride);
    to.column_count = scratch.take<int32_t>(owners);
    to.column_cut = scratch.take<int32_t>(plan.lists());
  }
  to.band_stride = plan.band_stride;
  if (to.band_stride > 0) {
    to.tile_capacity = 0;
    to.bands = scratch.take<int32_t>(owners * to.band_stride);
    to.band_count = scratch.take<int32_t>(owners);
    to.band_cut = scratch.take<int32_t>(plan.lists());
  } else {
    to.counts = scratch.take<int32_t>(plan.lists() + 1);
    to.tile_begin = scratch.take<int32_t>(plan.lists() + 1);
    to.tiles = scratch.take<uint32_t>(to.tile_capacity);
  }
  to.overflow = scratch.take<uint32_t>(1);
  memory.probe.query_heads = plan.heads;
  memory.probe.kv_heads = static_cast<int32_t>(arguments.keys.shape[1]);
  memory.probe.head_dim = static_cast<int32_t>(arguments.queries.shape[2]);
  take_probe(memory, scratch, plan);
  const bool reports = std::any_of(plan.sequences.begin(), plan.sequences.end(),
                                   [](const SequencePlan& sequence) { return is_by_choice(sequence.method); });
  if (reports) memory.report = scratch.take<float>(owners * 2);
  for (const SequencePlan& sequence : plan.sequences) {
    SequenceMemory own{.lists = view_of_sequence(to, plan, sequence)};
    if (is_by_blocks(sequence.method)) {
      own.blocks.query_heads = plan.heads;
      own.blocks.kv_heads = memory.probe.kv_heads;
      own.blocks.head_dim = memory.probe.head_dim;
      take_blocks(own.blocks, scratch, sequence, options);
    } else if (to.band_stride == 0) {
      own.lists.flags = scratch.take<uint32_t>(int64_t{plan.heads} * sequence.rule.flag_words());
    }
    if (is_by_lines(sequence.method)) {
      own.lists.distances = scratch.take<int32_t>(int64_t{plan.heads} * sequence.lines.diagonals_kept);
      if (to.band_stride == 0) {
        own.lists.distance_bits =
            scratch.take<uint32_t>(int64_t{plan.heads} * distance_words(sequence.sequence.key_rows));
      }
    }
    if (is_by_choice(sequence.method)) {
      own.band_bits = scratch.take<uint32_t>(int64_t{plan.heads} * ((sequence.band_tiles() + 31) / 32));
      own.report = memory.report != nullptr ? memory.report + int64_t{sequence.index} * plan.heads * 2 : nullptr;
    }
    memory.sequences.push_back(own);
  }
  to.scan_bytes = scan_bytes;
  to.scan = scratch.take<char>(static_cast<int64_t>(scan_bytes));
  memory.bytes = scratch.used();
  return memory;
}

}  // namespace tessera::attention::cuda
