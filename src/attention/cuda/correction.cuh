// Kernels of the pooled mean correction.
#pragma once

#include "attention/cuda/correction.h"
#include "attention/cuda/mma_attention.cuh"

namespace tessera::attention::cuda {

// First of the ascending columns that is >= row.
__device__ __forceinline__ int first_column_from(const int32_t* columns, int count, int row) {
  int low = 0;
  while (low < count) {
    int middle = (low + count) / 2;
    if (columns[middle] < row) {
      low = middle + 1;
    } else {
      count = middle;
    }
  }
  return low;
}

// Sums of two neighbouring channels of keys and values.
template <typename Element>
struct ChannelSums {
  float key[2] = {};
  float value[2] = {};

  __device__ __forceinline__ void add(const Problem& problem, int64_t row, int kv_head, int channel, float sign) {
    add_pair(key, problem.keys, row * problem.key_stride[0] + kv_head * problem.key_stride[1] + channel, sign);
    add_pair(value, problem.values, row * problem.value_stride[0] + kv_head * problem.value_stride[1] + channel, sign);
  }
  static __device__ __forceinline__ void add_pair(float (&sum)[2], const void* from, int64_t at, float sign) {
    uint32_t pair = *reinterpret_cast<const uint32_t*>(static_cast<const uint16_t*>(from) + at);
    const auto* both = reinterpret_cast<const Element*>(&pair);
    sum[0] += sign * static_cast<float>(both[0]);
    sum[1] += sign * static_cast<float>(both[1]);
  }
  __device__ __forceinline__ void store(const Pooled& pooled, int64_t row, int head_dim, int channel, int count) const {
    float factor = count > 0 ? 1.0f / static_cast<float>(count) : 0;
    int64_t at = row * head_dim + channel;
    *reinterpret_cast<uint32_t*>(pooled.keys + at) = ptx::pack<Element>(key[0] * factor, key[1] * factor);
    *reinterpret_cast<uint32_t*>(pooled.values + at) = ptx::pack<Element>(value[0] * factor, value[1] * factor);
    if (channel == 0) pooled.counts[row] = count;
  }
};

// Grid (rows of the means, KV heads); two channels per thread. Rows are read once for all list heads of the KV head.
template <typename Element>
__global__ void pool_tiles(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work,
                           const __grid_constant__ Pooled pooled) {
  int s = 0;
  while (s + 1 < problem.sequences && pooled.begin[s + 1] <= static_cast<int>(blockIdx.x)) ++s;
  const SequenceRange& range = problem.sequence[s];
  int tile = static_cast<int>(blockIdx.x) - pooled.begin[s];
  if (tile >= pooled_tiles(range, work.key_tile)) return;
  int kv_head = static_cast<int>(blockIdx.y);
  int channel = static_cast<int>(threadIdx.x) * 2;
  int first = tile * work.key_tile;
  int last = min(first + work.key_tile, range.key_rows);
  ChannelSums<Element> all;
#pragma unroll 8
  for (int row = first; row < last; ++row) all.add(problem, int64_t{range.key_begin} + row, kv_head, channel, 1);
  int lists = work.list_heads / problem.kv_heads;
  for (int head = kv_head * lists; head < (kv_head + 1) * lists; ++head) {
    ChannelSums<Element> rest = all;
    int count = last - first;
    if (work.column_cut) {
      int owner = s * work.list_heads + head;
      const int32_t* columns = work.columns + int64_t{owner} * work.column_stride;
      int end = first_column_from(columns, pooled.column_count[owner], last);
      for (int c = first_column_from(columns, end, first); c < end; ++c, --count) {
        rest.add(problem, int64_t{range.key_begin} + columns[c], kv_head, channel, -1);
      }
    }
    rest.store(pooled, int64_t{head} * pooled.rows + pooled.begin[s] + tile, problem.head_dim, channel, count);
  }
}

// Grid (rows of the means, list heads): means of groups, weighted by the rows of their tiles.
template <typename Element>
__global__ void pool_groups(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work,
                            const __grid_constant__ Pooled pooled) {
  int s = 0;
  while (s + 1 < problem.sequences && pooled.begin[s + 1] <= static_cast<int>(blockIdx.x)) ++s;
  int tiles = pooled_tiles(problem.sequence[s], work.key_tile);
  int group = static_cast<int>(blockIdx.x) - pooled.begin[s] - tiles;
  if (group < 0) return;
  int channel = static_cast<int>(threadIdx.x) * 2;
  int64_t base = int64_t{blockIdx.y} * pooled.rows + pooled.begin[s];
  ChannelSums<Element> sums;
  int count = 0;
  for (int tile = group * kTilesPerGroup; tile < min((group + 1) * kTilesPerGroup, tiles); ++tile) {
    int rows = pooled.counts[base + tile];
    int64_t at = (base + tile) * problem.head_dim + channel;
    ChannelSums<Element>::add_pair(sums.key, pooled.keys, at, static_cast<float>(rows));
    ChannelSums<Element>::add_pair(sums.value, pooled.values, at, static_cast<float>(rows));
    count += rows;
  }
  sums.store(pooled, base + tiles + group, problem.head_dim, channel, count);
}

constexpr int kMmaWarps = kMmaThreads / 32;

template <int kHeadDim>
struct CorrectionMemory {
  GroupMemory<kHeadDim, float> group;     // tags: log2 of the count, -infinity where there is no mean
  int32_t pending[kMmaThreads + kGroup];  // rows of the means that wait for their turn
  int32_t found[kMmaWarps];
};

template <int kHeadDim>
__device__ __forceinline__ void load_means(GroupMemory<kHeadDim, float>& memory, const Pooled& pooled, int64_t base,
                                           const int32_t* rows, int count) {
  constexpr int kChunks = kHeadDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kGroup * kChunks; i += kMmaThreads) {
    int r = i / kChunks;
    int channel = i % kChunks * 8;
    uint4 key = {};
    uint4 value = {};
    float tag = -INFINITY;
    if (r < count) {
      int64_t row = base + rows[r];
      key = *reinterpret_cast<const uint4*>(pooled.keys + row * kHeadDim + channel);
      value = *reinterpret_cast<const uint4*>(pooled.values + row * kHeadDim + channel);
      tag = log2f(static_cast<float>(pooled.counts[row]));
    }
    *reinterpret_cast<uint4*>(&memory.keys[r][channel]) = key;
    *reinterpret_cast<uint4*>(&memory.values[r][channel]) = value;
    if (channel == 0) memory.tags[r] = tag;
  }
}

// What a list leaves out.
struct SkippedTiles {
  const uint32_t* listed;
  int listed_count;
  int full_tiles;  // that all rows of the query tile see
  int tiles;       // of the sequence
  int levels;
  const int32_t* counts;

  // The row of the means that stands for `tile`, asked by 32 threads for 32 neighbouring tiles; -1: none.
  __device__ __forceinline__ int row_of(int tile) const {
    int place = first_listed(tile);
    bool skipped = tile < full_tiles && !(place < listed_count && (listed[place] & kTileIndex) == uint32_t(tile));
    int lane = static_cast<int>(threadIdx.x) % 32;
    uint32_t group = __ballot_sync(0xffffffffu, skipped) >> (lane & 24) & 0xffu;
    int first = tile / kTilesPerGroup * kTilesPerGroup;
    bool whole = levels == 2 && group == 0xffu && first + 2 * kTilesPerGroup <= full_tiles;
    int row = whole ? tiles + tile / kTilesPerGroup : tile;
    bool stands = whole ? tile == first : skipped;
    return stands && counts[row] > 0 ? row : -1;
  }
  __device__ __forceinline__ int first_listed(int tile) const {
    int low = 0;
    int high = listed_count;
    while (low < high) {
      int middle = (low + high) / 2;
      if (static_cast<int>(listed[middle] & kTileIndex) < tile) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

// Of 256 neighbouring tiles, appends the rows to `pending` behind the first `held`; returns how many are held then.
template <int kHeadDim>
__device__ __forceinline__ int collect(CorrectionMemory<kHeadDim>& memory, const SkippedTiles& skipped, int first,
                                       int held) {
  int lane = static_cast<int>(threadIdx.x) % 32;
  int warp = static_cast<int>(threadIdx.x) / 32;
  int row = skipped.row_of(first + static_cast<int>(threadIdx.x));
  uint32_t found = __ballot_sync(0xffffffffu, row >= 0);
  if (lane == 0) memory.found[warp] = __popc(found);
  __syncthreads();
  int at = held;
  int total = held;
  for (int w = 0; w < kMmaWarps; ++w) {
    at += w < warp ? memory.found[w] : 0;
    total += memory.found[w];
  }
  if (row >= 0) memory.pending[at + __popc(found & ((1u << lane) - 1))] = row;
  __syncthreads();
  return total;
}

// Merges the state into rows that are there already; rows without any mean stay as they are, bit by bit.
template <typename Element, int kHeadDim>
__device__ __forceinline__ void merge_rows(const MmaState<Element, kHeadDim>& state, const Problem& problem,
                                           const QueryTile& tile, int head, int row) {
  int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = row_sum(state, half);
    int r = row + half * 8;
    int64_t at = int64_t{tile.first_row} + r;
    bool exists = r < tile.rows && sum > 0;
    float before = exists ? problem.lse[at * problem.lse_stride + head] : 0;
    __syncwarp();  // all four threads of the row have read before one of them writes
    if (!exists) continue;
    float means = state.maximum[half] * 0.6931471805599453f + logf(sum);
    float top = fmaxf(before, means);
    float kept = expf(before - top);
    float added = expf(means - top);
    float total = kept + added;
    if (lane % 4 == 0) problem.lse[at * problem.lse_stride + head] = top + logf(total);
    kept /= total;
    added /= total * sum;
    Element* out = static_cast<Element*>(problem.out) + at * problem.out_stride[0] + head * problem.out_stride[1];
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      auto* to = reinterpret_cast<uint32_t*>(out + n * 8 + lane % 4 * 2);
      uint32_t pair = *to;
      const auto* both = reinterpret_cast<const Element*>(&pair);
      *to = ptx::pack<Element>(static_cast<float>(both[0]) * kept + state.output[n][2 * half] * added,
                               static_cast<float>(both[1]) * kept + state.output[n][2 * half + 1] * added);
    }
  }
}

// Grid (query tiles, query heads), kMmaThreads threads.
template <typename Element, int kHeadDim>
__global__ void __launch_bounds__(kMmaThreads, 1)
    attend_means(const __grid_constant__ Problem problem, const __grid_constant__ ListWork work,
                 const __grid_constant__ Pooled pooled) {
  extern __shared__ unsigned char raw[];
  auto& memory = *reinterpret_cast<CorrectionMemory<kHeadDim>*>(raw);
  if (!lists_fit(problem, work)) return;
  int tile_index = problem.query_tiles - 1 - static_cast<int>(blockIdx.x);  // longest first
  int head = static_cast<int>(blockIdx.y);
  QueryTile tile = query_tile(problem, tile_index);
  const SequenceRange& range = problem.sequence[tile.sequence];
  int list = list_of(problem, work.list_heads, head * problem.query_tiles + tile_index);
  int64_t base = int64_t{list / problem.query_tiles} * pooled.rows + pooled.begin[tile.sequence];
  SkippedTiles skipped = {work.tiles + work.tile_begin[list],
                          work.tile_begin[list + 1] - work.tile_begin[list],
                          min(tile.position + 1, range.key_rows) / work.key_tile,
                          pooled_tiles(range, work.key_tile),
                          pooled.levels,
                          pooled.counts + base};
  int row = static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
  float scale = problem.scale * 1.4426950408889634f;
  MmaState<Element, kHeadDim> state = {};
  state.maximum[0] = state.maximum[1] = -INFINITY;
  load_query_fragments(state, problem, tile, head, row);

  auto visit = [&](int from, int count) {
    load_means(memory.group, pooled, base, memory.pending + from, count);
    __syncthreads();
    attend_group(state, memory.group, [&](float product, float tag, int) { return fmaf(product, scale, tag); });
    __syncthreads();
  };
  int held = 0;
  for (int first = 0; first < skipped.full_tiles; first += kMmaThreads) {
    held = collect(memory, skipped, first, held);
    int from = 0;
    for (; held - from >= kGroup; from += kGroup) visit(from, kGroup);
    held -= from;
    int left = static_cast<int>(threadIdx.x) < held ? memory.pending[from + static_cast<int>(threadIdx.x)] : 0;
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < held) memory.pending[threadIdx.x] = left;
    __syncthreads();
  }
  if (held > 0) visit(0, held);
  merge_rows(state, problem, tile, head, row);
}

}  // namespace tessera::attention::cuda
