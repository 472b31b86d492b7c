#include <algorithm>
#include <string>

#include "attention/cuda/c_boundary.h"
#include "tessera/attention/cuda.h"
#include "tessera/attention/cuda_c.h"
#include "tessera/attention/cuda_select.h"

namespace tessera::attention::cuda {
namespace {

thread_local std::string last_error;

template <typename Body>
int guarded(const Body& body) noexcept {
  return guarded_into(last_error, body);
}

constexpr NamedCall kCall = {"CUDA attention"};

void require(const void* pointer, const char* name) { kCall.require(pointer, name); }
DeviceView to_view(const tessera_cuda_view& from) { return kCall.view(from); }

AttentionArguments to_arguments(const tessera_cuda_attention* from) {
  require(from, "attention");
  AttentionArguments arguments{.queries = to_view(from->queries),
                               .keys = to_view(from->keys),
                               .values = to_view(from->values),
                               .out = to_view(from->out),
                               .lse = to_view(from->lse),
                               .scale = from->scale};
  if (from->sequence_count > 0) require(from->sequences, "sequences");
  for (int32_t s = 0; s < from->sequence_count; ++s) {
    const tessera_cuda_sequence& sequence = from->sequences[s];
    arguments.sequences.push_back(
        {sequence.query_begin, sequence.query_rows, sequence.key_begin, sequence.key_rows, sequence.first_position});
  }
  return arguments;
}

DeviceWorkList to_work(const tessera_cuda_work_list& from) {
  return {.key_tile = from.key_tile,
          .list_heads = from.list_heads,
          .query_tiles = from.query_tiles,
          .tile_begin = from.tile_begin,
          .tiles = from.tiles,
          .tile_capacity = from.tile_capacity,
          .overflow = from.overflow,
          .column_stride = from.column_stride,
          .columns = from.columns,
          .column_count = from.column_count,
          .column_cut = from.column_cut,
          .band_stride = from.band_stride,
          .bands = from.bands,
          .band_cut = from.band_cut,
          .correction_levels = from.correction_levels};
}

Launch to_launch(const tessera_cuda_launch& from) { return {from.data, from.bytes, from.stream}; }

Kernel to_kernel(const tessera_cuda_launch& from) {
  if (from.kernel < TESSERA_CUDA_AUTOMATIC || from.kernel > TESSERA_CUDA_MMA_SYNC) {
    throw Error(ErrorCode::invalid_argument,
                "CUDA attention: kernel must be 0 (automatic), 1 (wgmma) or 2 (mma.sync), found " +
                    std::to_string(from.kernel));
  }
  return static_cast<Kernel>(from.kernel);
}

SelectOptions to_options(const tessera_cuda_options* from) {
  require(from, "options");
  if (from->method < TESSERA_CUDA_DENSE || from->method > TESSERA_CUDA_AUTO) {
    throw Error(ErrorCode::invalid_argument,
                "CUDA selection: method must be 0 (dense) to 7 (automatic), found " + std::to_string(from->method));
  }
  return {.method = static_cast<Method>(from->method),
          .vertical = from->vertical,
          .slash = from->slash,
          .sinks = from->sinks,
          .local = from->local,
          .window = from->window,
          .dense_rows = from->dense_rows,
          .recall = from->recall,
          .share = from->share,
          .threshold = from->threshold,
          .top_k = from->top_k,
          .most_columns = from->most_columns,
          .crossover = from->crossover,
          .correction_levels = from->correction_levels,
          .exact = from->exact != 0,
          .bands = from->bands != 0,
          .most_entries = from->most_entries};
}

void give(const Selected& from, tessera_cuda_selected* to) {
  if (to == nullptr) return;
  const DeviceWorkList& work = from.work;
  *to = {.dense = from.dense,
         .work = {work.tile_begin, work.tiles, work.columns, work.column_count, work.column_cut, work.tile_capacity,
                  work.key_tile, work.list_heads, work.query_tiles, work.column_stride, work.correction_levels, nullptr,
                  work.bands, work.band_cut, work.band_stride},
         .overflow = from.overflow,
         .report = from.report,
         .column_mass = from.column_mass,
         .diagonal_mass = from.diagonal_mass};
}

}  // namespace
}  // namespace tessera::attention::cuda

using namespace tessera::attention::cuda;

extern "C" {

const char* tessera_cuda_last_error(void) { return last_error.c_str(); }

int tessera_cuda_compute_capability(int32_t* capability) {
  return guarded([&] {
    require(capability, "capability");
    *capability = compute_capability();
  });
}

int tessera_cuda_workspace_bytes(const tessera_cuda_attention* attention, const tessera_cuda_work_list* work,
                                 size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes");
    AttentionArguments arguments = to_arguments(attention);
    *bytes = work ? workspace_bytes(arguments, to_work(*work)) : workspace_bytes(arguments);
  });
}

int tessera_cuda_attend_dense(const tessera_cuda_attention* attention, const tessera_cuda_launch* launch) {
  return guarded([&] {
    require(launch, "launch");
    attend_dense(to_arguments(attention), to_launch(*launch), to_kernel(*launch));
  });
}

int tessera_cuda_attend(const tessera_cuda_attention* attention, const tessera_cuda_work_list* work,
                        const tessera_cuda_launch* launch) {
  return guarded([&] {
    require(launch, "launch");
    require(work, "work");
    attend(to_arguments(attention), to_work(*work), to_launch(*launch), to_kernel(*launch));
  });
}

void tessera_cuda_default_options(tessera_cuda_options* options) {
  if (options == nullptr) return;
  const SelectOptions from;
  *options = {.method = static_cast<int32_t>(from.method),
              .vertical = from.vertical,
              .slash = from.slash,
              .sinks = from.sinks,
              .local = from.local,
              .window = from.window,
              .dense_rows = from.dense_rows,
              .top_k = from.top_k,
              .most_columns = from.most_columns,
              .crossover = from.crossover,
              .recall = from.recall,
              .share = from.share,
              .threshold = from.threshold,
              .most_entries = from.most_entries,
              .correction_levels = from.correction_levels,
              .exact = from.exact ? 1 : 0,
              .bands = from.bands ? 1 : 0};
}

int tessera_cuda_selection_bytes(const tessera_cuda_attention* attention, const tessera_cuda_options* options,
                                 int32_t attend, size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes");
    const AttentionArguments arguments = to_arguments(attention);
    *bytes = attend != 0 ? selection_bytes(arguments, to_options(options)) : list_bytes(arguments, to_options(options));
  });
}

int tessera_cuda_select(const tessera_cuda_attention* attention, const tessera_cuda_options* options,
                        const tessera_cuda_launch* launch, tessera_cuda_selected* selected) {
  return guarded([&] {
    require(launch, "launch");
    give(select(to_arguments(attention), to_options(options), to_launch(*launch)), selected);
  });
}

int tessera_cuda_attend_selected(const tessera_cuda_attention* attention, const tessera_cuda_options* options,
                                 const tessera_cuda_launch* launch, tessera_cuda_selected* selected) {
  return guarded([&] {
    require(launch, "launch");
    give(attend_selected(to_arguments(attention), to_options(options), to_launch(*launch), to_kernel(*launch)),
         selected);
  });
}

int tessera_cuda_measure_crossover(int32_t query_heads, int32_t kv_heads, int32_t head_dim, int32_t type,
                                   int32_t* rows) {
  return guarded([&] {
    require(rows, "rows");
    if (type != TESSERA_CUDA_BF16 && type != TESSERA_CUDA_F16) {
      throw tessera::Error(tessera::ErrorCode::invalid_argument,
                           "CUDA selection: type must be 0 (bf16) or 1 (f16), found " + std::to_string(type));
    }
    *rows = measure_crossover({query_heads, kv_heads, head_dim, static_cast<ElementType>(type)});
  });
}

int tessera_cuda_finish(const tessera_cuda_launch* launch) {
  return guarded([&] {
    require(launch, "launch");
    finish(to_launch(*launch));
  });
}

}  // extern "C"
