#include "attention/cuda/list_plan.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "attention/cuda/list_phases.h"
#include "attention/cuda/partition_point.h"

namespace tessera::attention::cuda {
namespace {

constexpr int kPlanThreads = 1024;

__device__ int units_of(const Problem& problem, const ListWork& work, int row) {
  int list = list_of(problem, work.list_heads, row);
  int columns = work.column_cut ? work.column_cut[list] : 0;
  return list_units(listed_tiles(work, list), columns, work.key_tile, unit_rows(problem.head_dim, work.key_tile));
}

// Exclusive prefix sums of one value per thread; `total` receives the sum. All threads of the block call it.
__device__ int block_scan(int value, int* scratch, int* total) {
  int lane = static_cast<int>(threadIdx.x) % 32;
  int warp = static_cast<int>(threadIdx.x) / 32;
  int sum = value;
  for (int step = 1; step < 32; step *= 2) {
    int other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) scratch[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    int warp_sum = scratch[lane];
    for (int step = 1; step < 32; step *= 2) {
      int other = __shfl_up_sync(0xffffffffu, warp_sum, step);
      if (lane >= step) warp_sum += other;
    }
    scratch[lane] = warp_sum;
  }
  __syncthreads();
  int before = (warp > 0 ? scratch[warp - 1] : 0) + sum - value;
  *total = scratch[31];
  __syncthreads();
  return before;
}

// Sum over all threads of the block, which all receive it.
__device__ long long block_sum(long long value, long long* scratch) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  long long sum = scratch[threadIdx.x % 32];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  return sum;
}

// One block. Every thread owns a contiguous range of the order of dense items, which those of a class keep.
__global__ void __launch_bounds__(kPlanThreads)
    plan_kernel(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work, WorkItem* items,
                int* item_count, SplitRow* splits, int* split_count, int* overflow) {
  __shared__ int scratch[32];
  __shared__ long long wide_scratch[kPlanThreads / 32];
  bool fit = lists_fit(problem, work);
  if (threadIdx.x == 0) *overflow = !fit || (work.overflow && *work.overflow != 0);
  if (!fit) return;  // no items: the counters are zero

  int rows = problem.query_heads * problem.query_tiles;
  int per_thread = (rows + kPlanThreads - 1) / kPlanThreads;
  int first = min(static_cast<int>(threadIdx.x) * per_thread, rows);
  int last = min(first + per_thread, rows);

  long long mine = 0;
#pragma unroll 8
  for (int i = first; i < last; ++i) mine += units_of(problem, work, dense_row(problem, i));
  int limit = split_limit(block_sum(mine, wide_scratch), rows, kMaxSlots);

  int counts[kCostClasses] = {};
  int split_rows = 0;
  int slots = 0;
  for (int i = first; i < last; ++i) {
    int units = units_of(problem, work, dense_row(problem, i));
    int parts = max(1, (units + limit - 1) / limit);
    for (int part = 0; part < parts; ++part) {
      int size = part_begin(units, parts, part + 1) - part_begin(units, parts, part);
      int level = cost_class(size);
#pragma unroll
      for (int k = 0; k < kCostClasses; ++k) counts[k] += k == level;
    }
    split_rows += parts > 1;
    slots += parts > 1 ? parts : 0;
  }

  int place[kCostClasses];
  int base = 0;
#pragma unroll
  for (int k = 0; k < kCostClasses; ++k) {
    int total;
    place[k] = base + block_scan(counts[k], scratch, &total);
    base += total;
  }
  int split_total;
  int split_place = block_scan(split_rows, scratch, &split_total);
  int slot_total;
  int slot_place = block_scan(slots, scratch, &slot_total);
  if (threadIdx.x == 0) {
    *item_count = base;
    *split_count = split_total;
  }

  for (int i = first; i < last; ++i) {
    int row = dense_row(problem, i);
    int units = units_of(problem, work, row);
    int parts = max(1, (units + limit - 1) / limit);
    if (parts > 1) splits[split_place++] = {row, slot_place, parts, 0};
    for (int part = 0; part < parts; ++part) {
      int begin = part_begin(units, parts, part);
      int size = part_begin(units, parts, part + 1) - begin;
      int level = cost_class(size);
      int at = 0;
#pragma unroll
      for (int k = 0; k < kCostClasses; ++k) {
        if (k == level) at = place[k]++;
      }
      items[at] = {row, begin, size, parts > 1 ? slot_place++ : -1, 0};
    }
  }
}

__global__ void __launch_bounds__(kPhaseThreads) phase_kernel(WorkItem* items, const int* item_count, int workers) {
  __shared__ PhaseShared shared;
  plan_phases(PhaseBlock{}, items, *item_count, workers, shared);
}

// The verdict of plan_kernel where there is no plan.
__global__ void fit_kernel(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work,
                           int* overflow) {
  *overflow = !lists_fit(problem, work) || (work.overflow && *work.overflow != 0);
}

__device__ bool is_listed(const uint32_t* tiles, int count, uint32_t wanted) {
  const int at = partition_point(count, [&](int i) { return (tiles[i] & kTileIndex) < wanted; });
  return at < count && (tiles[at] & kTileIndex) == wanted;
}

// True when an entry of the band, ascending, holds the key row that lies `back` rows before the query tile's end.
__device__ bool is_in_band(const int32_t* band, int count, int back) {
  const int after = partition_point(count, [&](int i) { return band[i] <= back; });
  return after > 0 && back - band[after - 1] < kBandTile;
}

// A warp per list, a lane per column.
__global__ void column_keep_kernel(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work,
                                   uint32_t* keep) {
  int lists = work.list_heads * problem.query_tiles;
  int list = static_cast<int>((blockIdx.x * blockDim.x + threadIdx.x) / 32);
  int lane = static_cast<int>(threadIdx.x) % 32;
  if (list >= lists || !lists_fit(problem, work)) return;
  QueryTile tile = query_tile(problem, list % problem.query_tiles);
  int owner = tile.sequence * work.list_heads + list / problem.query_tiles;
  int count = listed_tiles(work, list);
  int begin = work.bands ? band_begin(problem, work, list, tile.sequence) : work.tile_begin[list];
  int cut = work.column_cut[list];
  int unit = unit_rows(problem.head_dim, work.key_tile);
  int padded = (cut + unit - 1) / unit * unit;
  const int32_t* columns = work.columns + int64_t{owner} * work.column_stride;
  uint32_t* words = keep + int64_t{list} * (work.column_stride / 32);
  for (int c = lane; c < padded; c += 32) {
    bool kept = false;
    if (c < cut) {
      bool listed = work.bands
                        ? is_in_band(work.bands + begin, count, band_end(tile.position, columns[c]))
                        : is_listed(work.tiles + begin, count, static_cast<uint32_t>(columns[c] / work.key_tile));
      kept = !listed;
    }
    uint32_t word = __ballot_sync(0xffffffffu, kept);
    if (lane == 0) words[c / 32] = word;
  }
}

// One 16-byte chunk per thread: grid (chunks of column_stride rows, sequences * list_heads).
__global__ void column_gather_kernel(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work,
                                     const int32_t* column_count, uint16_t* keys, uint16_t* values) {
  int chunks_per_row = problem.head_dim / 8;
  int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  int column = index / chunks_per_row;
  int chunk = index % chunks_per_row;
  if (column >= work.column_stride) return;
  int owner = static_cast<int>(blockIdx.y);
  const SequenceRange& range = problem.sequence[owner / work.list_heads];
  int kv_head = owner % work.list_heads / (work.list_heads / problem.kv_heads);
  uint4 key = {};
  uint4 value = {};
  if (column < column_count[owner]) {
    int64_t row = range.key_begin + work.columns[int64_t{owner} * work.column_stride + column];
    key = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(problem.keys) + row * problem.key_stride[0] +
                                          kv_head * problem.key_stride[1] + chunk * 8);
    value =
        *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(problem.values) + row * problem.value_stride[0] +
                                        kv_head * problem.value_stride[1] + chunk * 8);
  }
  int64_t at = (int64_t{owner} * work.column_stride + column) * problem.head_dim + chunk * 8;
  *reinterpret_cast<uint4*>(keys + at) = key;
  *reinterpret_cast<uint4*>(values + at) = value;
}

// A warp per query row of a split list; lanes over channels. Parts are added in order, so repeats agree bit by bit.
template <typename Element>
__global__ void combine_kernel(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work,
                               const SplitRow* splits, const int* split_count) {
  int warps = static_cast<int>(gridDim.x * blockDim.x / 32);
  int warp = static_cast<int>((blockIdx.x * blockDim.x + threadIdx.x) / 32);
  int lane = static_cast<int>(threadIdx.x) % 32;
  int total = *split_count * kQueryTile;
  for (int index = warp; index < total; index += warps) {
    SplitRow split = splits[index / kQueryTile];
    int r = index % kQueryTile;
    QueryTile tile = query_tile(problem, split.row % problem.query_tiles);
    if (r >= tile.rows) continue;
    int head = split.row / problem.query_tiles;
    const float* lse = work.partial_lse + int64_t{split.first_slot} * kQueryTile + r;
    float top = -INFINITY;
    for (int part = 0; part < split.parts; ++part) top = fmaxf(top, lse[part * kQueryTile]);
    float sum = 0;
    for (int part = 0; part < split.parts; ++part) sum += top == -INFINITY ? 0 : expf(lse[part * kQueryTile] - top);
    float merged = top == -INFINITY ? -INFINITY : top + logf(sum);
    int64_t row = int64_t{tile.first_row} + r;
    if (lane == 0) problem.lse[row * problem.lse_stride + head] = merged;
    Element* out = static_cast<Element*>(problem.out) + row * problem.out_stride[0] + head * problem.out_stride[1];
    for (int channel = lane; channel < problem.head_dim; channel += 32) {
      float value = 0;
      for (int part = 0; part < split.parts; ++part) {
        float weight = merged == -INFINITY ? 0 : expf(lse[part * kQueryTile] - merged);
        if (weight > 0) {
          value += weight *
                   work.partial_out[(int64_t{split.first_slot + part} * kQueryTile + r) * problem.head_dim + channel];
        }
      }
      out[channel] = static_cast<Element>(value);
    }
  }
}

}  // namespace

cudaError_t launch_plan(const PlanLaunch& launch) {
  plan_kernel<<<1, kPlanThreads, 0, launch.stream>>>(launch.problem, launch.work, launch.items, launch.item_count,
                                                     launch.splits, launch.split_count, launch.overflow);
  return cudaGetLastError();
}

cudaError_t launch_phases(const PlanLaunch& launch) {
  phase_kernel<<<1, kPhaseThreads, 0, launch.stream>>>(launch.items, launch.item_count,
                                                       min(launch.blocks, kPhaseThreads));
  return cudaGetLastError();
}

cudaError_t launch_fit(const PlanLaunch& launch) {
  fit_kernel<<<1, 1, 0, launch.stream>>>(launch.problem, launch.work, launch.overflow);
  return cudaGetLastError();
}

cudaError_t launch_column_keep(const PlanLaunch& launch) {
  constexpr int kThreads = 256;
  int lists = launch.work.list_heads * launch.problem.query_tiles;
  column_keep_kernel<<<(lists + kThreads / 32 - 1) / (kThreads / 32), kThreads, 0, launch.stream>>>(
      launch.problem, launch.work, launch.column_keep);
  return cudaGetLastError();
}

cudaError_t launch_column_gather(const PlanLaunch& launch) {
  constexpr int kThreads = 256;
  int chunks = launch.work.column_stride * (launch.problem.head_dim / 8);
  dim3 grid((chunks + kThreads - 1) / kThreads, launch.problem.sequences * launch.work.list_heads);
  column_gather_kernel<<<grid, kThreads, 0, launch.stream>>>(launch.problem, launch.work, launch.column_count,
                                                             launch.column_keys, launch.column_values);
  return cudaGetLastError();
}

cudaError_t launch_combine(const PlanLaunch& launch, bool half_precision) {
  constexpr int kThreads = 256;
  constexpr int kBlocks = 1056;  // eight per multiprocessor of an H200
  if (half_precision) {
    combine_kernel<__half>
        <<<kBlocks, kThreads, 0, launch.stream>>>(launch.problem, launch.work, launch.splits, launch.split_count);
  } else {
    combine_kernel<__nv_bfloat16>
        <<<kBlocks, kThreads, 0, launch.stream>>>(launch.problem, launch.work, launch.splits, launch.split_count);
  }
  return cudaGetLastError();
}

}  // namespace tessera::attention::cuda
