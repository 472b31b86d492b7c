// The methods of cuda_select.h, on the device and on the host.
#include "tessera/attention/cuda_select.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "attention/cuda/select_plan.h"
#include "attention/cuda/selection_steps.h"

namespace tessera::attention::cuda {
namespace {

[[noreturn]] void reject(const std::string& message) {
  throw Error(ErrorCode::invalid_argument, "CUDA selection: " + message);
}

// Rows, strides and scale, for the probe and the block methods alike.
template <typename Target>
void point_rows(Target& to, const AttentionArguments& arguments, const Sequence& sequence) {
  to.queries = arguments.queries.data;
  to.keys = static_cast<const uint16_t*>(arguments.keys.data) + sequence.key_begin * arguments.keys.strides[0];
  for (size_t axis = 0; axis < 2; ++axis) {
    to.query_stride[axis] = arguments.queries.strides[axis];
    to.key_stride[axis] = arguments.keys.strides[axis];
  }
  to.scale = arguments.scale > 0 ? arguments.scale : 1.0F / std::sqrt(static_cast<float>(to.head_dim));
}

// One call's way from rows to lists.
class ListMaker {
 public:
  ListMaker(const AttentionArguments& arguments, const SelectOptions& options, const SelectPlan& plan,
            SelectMemory& memory, SelectionSteps& steps)
      : arguments_(arguments), options_(options), plan_(plan), memory_(memory), steps_(steps) {}

  // All lists, and what was measured on the way; `work` is left empty.
  Selected run() {
    const LineLists& all = memory_.lists;
    clear_owners();
    std::vector<LineListArguments> lines;
    for (size_t s = 0; s < plan_.sequences.size(); ++s) {
      const SequencePlan& sequence = plan_.sequences[s];
      SequenceMemory& own = memory_.sequences[s];
      lines.push_back(choose_lines(sequence, own));
      if (is_by_blocks(sequence.method)) {
        point_rows(own.blocks, arguments_, sequence.sequence);
        own.blocks.query_begin = sequence.sequence.query_begin;
        own.blocks.half_precision = arguments_.queries.type == ElementType::f16;
        steps_.count_blocks(own.blocks, own.lists);
      } else {
        steps_.count_lines(lines.back(), own.lists);
      }
    }
    if (plan_.band_stride == 0) write_tiles(lines);
    Selected selected{.overflow = all.overflow, .report = memory_.report};
    if (plan_.sequences.size() == 1) {
      selected.column_mass = memory_.probe.column_mass;
      selected.diagonal_mass = memory_.probe.diagonal_mass;
    }
    return selected;
  }

 private:
  void write_tiles(const std::vector<LineListArguments>& lines) {
    const LineLists& all = memory_.lists;
    steps_.begin_lists(all, plan_.lists());
    for (size_t s = 0; s < plan_.sequences.size(); ++s) {
      const SequenceMemory& own = memory_.sequences[s];
      if (is_by_blocks(plan_.sequences[s].method)) {
        steps_.write_blocks(own.blocks, own.lists);
      } else {
        steps_.write_lines(lines[s], own.lists);
      }
    }
    steps_.end_lists(all, plan_.lists());
  }

  // Sequences without columns or report have none of either; when all have both, nothing needs clearing.
  void clear_owners() {
    const bool all = std::all_of(plan_.sequences.begin(), plan_.sequences.end(), [](const SequencePlan& sequence) {
      return is_by_choice(sequence.method) || is_by_lines(sequence.method);
    });
    const bool reports = std::all_of(plan_.sequences.begin(), plan_.sequences.end(),
                                     [](const SequencePlan& sequence) { return is_by_choice(sequence.method); });
    const bool none_empty = plan_.sequences.size() == static_cast<size_t>(plan_.sequence_count);
    const auto owners = static_cast<size_t>(plan_.sequence_count * plan_.heads);
    if (memory_.lists.column_stride > 0 && !(all && none_empty)) {
      steps_.clear(memory_.lists.column_count, sizeof(int32_t) * owners);
      steps_.clear(memory_.lists.column_cut, sizeof(int32_t) * static_cast<size_t>(plan_.lists()));
    }
    if (memory_.lists.band_stride > 0) {
      steps_.clear(memory_.lists.band_count, sizeof(int32_t) * owners);
      steps_.clear(memory_.lists.overflow, sizeof(uint32_t));
    }
    if (memory_.report != nullptr && !(reports && none_empty)) steps_.clear(memory_.report, 2 * sizeof(float) * owners);
  }

  // What the lists of a sequence are made from; its bits and columns are written.
  LineListArguments choose_lines(const SequencePlan& sequence, const SequenceMemory& own) {
    LineListArguments lines = sequence.lines;
    if (!is_by_lines(sequence.method) && !is_by_choice(sequence.method)) return lines;
    const Sequence& from = sequence.sequence;
    Probe& probe = memory_.probe;
    probe.key_rows = from.key_rows;
    point_rows(probe, arguments_, from);
    set_splits(probe, steps_.multiprocessors());
    if (is_by_lines(sequence.method)) {
      set_last_rows(probe, from.query_begin, from.query_rows, from.first_position);
      steps_.probe(probe, ProbeKind::lines);
      lines.column_mass = probe.column_mass;
      lines.diagonal_mass = probe.diagonal_mass;
      return lines;
    }
    set_spread_rows(probe, from.query_begin, from.query_rows, from.first_position);
    steps_.probe(probe, ProbeKind::spread);
    const LineChoice choice = make_choice(sequence, own);
    probe.columns = own.lists.columns;
    probe.column_count = own.lists.column_count;
    probe.column_stride = own.lists.column_stride;
    for (const bool again : {false, true}) {
      steps_.choose_columns(choice, plan_.heads, again);
      steps_.column_groups(probe);
    }
    steps_.choose_bands(choice, plan_.heads);
    lines.rule.bands = own.band_bits;
    return lines;
  }

  LineChoice make_choice(const SequencePlan& sequence, const SequenceMemory& own) const {
    const Probe& probe = memory_.probe;
    const TileRule& rule = sequence.rule;
    const bool by_tiles = sequence.method == Method::tiles;
    LineChoice choice{.column_mass = probe.column_mass,
                      .column_gain = probe.column_gain,
                      .column_key = reinterpret_cast<uint32_t*>(probe.column_gain),
                      .tile_mass = probe.tile_mass,
                      .tile_rest = memory_.tile_rest,
                      .band_mass = memory_.band_mass,
                      .columns = own.lists.columns,
                      .column_count = own.lists.column_count,
                      .column_groups = probe.column_groups,
                      .band_bits = own.band_bits,
                      .report = own.report,
                      .geometry = {rule.query_rows, rule.key_rows, rule.first_position},
                      .groups = probe.row_count / (kProbeRows / kProbeGroups),
                      .row_count = probe.row_count,
                      .target = by_tiles ? ChoiceTarget::tiles : ChoiceTarget::recall,
                      .share = by_tiles ? options_.share : options_.recall,
                      .column_room = own.lists.column_stride,
                      .forced_columns = std::min(options_.sinks, rule.key_rows)};
    for (int32_t g = 0; g < choice.groups; ++g) {
      // Of the query tile, not of the row: its last row may see one tile more.
      const int32_t query_tile = (probe.own[g * (kProbeRows / kProbeGroups)] - rule.first_position) / kQueryTile;
      choice.own_tile[g] = choice.geometry.own_tile(query_tile);
    }
    choice.forced_bands = rule.first_position % kQueryTile == 0 ? 1 : 2;  // the own rows of every query tile
    const double room = static_cast<double>(memory_.lists.tile_capacity) / static_cast<double>(plan_.dense_entries);
    choice.dense_fits = room > 0.99;
    if (!choice.dense_fits) choice.most_tiles = static_cast<float>(std::min(0.9, 0.95 * room));
    return choice;
  }

  const AttentionArguments& arguments_;
  const SelectOptions& options_;
  const SelectPlan& plan_;
  SelectMemory& memory_;
  SelectionSteps& steps_;
};

DeviceWorkList view_of(const LineLists& lists, const SelectPlan& plan, const SelectOptions& options) {
  return {.key_tile = plan.band_stride > 0 ? kBandTile : plan.key_tile,
          .list_heads = plan.heads,
          .query_tiles = plan.query_tiles,
          .tile_begin = lists.tile_begin,
          .tiles = lists.tiles,
          .tile_capacity = lists.tile_capacity,
          .column_stride = lists.column_stride,
          .columns = lists.columns,
          .column_count = lists.column_count,
          .column_cut = lists.column_cut,
          .band_stride = lists.band_stride,
          .bands = lists.bands,
          .band_cut = lists.band_cut,
          .correction_levels = options.correction_levels};
}

size_t device_scan_bytes(const SelectPlan& plan) {
  return plan.dense || plan.band_stride > 0 ? 0 : line_scan_bytes(plan.lists() + 1);
}

}  // namespace

std::size_t list_bytes(const AttentionArguments& arguments, const SelectOptions& options) {
  const SelectPlan plan = plan_selection(arguments, options);
  return lay_out_selection(nullptr, arguments, plan, options, device_scan_bytes(plan)).bytes;
}

std::size_t host_list_bytes(const AttentionArguments& arguments, const SelectOptions& options) {
  return lay_out_selection(nullptr, arguments, plan_selection(arguments, options), options, 0).bytes;
}

std::size_t selection_bytes(const AttentionArguments& arguments, const SelectOptions& options) {
  const SelectPlan plan = plan_selection(arguments, options);
  const SelectMemory memory = lay_out_selection(nullptr, arguments, plan, options, device_scan_bytes(plan));
  if (memory.bytes == 0) return workspace_bytes(arguments);
  // Only sizes matter here, so any non-null pointers pass the checks.
  DeviceWorkList work = view_of(memory.lists, plan, options);
  static const int32_t somewhere[1] = {};
  work.tile_begin = work.columns = work.column_count = work.column_cut = work.bands = work.band_cut = somewhere;
  work.tiles = reinterpret_cast<const uint32_t*>(somewhere);
  return memory.bytes + workspace_bytes(arguments, work);
}

Selected select(const AttentionArguments& arguments, const SelectOptions& options, const Launch& launch) {
  const SelectPlan plan = plan_selection(arguments, options);
  SelectMemory memory = lay_out_selection(launch.data, arguments, plan, options, device_scan_bytes(plan));
  if (memory.bytes == 0) return {.dense = true};
  if (launch.data == nullptr || launch.bytes < memory.bytes) {
    reject("scratch memory of " + std::to_string(memory.bytes) + " bytes is needed, found " +
           std::to_string(launch.bytes) + "; see list_bytes()");
  }
  const bool half_precision = arguments.queries.type == ElementType::f16;
  const auto steps = device_steps(half_precision, options.exact, launch.stream);
  Selected selected = ListMaker(arguments, options, plan, memory, *steps).run();
  selected.work = view_of(memory.lists, plan, options);
  return selected;
}

Selected select_on_host(const AttentionArguments& arguments, const SelectOptions& options, const Launch& memory) {
  const SelectPlan plan = plan_selection(arguments, options);
  SelectMemory arrays = lay_out_selection(memory.data, arguments, plan, options, 0);
  if (arrays.bytes == 0) return {.dense = true};
  if (memory.data == nullptr || memory.bytes < arrays.bytes) {
    reject("host memory of " + std::to_string(arrays.bytes) + " bytes is needed, found " +
           std::to_string(memory.bytes) + "; see host_list_bytes()");
  }
  const auto steps = host_steps(arguments.queries.type == ElementType::f16);
  Selected selected = ListMaker(arguments, options, plan, arrays, *steps).run();
  selected.work = view_of(arrays.lists, plan, options);
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
  const Selected selected =
      select(arguments, options,
             {.data = memory + attention_bytes, .bytes = launch.bytes - attention_bytes, .stream = launch.stream});
  if (selected.dense) {
    attend_dense(arguments, launch, kernel);
    return selected;
  }
  attend(arguments, selected.work, {.data = memory, .bytes = attention_bytes, .stream = launch.stream}, kernel);
  return selected;
}

}  // namespace tessera::attention::cuda
