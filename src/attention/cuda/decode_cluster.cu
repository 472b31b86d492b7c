// Decode over selected pages in one kernel: a cluster of blocks has a KV head, computes the bounds of its pages,
// chooses and attends. What the blocks tell each other goes through the cluster's shared memory: the order of their
// pages, how many of them were chosen, their partial results. A block asks for the best of its own pages before the
// choice.
#include <atomic>
#include <type_traits>

#include "attention/cuda/decode_cluster.h"
#include "attention/cuda/decode_list.cuh"

namespace tessera::attention::cuda {
namespace {

struct ClusterProblem {
  DecodeProblem decode;
  int32_t order_length;  // kept of a block's order; a multiple of 16
  int32_t batch;         // pages of a warp whose bounds are there at once; a multiple of 4
  int32_t region;        // bytes of the memory for bounds, then rows, then the warps' results
  int32_t early_room;    // pages that a block asks for before the choice, at most
};

// Offsets in the shared memory of a block.
struct ClusterLayout {
  int32_t order_length, own, places, region;  // places: fours of channels that a block merges of all blocks' results
  static constexpr int kBarriers = 1024;
  static constexpr int kExchanges = 960;  // barriers that count what other blocks send: orders, choices, results
  TESSERA_HOST_DEVICE int32_t order_keys() const { return kBarriers + region; }
  TESSERA_HOST_DEVICE int32_t order_indices() const { return order_keys() + 4 * kClusterBlocks * order_length; }
  TESSERA_HOST_DEVICE int32_t results() const { return order_indices() + kClusterBlocks * order_length; }
  TESSERA_HOST_DEVICE int32_t scales() const { return results() + 16 * kClusterBlocks * places; }
  TESSERA_HOST_DEVICE int32_t sets() const { return scales() + 8 * kClusterBlocks * kHeadsPerPass; }
  TESSERA_HOST_DEVICE int32_t own_set() const { return sets() + 4 * kClusterBlocks * kSetWords; }
  TESSERA_HOST_DEVICE int32_t chosen() const { return own_set() + 4 * kSetWords; }
  TESSERA_HOST_DEVICE int32_t own_chosen() const { return chosen() + 4 * kClusterBlocks; }
  TESSERA_HOST_DEVICE int32_t own_keys() const { return own_chosen() + 16; }
  TESSERA_HOST_DEVICE int32_t own_entries() const { return own_keys() + (own + 3) / 4 * 16; }
  TESSERA_HOST_DEVICE int32_t bytes() const { return own_entries() + 4 * own; }
};

TESSERA_HOST_DEVICE ClusterLayout layout_of(const ClusterProblem& problem) {
  const DecodeProblem& decode = problem.decode;
  const int32_t units = decode.group * decode.head_dim / 4;
  return {problem.order_length, own_pages(decode.table_stride, 0), (units + kClusterBlocks - 1) / kClusterBlocks,
          problem.region};
}

constexpr int kSlots = 2;        // of 16 rows, per warp; two warps share a stage
constexpr int kBoundGroups = 8;  // of four pages, per warp and batch

template <typename Pages, int kDim, int kWarps>
struct ClusterBlock {
  using Shape = PageShape<Pages, kDim>;
  using Stage = DecodeShared<Pages, kDim, kChunks>;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kStages = kWarps * kSlots / kChunks * Stage::kStage;  // bytes
  static constexpr int kBoundStride = 4 * kDim + 64;                         // two pages lie in different banks
  static_assert(kWarps * (kSlots + kBoundGroups) * 8 <= ClusterLayout::kExchanges);

  const ClusterProblem& problem;
  const DecodeProblem& decode;
  uint8_t* memory;
  ClusterLayout at;
  int32_t block, thread, warp, lane;
  List list;

  template <typename T>
  __device__ __forceinline__ T* part(int32_t offset) const {
    return reinterpret_cast<T*>(memory + offset);
  }
  __device__ __forceinline__ uint8_t* region() const { return memory + ClusterLayout::kBarriers; }
  __device__ __forceinline__ uint64_t* barriers() const { return part<uint64_t>(0) + warp * (kSlots + kBoundGroups); }
  __device__ __forceinline__ uint64_t* exchange(int number) const {
    return part<uint64_t>(ClusterLayout::kExchanges) + number;
  }
  __device__ __forceinline__ int32_t own() const { return own_pages(list.pages, block); }
  __device__ __forceinline__ int32_t total() const { return list.pages < decode.budget ? list.pages : decode.budget; }
  __device__ __forceinline__ int32_t early() const { return early_pages(problem.early_room, total()); }
  __device__ __forceinline__ PageOrder order(int32_t b) const {
    const int32_t count = own_pages(list.pages, b);
    return {part<uint32_t>(at.order_keys()) + b * at.order_length,
            part<uint8_t>(at.order_indices()) + b * at.order_length, count < at.order_length ? count : at.order_length,
            b};
  }
  __device__ __forceinline__ const uint16_t* queries() const {
    return decode.queries + list.sequence * decode.query_stride[0] + list.head * decode.group * decode.query_stride[1];
  }

  // Keys of the scores of the block's pages.
  __device__ __forceinline__ void score_pages() const {
    auto* keys = part<uint32_t>(at.own_keys());
    auto* entries = part<int32_t>(at.own_entries());
    uint64_t* barrier = barriers() + kSlots;
    uint8_t* mine = region() + warp * problem.batch * kBoundStride;
    const int32_t groups = problem.batch / kBoundPages;
    const auto index_of = [&](int32_t group, int32_t within) { return (group * kWarps + warp) * kBoundPages + within; };
    if (own() + thread < (own() + 3) / 4 * 4) keys[own() + thread] = 0;  // see preferred_before()
    BoundScorer<kDim> scorer;
    uint32_t parities = 0;
    TESSERA_ROLLED
    for (int32_t base = 0; index_of(base, 0) < at.own; base += groups) {
      const int32_t index = index_of(base + lane / kBoundPages, lane % kBoundPages);
      const int32_t page = OwnPage{block, index}.page();
      const bool there = lane < problem.batch && index < at.own;
      const int32_t entry = there ? list.entry(page) : 0;
      if (there) entries[index] = entry;
      const bool bounded = there && list.has_bound(page);
      const uint32_t all = __ballot_sync(0xffffffffu, bounded);
      const auto of_group = [&](int32_t group) { return all >> (group * kBoundPages) & ((1U << kBoundPages) - 1); };
      const uint32_t with = of_group(lane / kBoundPages);
      const auto request = [&] {
        if (lane % kBoundPages == 0 && with != 0) {
          ptx::mbarrier_arrive_expect(barrier + lane / kBoundPages, static_cast<uint32_t>(__popc(with)) * 4 * kDim);
        }
        __syncwarp();
        if (bounded) {
          ptx::bulk_load(mine + lane * kBoundStride, decode.bounds + list.in_pools(entry) * 4 * kDim, 4 * kDim,
                         barrier + lane / kBoundPages);
        }
      };
      TESSERA_ROLLED
      for (int32_t first = 0; first < decode.group; first += BoundScorer<kDim>::kHeads) {
        scorer.load(queries() + first * decode.query_stride[1], decode.query_stride[1], decode.group - first);
        if (first == 0) request();
        TESSERA_ROLLED
        for (int32_t group = 0; group < groups; ++group) {
          const int32_t scored = index_of(base + group, lane / kBoundLanes);
          if (index_of(base + group, 0) >= own()) break;
          if (first == 0 && of_group(group) != 0) ptx::mbarrier_wait(barrier + group, parities >> group & 1);
          Lanes<const uint8_t*> bounds;
          Lanes<float> best;
          bounds[lane] = mine + (group * kBoundPages + lane / kBoundLanes) * kBoundStride;
          scorer.score(bounds, best);
          if (lane % kBoundLanes != 0 || scored >= own()) continue;
          const uint32_t key = order_key(list.has_bound(OwnPage{block, scored}.page()) ? best[lane] : INFINITY);
          keys[scored] = first > 0 && keys[scored] > key ? keys[scored] : key;
        }
      }
      for (int32_t group = 0; group < groups; ++group) parities ^= (of_group(group) != 0 ? 1U : 0U) << group;
      ptx::fence_proxy_async();
      __syncwarp();
    }
  }

  // Announces what the other blocks will send.
  __device__ static void expect(const ClusterProblem& problem, const ClusterLayout& at, int32_t block,
                                uint8_t* memory) {
    auto* exchange = reinterpret_cast<uint64_t*>(memory + ClusterLayout::kExchanges);
    const DecodeProblem& decode = problem.decode;
    const int32_t fours = own_pages(decode.group * kDim / 4, block);
    const int32_t bytes[3] = {(kClusterBlocks - 1) * 5 * at.order_length,
                              kClusterBlocks * (decode.keeps_selection ? 4 + 4 * kSetWords : 4),
                              kClusterBlocks * (16 * fours + 8 * decode.group)};
    for (int i = 0; i < 3; ++i) {
      ptx::mbarrier_init(exchange + i, 1);
      ptx::mbarrier_arrive_expect(exchange + i, static_cast<uint32_t>(bytes[i]));
    }
  }

  // The beginning of the block's order, in its own place.
  __device__ __forceinline__ void order_pages() const {
    const auto* keys = part<const uint32_t>(at.own_keys());
    const int32_t count = own();
    for (int32_t index = thread; index < count; index += kThreads) {
      const int32_t rank = preferred_before(keys, count, index);
      if (rank >= at.order_length) continue;
      part<uint32_t>(at.order_keys())[block * at.order_length + rank] = keys[index];
      part<uint8_t>(at.order_indices())[block * at.order_length + rank] = static_cast<uint8_t>(index);
    }
  }

  __device__ __forceinline__ int64_t own_page_in_pools(int32_t rank) const {
    return list.in_pools(part<const int32_t>(at.own_entries())[order(block).indices[rank]]);
  }

  // Chunk `warp + turn * kWarps` of the block, of 16 rows.
  __device__ __forceinline__ int slot(int turn) const { return warp * kSlots % kChunks + turn % kSlots; }
  __device__ __forceinline__ uint8_t* stage() const { return region() + warp * kSlots / kChunks * Stage::kStage; }
  __device__ __forceinline__ void request(int turn, int64_t page) const {
    const int to = slot(turn);
    uint8_t* parameters = Pages::kScaled ? Stage::key_parameters(stage(), to) : nullptr;
    const int chunk = (warp + turn * kWarps) % kChunks;
    request_chunk<Pages, kDim>(decode, {page, chunk, to, parameters}, {barriers() + turn % kSlots}, stage(), lane);
  }

  // Asks for the first pages of the block's order.
  __device__ __forceinline__ void request_early() const {
    const int32_t kept = early();
    for (int turn = 0; turn < kSlots; ++turn) {
      const int32_t rank = (warp + turn * kWarps) / kChunks;
      if (rank < kept) request(turn, own_page_in_pools(rank));
    }
  }

  __device__ __forceinline__ void send_order() const {
    uint4* keys = part<uint4>(at.order_keys()) + block * at.order_length / 4;
    uint4* indices = part<uint4>(at.order_indices()) + block * at.order_length / 16;
    TESSERA_ROLLED
    for (int32_t to = warp; to < kClusterBlocks; to += kWarps) {
      if (to == block) continue;
      TESSERA_ROLLED
      for (int32_t i = lane; i < at.order_length / 4; i += kWarp) send_to_block(to, keys + i, keys[i], exchange(0));
      TESSERA_ROLLED
      for (int32_t i = lane; i < at.order_length / 16; i += kWarp) {
        send_to_block(to, indices + i, indices[i], exchange(0));
      }
    }
  }

  // How many of the block's pages belong to the chosen ones of all blocks, and which. Sixteen lanes share a page.
  __device__ __forceinline__ void count_chosen() const {
    const PageOrder mine = order(block);
    const int32_t other = lane % kClusterBlocks;
    const PageOrder theirs = order(other);
    const int32_t size = first_step(at.order_length);
    TESSERA_ROLLED
    for (int32_t base = 4 * warp; base < mine.count; base += 4 * kWarps) {
      const auto rank_of = [&](int i) { return base + 2 * i + lane / kClusterBlocks; };
      const auto page_of = [&](int i) {
        return OwnPage{block, mine.indices[rank_of(i) < mine.count ? rank_of(i) : 0]};
      };
      const auto key_of = [&](int i) { return mine.keys[rank_of(i) < mine.count ? rank_of(i) : 0]; };
      const OwnPage page[2] = {page_of(0), page_of(1)};
      PlaceInOrder place[2] = {{key_of(0), page[0], other}, {key_of(1), page[1], other}};
      TESSERA_ROLLED
      for (int32_t step = size; step > 0; step /= 2) {
        place[0].step(theirs, step);
        place[1].step(theirs, step);
      }
      int32_t before[2];
      for (int i = 0; i < 2; ++i) {
        before[i] = other == block ? rank_of(i) : place[i].found;
        if (rank_of(i) >= mine.count) before[i] = total();
      }
      for (int mask = kClusterBlocks / 2; mask > 0; mask /= 2) {
        for (int i = 0; i < 2; ++i) before[i] += __shfl_xor_sync(0xffffffffu, before[i], mask);
      }
      for (int i = 0; i < 2; ++i) {
        if (before[i] >= total() || other != 0) continue;
        atomicAdd(part<int32_t>(at.own_chosen()), 1);
        atomicOr(part<uint32_t>(at.own_set()) + page[i].index / 32, 1U << (page[i].index % 32));
      }
      if (!__any_sync(0xffffffffu, before[1] < total())) break;  // nor are those behind
    }
  }

  __device__ __forceinline__ void send_chosen() const {
    if (thread < kClusterBlocks) {
      send_to_block(thread, part<int32_t>(at.chosen()) + block, *part<const int32_t>(at.own_chosen()), exchange(1));
    }
    if (!decode.keeps_selection) return;
    for (int32_t i = thread; i < kClusterBlocks * kSetWords; i += kThreads) {
      send_to_block(i / kSetWords, part<uint32_t>(at.sets()) + block * kSetWords + i % kSetWords,
                    part<const uint32_t>(at.own_set())[i % kSetWords], exchange(1));
    }
  }

  // The block's part of the ascending list.
  __device__ __forceinline__ void write_selection() const {
    const PageOrder mine = order(block);
    int32_t* selected = decode.selection + int64_t{blockIdx.y} * decode.budget;
    const int32_t count = part<const int32_t>(at.chosen())[block];
    for (int32_t base = 2 * warp; base < count; base += 2 * kWarps) {
      const int32_t rank = base + lane / kClusterBlocks;
      const int32_t other = lane % kClusterBlocks;
      const OwnPage page = {block, rank < count ? mine.indices[rank] : 0};
      int32_t below = members_below(part<const uint32_t>(at.sets()) + other * kSetWords, other, page);
      for (int mask = kClusterBlocks / 2; mask > 0; mask /= 2) below += __shfl_xor_sync(0xffffffffu, below, mask);
      if (rank < count && other == 0) selected[below] = page.page();
    }
    for (int32_t i = total() + block * kThreads + thread; i < decode.budget; i += kClusterBlocks * kThreads) {
      selected[i] = -1;
    }
  }

  // Lane i's page of the block: the early ones, then the extra ones. Rows 0: not chosen.
  __device__ __forceinline__ PageAt page_of_lane(const PageShares& shares) const {
    const int32_t first = shares.early;
    if (lane >= first + shares.extra(block)) return {0, 0};
    if (lane < first && lane >= shares.kept(block)) return {0, 0};
    const PageShares::Place place =
        lane < first ? PageShares::Place{block, lane} : shares.extra_page(block, lane - first);
    const int32_t page = OwnPage{place.block, order(place.block).indices[place.rank]}.page();
    const int32_t left = decode.lengths[list.sequence] - page * kPageRows;
    return {list.in_pools(list.entry(page)), left < kPageRows ? left : kPageRows};
  }

  __device__ __forceinline__ void attend(DecodeWarp<Pages, kDim>& state, const PageShares& shares) const {
    const PageAt mine = page_of_lane(shares);
    const int chunks = (shares.early + shares.extra(block)) * kChunks;
    const auto request_turn = [&](int turn) {
      const int at = warp + turn * kWarps;
      if (at < chunks) request(turn, __shfl_sync(0xffffffffu, static_cast<long long>(mine.page), at / kChunks));
    };
    for (int turn = 0; turn < kSlots; ++turn) {
      if (warp + turn * kWarps >= shares.early * kChunks) request_turn(turn);
    }
    TESSERA_ROLLED
    for (int turn = 0; warp + turn * kWarps < chunks; ++turn) {
      const int at = warp + turn * kWarps;
      const int from = slot(turn);
      const PageCopy copy = {barriers() + turn % kSlots};
      const int rows = __shfl_sync(0xffffffffu, mine.rows, at / kChunks) - at % kChunks * 16;
      copy.wait(static_cast<uint32_t>(turn / kSlots & 1));
      if (rows < 16 && rows > 0) clear_rows<Pages, kDim>(stage() + Shape::kKeyPage, 16 * from + rows, from, lane);
      if (rows > 0) {
        state.attend_chunk(stage(), Stage::key_parameters(stage(), from), from, decode.scale_log2, rows);
      }
      if (rows < 16) copy.release();
      __syncwarp();
      request_turn(turn + kSlots);
    }
  }

  // Hands every block the channels that it merges. All threads.
  __device__ __forceinline__ void send_results(DecodeWarp<Pages, kDim>& state) const {
    const int heads = decode.group;
    auto* out = part<float>(ClusterLayout::kBarriers);
    float* max = out + kWarps * heads * kDim;
    float* sum = max + kWarps * heads;
    __syncthreads();  // the results lie where rows lay
    state.finish(out + warp * heads * kDim, max + warp * heads, sum + warp * heads, heads);
    __syncthreads();
    const BlockResults results = {out, max, sum, kWarps, heads};
    for (int i = thread; i < heads * kDim / 4; i += kThreads) {
      const int head = i / (kDim / 4);
      const auto merged = results.template merged<kDim>(head, i % (kDim / 4) * 4);
      send_to_block(i % kClusterBlocks, part<float4>(at.results()) + block * at.places + i / kClusterBlocks,
                    merged.value, exchange(2));
      if (i % (kDim / 4) >= kClusterBlocks) continue;
      send_to_block(i % kClusterBlocks, part<float2>(at.scales()) + block * kHeadsPerPass + head,
                    make_float2(merged.max, merged.sum), exchange(2));
    }
  }

  __device__ __forceinline__ void merge_results() const {
    for (int i = thread; i < at.places * 4; i += kThreads) {
      const int unit = i / 4 * kClusterBlocks + block;
      if (unit >= decode.group * kDim / 4) continue;
      const int head = unit / (kDim / 4);
      const float2* scales = part<const float2>(at.scales()) + head;
      const float* values = part<const float>(at.results()) + i;
      Merged merged = {minus_infinity(), 0, 0};
      TESSERA_UNROLL
      for (int b = 0; b < kClusterBlocks; ++b) merged.max = fmaxf(merged.max, scales[b * kHeadsPerPass].x);
      const float shift = merged.max == minus_infinity() ? 0 : merged.max;
      TESSERA_UNROLL
      for (int b = 0; b < kClusterBlocks; ++b) {
        const float factor = exp2_fast(scales[b * kHeadsPerPass].x - shift);
        merged.sum += factor * scales[b * kHeadsPerPass].y;
        merged.out += factor * values[b * at.places * 4];
      }
      store_result(decode, list.sequence, list.head * decode.group + head, unit % (kDim / 4) * 4 + i % 4, merged);
    }
  }
};

// Grid [kClusterBlocks, lists].
template <typename Pages, int kDim, int kWarps>
__global__ void __launch_bounds__(kWarps* kWarp, 2) cluster_kernel(const __grid_constant__ ClusterProblem problem) {
  using Block = ClusterBlock<Pages, kDim, kWarps>;
  extern __shared__ __align__(128) uint8_t memory[];
  const int thread = static_cast<int>(threadIdx.x);
  const ClusterLayout at = layout_of(problem);
  if (thread % kWarp == 0) {
    auto* barriers = reinterpret_cast<uint64_t*>(memory) + thread / kWarp * (kSlots + kBoundGroups);
    TESSERA_ROLLED
    for (int i = 0; i < kSlots + kBoundGroups; ++i) ptx::mbarrier_init(barriers + i, 1);
    if (thread == 0) Block::expect(problem, at, static_cast<int32_t>(blockIdx.x), memory);
    ptx::fence_barrier_init();
  }
  if (thread < kSetWords) reinterpret_cast<uint32_t*>(memory + at.own_set())[thread] = 0;
  if (thread == 0) *reinterpret_cast<int32_t*>(memory + at.own_chosen()) = 0;
  __syncthreads();
  cluster_arrive_relaxed();
  allow_next();
  wait_for_previous();
  cluster_wait();  // all blocks are there and can be written to
  const Block block = {problem,
                       problem.decode,
                       memory,
                       at,
                       static_cast<int32_t>(blockIdx.x),
                       thread,
                       thread / kWarp,
                       thread % kWarp,
                       List(problem.decode, static_cast<int32_t>(blockIdx.y))};
  block.score_pages();
  DecodeWarp<Pages, kDim> state;  // loads its queries before rows are asked for: they would wait behind them
  state.load_queries(block.queries(), problem.decode.query_stride[1], problem.decode.group);
  __syncthreads();
  block.order_pages();
  __syncthreads();
  block.send_order();
  block.request_early();
  state.start_loaded();
  ptx::mbarrier_wait(block.exchange(0), 0);
  block.count_chosen();
  __syncthreads();
  block.send_chosen();
  ptx::mbarrier_wait(block.exchange(1), 0);
  if (problem.decode.keeps_selection) block.write_selection();
  block.attend(state, {reinterpret_cast<const int32_t*>(memory + at.chosen()), block.early(), block.total()});
  block.send_results(state);
  ptx::mbarrier_wait(block.exchange(2), 0);
  block.merge_results();
}

// How many clusters run at once. `known` keeps the answer from call to call.
template <typename Kernel>
cudaError_t active_clusters(Kernel* kernel, const Grid& grid, std::atomic<int64_t>& known, int& count) {
  int device = 0;
  cudaError_t status = cudaGetDevice(&device);
  const int64_t question = int64_t{device} << 32 | grid.shared_bytes;
  const int64_t answer = known.load();
  if (status != cudaSuccess) return status;
  if (answer >= 0 && answer >> 8 == question) {
    count = static_cast<int>(answer & 0xff);
    return status;
  }
  status = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = grid.cluster;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid.blocks;
  config.blockDim = dim3(static_cast<unsigned>(grid.threads));
  config.dynamicSmemBytes = static_cast<size_t>(grid.shared_bytes);
  config.attrs = &attribute;
  config.numAttrs = 1;
  if (status == cudaSuccess) status = cudaOccupancyMaxActiveClusters(&count, kernel, &config);
  if (status == cudaSuccess) known.store(question << 8 | (count < 255 ? count : 255));
  return status;
}

template <typename Pages, int kDim, int kWarps>
cudaError_t try_launch(const DecodeProblem& decode, cudaStream_t stream, bool& launched) {
  using Block = ClusterBlock<Pages, kDim, kWarps>;
  constexpr int kRoom = (kHopperShared + 1024) / 2 - 1024;  // two blocks share a multiprocessor
  if constexpr (Block::kStages > kRoom) return cudaSuccess;
  const int32_t own = own_pages(decode.table_stride, 0);
  const int32_t length = own < decode.budget ? own : decode.budget;
  ClusterProblem problem = {decode, (length + 15) / 16 * 16, 0, 0, kWarps * kSlots / kChunks};
  const int32_t results = kWarps * decode.group * (kDim + 2) * 4;
  const int32_t groups = (own + kBoundPages - 1) / kBoundPages;
  int32_t batch = (groups + kWarps - 1) / kWarps;
  for (batch = batch < kBoundGroups ? batch : kBoundGroups; batch > 0; --batch) {
    problem.batch = batch * kBoundPages;
    problem.region = Block::kStages > results ? Block::kStages : results;
    const int32_t bounds = kWarps * problem.batch * Block::kBoundStride;
    if (bounds > problem.region) problem.region = bounds;
    problem.region = (problem.region + 127) / 128 * 128;
    if (layout_of(problem).bytes() <= kRoom) break;
  }
  if (batch == 0) return cudaSuccess;
  const auto lists = static_cast<unsigned>(decode.sequences * decode.kv_heads);
  const auto kernel = cluster_kernel<Pages, kDim, kWarps>;
  const Grid grid = {{kClusterBlocks, lists}, kWarps * kWarp, layout_of(problem).bytes(), true, kClusterBlocks};
  cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kRoom);
  static std::atomic<int64_t> known{-1};
  int clusters = 0;
  if (status == cudaSuccess) status = active_clusters(kernel, grid, known, clusters);
  if (status != cudaSuccess || clusters < static_cast<int>(lists)) return status;
  launched = true;
  return launch(kernel, problem, grid, stream);
}

}  // namespace

cudaError_t launch_cluster(const DecodeProblem& problem, PageFormat format, const Device& device, cudaStream_t stream,
                           bool& launched) {
  const int32_t blocks = problem.sequences * problem.kv_heads * kClusterBlocks;
  const bool fills = blocks <= device.multiprocessors && 2 * blocks > device.multiprocessors;
  const bool fits = own_pages(problem.table_stride, 0) <= kMostOwnPages && problem.passes == 1;
  launched = false;
  if (device.capability != 9 || !fills || !fits) return cudaSuccess;
  return with_pages(format, problem.head_dim, [&]<typename Pages, int kDim>() {
    if constexpr (std::is_same_v<Pages, Int4Pages>) {
      return cudaSuccess;  // slower so: bound by work
    } else {
      return try_launch<Pages, kDim, 6>(problem, stream, launched);
    }
  });
}

}  // namespace tessera::attention::cuda
