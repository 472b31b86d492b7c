// Checks, scratch memory and launches of one call.
#include <cmath>
#include <string>

#include "attention/cuda/correction.h"
#include "attention/cuda/device.h"
#include "attention/cuda/fallback_launch.h"
#include "attention/cuda/hopper_launch.h"
#include "attention/cuda/hopper_maps.h"
#include "attention/cuda/list_plan.h"
#include "attention/cuda/scratch.h"
#include "attention/cuda/status.h"
#include "attention/cuda/tensor_map.h"
#include "tessera/attention/cuda.h"

namespace tessera::attention::cuda {
namespace {

// Words at the start of the scratch memory of every call: next item, items, split rows, overflow.
constexpr int kCounters = 4;
constexpr int kOverflow = 3;

Problem make_problem(const AttentionArguments& arguments) {
  const DeviceView& q = arguments.queries;
  Problem problem = {};
  problem.queries = q.data;
  problem.keys = arguments.keys.data;
  problem.values = arguments.values.data;
  problem.out = arguments.out.data;
  problem.lse = static_cast<float*>(arguments.lse.data);
  for (size_t axis = 0; axis < 2; ++axis) {
    problem.query_stride[axis] = q.strides[axis];
    problem.key_stride[axis] = arguments.keys.strides[axis];
    problem.value_stride[axis] = arguments.values.strides[axis];
    problem.out_stride[axis] = arguments.out.strides[axis];
  }
  problem.lse_stride = arguments.lse.strides[0];
  problem.query_heads = static_cast<int32_t>(q.shape[1]);
  problem.kv_heads = static_cast<int32_t>(arguments.keys.shape[1]);
  problem.head_dim = static_cast<int32_t>(q.shape[2]);
  problem.query_tiles = query_tiles(arguments.sequences);
  problem.sequences = static_cast<int32_t>(arguments.sequences.size());
  problem.scale = arguments.scale > 0 ? arguments.scale : 1.0f / std::sqrt(static_cast<float>(q.shape[2]));
  int32_t tile = 0;
  for (size_t s = 0; s < arguments.sequences.size(); ++s) {
    const Sequence& from = arguments.sequences[s];
    problem.sequence[s] = {from.query_begin, from.query_rows, from.key_begin, from.key_rows, from.first_position, tile};
    tile += (from.query_rows + kQueryTile - 1) / kQueryTile;
  }
  return problem;
}

struct ListScratch {
  int* counters;  // [kCounters]
  WorkItem* items;
  SplitRow* splits;
  float* partial_out;
  float* partial_lse;
  uint32_t* column_keep;
  uint16_t* column_keys;
  uint16_t* column_values;
  Pooled pooled;
};

ListScratch list_scratch(Scratch& scratch, const AttentionArguments& arguments, const DeviceWorkList& work) {
  int64_t head_dim = arguments.queries.shape[2];
  int64_t rows = arguments.queries.shape[1] * work.query_tiles;
  int64_t owners = static_cast<int64_t>(arguments.sequences.size()) * work.list_heads;
  int64_t lists = int64_t{work.list_heads} * work.query_tiles;
  ListScratch memory = {};
  memory.counters = scratch.take<int>(kCounters);
  memory.items = scratch.take<WorkItem>(rows + kMaxSlots);
  memory.splits = scratch.take<SplitRow>(kMaxSlots);
  memory.partial_out = scratch.take<float>(int64_t{kMaxSlots} * kQueryTile * head_dim);
  memory.partial_lse = scratch.take<float>(int64_t{kMaxSlots} * kQueryTile);
  memory.column_keep = scratch.take<uint32_t>(lists * (work.column_stride / 32));
  memory.column_keys = scratch.take<uint16_t>(owners * work.column_stride * head_dim);
  memory.column_values = scratch.take<uint16_t>(owners * work.column_stride * head_dim);
  memory.pooled.levels = work.correction_levels;
  if (work.correction_levels > 0) {
    lay_out(memory.pooled, make_problem(arguments), work.key_tile);
    memory.pooled.column_count = work.column_count;
    memory.pooled.keys = scratch.take<uint16_t>(int64_t{work.list_heads} * memory.pooled.rows * head_dim);
    memory.pooled.values = scratch.take<uint16_t>(int64_t{work.list_heads} * memory.pooled.rows * head_dim);
    memory.pooled.counts = scratch.take<int32_t>(int64_t{work.list_heads} * memory.pooled.rows);
  }
  return memory;
}

void check_pointer(const void* pointer, int device, const char* name) {
  if (pointer == nullptr) return;
  cudaPointerAttributes attributes = {};
  check_cuda(cudaPointerGetAttributes(&attributes, pointer), "looking up a pointer");
  bool on_device = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  if (!on_device || (attributes.type == cudaMemoryTypeDevice && attributes.device != device)) {
    throw Error(ErrorCode::invalid_argument,
                std::string("CUDA attention: ") + name + " must lie on GPU " + std::to_string(device) + ", found " +
                    (on_device ? "GPU " + std::to_string(attributes.device) : "host memory"));
  }
}

void check_pointers(const AttentionArguments& arguments, const Launch& launch) {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "looking for a GPU");
  check_pointer(arguments.queries.data, device, "queries");
  check_pointer(arguments.keys.data, device, "keys");
  check_pointer(arguments.values.data, device, "values");
  check_pointer(arguments.out.data, device, "out");
  check_pointer(arguments.lse.data, device, "lse");
  check_pointer(launch.data, device, "scratch memory");
}

void check_scratch(const Launch& launch, size_t needed) {
  if (launch.bytes < needed || launch.data == nullptr || reinterpret_cast<uintptr_t>(launch.data) % 256 != 0) {
    throw Error(ErrorCode::invalid_argument, "CUDA attention: scratch memory of " + std::to_string(needed) +
                                                 " bytes aligned to 256 is needed, found " +
                                                 std::to_string(launch.bytes) + "; see workspace_bytes()");
  }
}

Kernel pick(Kernel asked) {
  int capability = compute_capability();
  Kernel best = kernel_for(capability);
  if (asked == Kernel::wgmma && best != Kernel::wgmma) {
    throw Error(ErrorCode::unsupported, "CUDA attention: the wgmma kernel needs compute capability 9.0, found " +
                                            std::to_string(capability / 10) + "." + std::to_string(capability % 10));
  }
  return asked == Kernel::automatic ? best : asked;
}

TensorMapSource map_source(const DeviceView& view, int box_rows) {
  return {.data = view.data,
          .half_precision = view.type == ElementType::f16,
          .rows = view.shape[0],
          .heads = view.shape[1],
          .head_dim = view.shape[2],
          .row_stride = view.strides[0],
          .head_stride = view.strides[1],
          .box_rows = box_rows};
}

HopperMaps make_maps(const AttentionArguments& arguments, int key_tile) {
  HopperMaps maps = {};
  maps.queries = encode_tensor_map(map_source(arguments.queries, kQueryTile));
  if (arguments.keys.shape[0] > 0) {
    maps.keys = encode_tensor_map(map_source(arguments.keys, key_tile));
    maps.values = encode_tensor_map(map_source(arguments.values, key_tile));
  }
  return maps;
}

void launch_hopper_kernel(const HopperLaunch& launch) {
  cudaError_t status = cudaErrorInvalidValue;
  switch (launch.problem.head_dim) {
    case 64:
      status = launch_hopper_64(launch);
      break;
    case 96:
      status = launch_hopper_96(launch);
      break;
    case 128:
      status = launch_hopper_128(launch);
      break;
    case 256:
      status = launch_hopper_256(launch);
      break;
  }
  check_cuda(status, "launching the attention kernel");
}

void correct(const CorrectionLaunch& launch) {
  if (launch.pooled.levels == 0) return;
  check_cuda(static_cast<cudaError_t>(launch_correction(launch)), "launching the mean correction");
}

void gather_columns(const PlanLaunch& plan, HopperMaps& maps, bool half_precision) {
  if (plan.work.column_stride == 0) return;
  check_cuda(launch_column_gather(plan), "launching the column gather");
  int64_t owners = int64_t{plan.problem.sequences} * plan.work.list_heads;
  TensorMapSource source{.data = plan.column_keys,
                         .half_precision = half_precision,
                         .rows = plan.work.column_stride,
                         .heads = owners,
                         .head_dim = plan.problem.head_dim,
                         .row_stride = plan.problem.head_dim,
                         .head_stride = int64_t{plan.work.column_stride} * plan.problem.head_dim,
                         .box_rows = unit_rows(plan.problem.head_dim, plan.work.key_tile)};
  maps.column_keys = encode_tensor_map(source);
  source.data = plan.column_values;
  maps.column_values = encode_tensor_map(source);
}

}  // namespace

size_t workspace_bytes(const AttentionArguments&) { return 256; }

size_t workspace_bytes(const AttentionArguments& arguments, const DeviceWorkList& work) {
  check(arguments, work);
  Scratch count(nullptr);
  list_scratch(count, arguments, work);
  return count.used();
}

void attend_dense(const AttentionArguments& arguments, const Launch& launch, Kernel kernel) {
  check(arguments);
  kernel = pick(kernel);
  Problem problem = make_problem(arguments);
  if (problem.query_tiles == 0) return;
  check_scratch(launch, workspace_bytes(arguments));
  check_pointers(arguments, launch);
  auto* stream = static_cast<cudaStream_t>(launch.stream);
  check_cuda(cudaMemsetAsync(launch.data, 0, kCounters * sizeof(int), stream), "clearing the counters");
  bool half_precision = arguments.queries.type == ElementType::f16;
  if (kernel == Kernel::mma_sync) {
    check_cuda(launch_fallback({.problem = problem, .work = {}, .half_precision = half_precision, .stream = stream}),
               "launching the attention kernel");
    return;
  }
  HopperMaps maps = make_maps(arguments, dense_key_tile(problem.head_dim));
  launch_hopper_kernel({.problem = problem,
                        .work = {},
                        .maps = &maps,
                        .next_item = static_cast<int*>(launch.data),
                        .blocks = multiprocessors(),
                        .half_precision = half_precision,
                        .stream = stream});
}

void attend(const AttentionArguments& arguments, const DeviceWorkList& work, const Launch& launch, Kernel kernel) {
  check(arguments, work);
  kernel = pick(kernel);
  Problem problem = make_problem(arguments);
  if (problem.query_tiles == 0) return;
  check_scratch(launch, workspace_bytes(arguments, work));
  check_pointers(arguments, launch);
  check_pointer(work.tile_begin, arguments.queries.device, "tile_begin");
  check_pointer(work.tiles, arguments.queries.device, "tiles");
  check_pointer(work.columns, arguments.queries.device, "columns");
  check_pointer(work.bands, arguments.queries.device, "bands");
  auto* stream = static_cast<cudaStream_t>(launch.stream);
  bool half_precision = arguments.queries.type == ElementType::f16;

  Scratch scratch(launch.data);
  ListScratch memory = list_scratch(scratch, arguments, work);
  bool columns = work.column_stride > 0;
  ListWork lists = {.tile_begin = work.tile_begin,
                    .tiles = work.tiles,
                    .column_cut = columns ? work.column_cut : nullptr,
                    .columns = work.columns,
                    .column_keep = memory.column_keep,
                    .bands = work.band_stride > 0 ? work.bands : nullptr,
                    .band_cut = work.band_cut,
                    .list_heads = work.list_heads,
                    .column_stride = work.column_stride,
                    .key_tile = work.key_tile,
                    .band_stride = work.band_stride,
                    .tile_capacity = work.tile_capacity,
                    .overflow = work.overflow,
                    .items = memory.items,
                    .item_count = memory.counters + 1,
                    .partial_out = memory.partial_out,
                    .partial_lse = memory.partial_lse};
  PlanLaunch plan = {.problem = problem,
                     .work = lists,
                     .items = memory.items,
                     .item_count = memory.counters + 1,
                     .splits = memory.splits,
                     .split_count = memory.counters + 2,
                     .overflow = memory.counters + kOverflow,
                     .column_count = work.column_count,
                     .column_keep = memory.column_keep,
                     .column_keys = memory.column_keys,
                     .column_values = memory.column_values,
                     .blocks = multiprocessors(),
                     .stream = stream};
  check_cuda(cudaMemsetAsync(memory.counters, 0, kCounters * sizeof(int), stream), "clearing the counters");
  if (columns) check_cuda(launch_column_keep(plan), "launching the column marks");
  if (kernel == Kernel::mma_sync) {
    check_cuda(launch_fit(plan), "launching the check of the lists");
    check_cuda(launch_fallback({problem, lists, half_precision, true, stream}), "launching the attention kernel");
    correct({problem, lists, memory.pooled, half_precision, stream});
    return;
  }
  if (problem.head_dim == 256 && work.key_tile != 64) {
    throw Error(ErrorCode::unsupported, "CUDA attention: head_dim 256 needs work lists with key_tile 64, found 128");
  }
  HopperMaps maps = make_maps(arguments, work.key_tile);
  if (lists.bands && arguments.keys.shape[0] > 0) {
    maps.unit_keys = encode_tensor_map(map_source(arguments.keys, unit_rows(problem.head_dim, work.key_tile)));
    maps.unit_values = encode_tensor_map(map_source(arguments.values, unit_rows(problem.head_dim, work.key_tile)));
  }
  gather_columns(plan, maps, half_precision);
  check_cuda(launch_plan(plan), "launching the plan");
  if (phases_pay(problem)) check_cuda(launch_phases(plan), "launching the plan's phases");
  launch_hopper_kernel({.problem = problem,
                        .work = lists,
                        .maps = &maps,
                        .next_item = memory.counters,
                        .blocks = multiprocessors(),
                        .half_precision = half_precision,
                        .list = true,
                        .stream = stream});
  check_cuda(launch_combine(plan, half_precision), "launching the merge");
  correct({problem, lists, memory.pooled, half_precision, stream});
}

void finish(const Launch& launch) {
  check_scratch(launch, kCounters * sizeof(int));
  auto* stream = static_cast<cudaStream_t>(launch.stream);
  int counters[kCounters] = {};
  check_cuda(cudaMemcpyAsync(counters, launch.data, sizeof(counters), cudaMemcpyDeviceToHost, stream),
             "reading the counters");
  check_cuda(cudaStreamSynchronize(stream), "waiting for attention");
  if (counters[kOverflow] != 0) {
    throw Error(ErrorCode::invalid_argument,
                "CUDA attention: the lists of this call did not fit into tile_capacity; give more room, choose less, "
                "or use attend_dense");
  }
}

}  // namespace tessera::attention::cuda
