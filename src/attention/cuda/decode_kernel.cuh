// What the decode kernels share: copies of rows into shared memory, its division, the end of a job, launches.
#pragma once

#include "attention/cuda/decode_body.h"
#include "attention/cuda/decode_launch.h"
#include "attention/cuda/ptx.cuh"

namespace tessera::attention::cuda {

constexpr int kMaxWarps = 12;            // of a block; the register file then has 168 registers for a thread
constexpr int kChunks = kPageRows / 16;  // of a page
constexpr int kHopperShared = 232448;

// A kernel that was launched early starts reading what the one before wrote only after wait_for_previous().
__device__ __forceinline__ void allow_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Copies into shared memory that one barrier counts: request() all of them by all lanes of the warp, then wait().
struct PageCopy {
  uint64_t* barrier;

  __device__ __forceinline__ void expect(int bytes, int lane) const {
#if __CUDA_ARCH__ >= 900
    if (lane == 0) ptx::mbarrier_arrive_expect(barrier, static_cast<uint32_t>(bytes));
#endif
  }
  __device__ __forceinline__ void request(uint8_t* shared, const uint8_t* from, int bytes, int lane) const {
#if __CUDA_ARCH__ >= 900
    if (lane == 0) ptx::bulk_load(shared, from, static_cast<uint32_t>(bytes), barrier);
#else
    for (int i = lane; i < bytes / 16; i += kWarp) {
      reinterpret_cast<uint4*>(shared)[i] = reinterpret_cast<const uint4*>(from)[i];
    }
    __syncwarp();
#endif
  }
  __device__ __forceinline__ void wait(uint32_t parity) const {
#if __CUDA_ARCH__ >= 900
    ptx::mbarrier_wait(barrier, parity);
#endif
  }
  // After ordinary writes to the memory that the next request fills.
  __device__ __forceinline__ void release() const {
#if __CUDA_ARCH__ >= 900
    ptx::fence_proxy_async();
#endif
  }
};

// Shared memory of a block: barriers, a stage per warp, what the warps hand over. A stage holds a page; that of the
// spread kernel holds any four chunks, each with the parameters of its keys.
template <typename Pages, int kDim, int kKeyParameterSets>
struct DecodeShared {
  using Shape = PageShape<Pages, kDim>;
  static constexpr int kBarriers = kMaxWarps * 8 * kChunks;
  static constexpr int kPage = Shape::kKeyPage + Shape::kValuePage;
  static constexpr int kStage = kPage + (kKeyParameterSets - 1) * Shape::kKeyParameters;

  static constexpr int bytes(int warps, int heads) { return kBarriers + warps * (kStage + heads * (kDim + 2) * 4); }
  static constexpr int warps(int limit, int heads) {
    const int fit = (limit - kBarriers) / (bytes(1, heads) - kBarriers);
    return fit < kMaxWarps ? fit : kMaxWarps;
  }
  static constexpr int kWarps = warps(kHopperShared, 1);  // at most

  __device__ __forceinline__ static uint8_t* key_parameters(uint8_t* stage, int set) {
    return set == 0 ? stage + Shape::kCodeBytes : stage + kPage + (set - 1) * Shape::kKeyParameters;
  }
};

// Rows of a chunk that count nothing must hold finite numbers.
template <typename Pages, int kDim>
__device__ __forceinline__ void clear_rows(uint8_t* page, int32_t rows, int chunk, int lane) {
  using Shape = PageShape<Pages, kDim>;
  const int first = rows > 16 * chunk ? rows : 16 * chunk;
  const int end = 16 * chunk + 16;
  for (int i = first * Shape::kRowBytes / 4 + lane; i < end * Shape::kRowBytes / 4; i += kWarp) {
    reinterpret_cast<uint32_t*>(page)[i] = 0;
  }
  if constexpr (Pages::kScaled) {
    auto* parameters = reinterpret_cast<uint16_t*>(page + Shape::kCodeBytes);
    for (int row = first + lane; row < end; row += kWarp) {
      parameters[row] = 0;
      if constexpr (Pages::kZeroed) parameters[kPageRows + row] = 0;
    }
  }
  __syncwarp();
}

// Asks for 16 rows of keys and values and the parameters of the values; where `parameters` is given, for those of the
// keys too. The rows become rows [16 slot, 16 slot + 16) of the stage.
struct ChunkAt {
  int64_t page;
  int chunk, slot;
  uint8_t* parameters;  // in shared memory; may be null
};

template <typename Pages, int kDim>
__device__ __forceinline__ void request_chunk(const DecodeProblem& problem, const ChunkAt& at, const PageCopy& copy,
                                              uint8_t* stage, int lane) {
  using Shape = PageShape<Pages, kDim>;
  constexpr int kRows = 16 * Shape::kRowBytes;
  constexpr int kParameters = Pages::kScaled ? 32 : 0;  // bytes of 16 scales
  const uint8_t* keys = problem.keys + at.page * Shape::kKeyPage;
  const uint8_t* values = problem.values + at.page * Shape::kValuePage;
  uint8_t* to_values = stage + Shape::kKeyPage;
  const int key_parameters = at.parameters != nullptr ? Shape::kKeyParameters : 0;
  copy.expect(2 * kRows + key_parameters + kParameters * (1 + Pages::kZeroed), lane);
  copy.request(stage + at.slot * kRows, keys + at.chunk * kRows, kRows, lane);
  if constexpr (Pages::kScaled) {
    if (key_parameters > 0) copy.request(at.parameters, keys + Shape::kCodeBytes, key_parameters, lane);
    const int from = Shape::kCodeBytes + at.chunk * kParameters;
    const int to = Shape::kCodeBytes + at.slot * kParameters;
    copy.request(to_values + to, values + from, kParameters, lane);
    if constexpr (Pages::kZeroed) {
      copy.request(to_values + to + 2 * kPageRows, values + from + 2 * kPageRows, kParameters, lane);
    }
  }
  copy.request(to_values + at.slot * kRows, values + at.chunk * kRows, kRows, lane);
}

__device__ __forceinline__ void add_part(float4& to, float factor, const float4& part) {
  to.x += factor * part.x;
  to.y += factor * part.y;
  to.z += factor * part.z;
  to.w += factor * part.w;
}

// What a job of a block leaves behind: the warps' results, merged into the block's partial result. All threads.
struct BlockResults {
  const float* out;
  const float* max;
  const float* sum;
  int warps, stride;  // stride: heads from one warp to the next

  struct Part {
    float max, sum;
    float4 value;  // channels [channel, channel + 4)
  };
  template <int kDim>
  __device__ __forceinline__ Part merged(int head, int channel) const {
    Part part = {minus_infinity(), 0, {0, 0, 0, 0}};
    TESSERA_BATCHED
    for (int w = 0; w < warps; ++w) part.max = fmaxf(part.max, max[w * stride + head]);
    const float shift = part.max == minus_infinity() ? 0 : part.max;
    TESSERA_BATCHED
    for (int w = 0; w < warps; ++w) {
      const float factor = exp2_fast(max[w * stride + head] - shift);
      add_part(part.value, factor, *reinterpret_cast<const float4*>(out + (w * stride + head) * kDim + channel));
      part.sum += factor * sum[w * stride + head];
    }
    return part;
  }

  template <int kDim>
  __device__ __forceinline__ void store(const DecodeProblem& problem, int64_t row, int heads) const {
    for (int i = static_cast<int>(threadIdx.x); i < heads * kDim / 4; i += static_cast<int>(blockDim.x)) {
      const int head = i / (kDim / 4);
      const int channel = i % (kDim / 4) * 4;
      const Part part = merged<kDim>(head, channel);
      *reinterpret_cast<float4*>(problem.partial_out + (row + head) * kDim + channel) = part.value;
      if (channel == 0) {
        problem.partial_max[row + head] = part.max;
        problem.partial_sum[row + head] = part.sum;
      }
    }
  }
};

// The block that stores the last partial result of a job merges them all, in order of the workers. `scratch` holds two
// floats per worker and head. All threads; they have met since the last use of `scratch`, not since store().
template <int kDim>
__device__ __forceinline__ void merge_if_last(const DecodeProblem& problem, const JobRange& job, const Shares& shares,
                                              float* scratch, int heads) {
  int* last = reinterpret_cast<int*>(scratch);
  const int first = shares.owner(job.begin);
  const int count = shares.owner(job.end - 1) - first + 1;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *last = atomicAdd(problem.arrivals + job.job, 1) == count - 1;
  __syncthreads();
  if (*last == 0) return;
  __threadfence();
  __syncthreads();
  const int64_t row = slot_of(first, job.job) * kHeadsPerPass;
  float* max = scratch;
  float* sum = scratch + count * heads;
  for (int i = static_cast<int>(threadIdx.x); i < count * heads; i += static_cast<int>(blockDim.x)) {
    const int64_t at = row + i / heads * kHeadsPerPass + i % heads;
    max[i] = __ldcg(problem.partial_max + at);
    sum[i] = __ldcg(problem.partial_sum + at);
  }
  __syncthreads();
  const int query_head =
      job.job / problem.passes % problem.kv_heads * problem.group + job.job % problem.passes * kHeadsPerPass;
  for (int i = static_cast<int>(threadIdx.x); i < heads * kDim / 4; i += static_cast<int>(blockDim.x)) {
    const int head = i / (kDim / 4);
    const int channel = i % (kDim / 4) * 4;
    float top = minus_infinity();
    for (int w = 0; w < count; ++w) top = fmaxf(top, max[w * heads + head]);
    const float shift = top == minus_infinity() ? 0 : top;
    float total = 0;
    float4 value = {0, 0, 0, 0};
    const float* from = problem.partial_out + (row + head) * kDim + channel;
#pragma unroll 16
    for (int w = 0; w < count; ++w) {
      const float factor = exp2_fast(max[w * heads + head] - shift);
      const float4 part = __ldcg(reinterpret_cast<const float4*>(from + int64_t{w} * kHeadsPerPass * kDim));
      total += factor * sum[w * heads + head];
      add_part(value, factor, part);
    }
    const float channels[4] = {value.x, value.y, value.z, value.w};
    for (int c = 0; c < 4; ++c) {
      store_result(problem, job.sequence, query_head + head, channel + c, {top, total, channels[c]});
    }
  }
}

// A block's place in shared memory, its warps' results and barriers, and the queries of a job: what the kernels that
// divide the line of pages begin with.
template <typename Pages, int kDim, int kKeyParameterSets>
struct ShareBlock {
  using Shared = DecodeShared<Pages, kDim, kKeyParameterSets>;

  const DecodeProblem& problem;
  int warps, warp, lane;
  int merge_heads;  // of the results
  uint8_t* stage;   // of the warp
  float *merge_out, *merge_max, *merge_sum;
  uint64_t* barriers;  // of the warp

  // Barriers are ready for the warp; the next kernel may start.
  __device__ __forceinline__ ShareBlock(const DecodeProblem& of, uint8_t* memory)
      : problem(of),
        warps(static_cast<int>(blockDim.x) / kWarp),
        warp(static_cast<int>(threadIdx.x) / kWarp),
        lane(static_cast<int>(threadIdx.x) % kWarp),
        merge_heads(of.group < kHeadsPerPass ? of.group : kHeadsPerPass),
        stage(memory + Shared::kBarriers + warp * Shared::kStage),
        merge_out(reinterpret_cast<float*>(memory + Shared::kBarriers + warps * Shared::kStage)),
        merge_max(merge_out + warps * merge_heads * kDim),
        merge_sum(merge_max + warps * merge_heads),
        barriers(reinterpret_cast<uint64_t*>(memory) + warp * kChunks) {
#if __CUDA_ARCH__ >= 900
    if (lane == 0) {
      for (int i = 0; i < kChunks; ++i) ptx::mbarrier_init(barriers + i, 1);
      ptx::fence_barrier_init();
    }
    __syncwarp();
#endif
    allow_next();
  }

  __device__ __forceinline__ int heads_of(const JobRange& job) const {
    const int left = problem.group - job.job % problem.passes * kHeadsPerPass;
    return left < kHeadsPerPass ? left : kHeadsPerPass;
  }

  __device__ __forceinline__ void load_queries(DecodeWarp<Pages, kDim>& state, const JobRange& job) const {
    const int first =
        job.job / problem.passes % problem.kv_heads * problem.group + job.job % problem.passes * kHeadsPerPass;
    state.load_queries(problem.queries + job.sequence * problem.query_stride[0] + first * problem.query_stride[1],
                       problem.query_stride[1], heads_of(job));
  }

  // The warps' results of a job become the block's; the last block merges. All threads.
  __device__ __forceinline__ void finish(DecodeWarp<Pages, kDim>& state, const Shares& shares,
                                         const JobRange& job) const {
    const int heads = heads_of(job);
    state.finish(merge_out + warp * merge_heads * kDim, merge_max + warp * merge_heads, merge_sum + warp * merge_heads,
                 heads);
    __syncthreads();
    const BlockResults results = {merge_out, merge_max, merge_sum, warps, merge_heads};
    results.template store<kDim>(problem, slot_of(static_cast<int32_t>(blockIdx.x), job.job) * kHeadsPerPass, heads);
    if (problem.arrivals != nullptr) merge_if_last<kDim>(problem, job, shares, merge_out, heads);
    __syncthreads();
  }
};

struct Grid {
  dim3 blocks;
  int threads = 0;
  int shared_bytes = 0;
  bool early = false;    // may start while the kernel before it still runs
  unsigned cluster = 1;  // blocks along x that run together
};

// All kernels ask for the same division of L1 and shared memory: a multiprocessor must be idle to change it.
template <typename Problem>
inline cudaError_t launch(void (*kernel)(Problem), const Problem& problem, const Grid& grid, cudaStream_t stream) {
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (grid.early) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (grid.cluster > 1) {
    const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (allowed != cudaSuccess) return allowed;
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = grid.cluster;
    attributes[count].val.clusterDim.y = attributes[count].val.clusterDim.z = 1;
    ++count;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid.blocks;
  config.blockDim = dim3(static_cast<unsigned>(grid.threads));
  config.dynamicSmemBytes = static_cast<size_t>(grid.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  return cudaLaunchKernelEx(&config, kernel, problem);
}

struct Device {
  int capability = 0, shared_limit = 0, multiprocessors = 0;
};

// Calls `body` with the head dimension as a constant: body.template operator()<kDim>().
template <typename Body>
cudaError_t with_head_dim(int32_t head_dim, const Body& body) {
  switch (head_dim) {
    case 64:
      return body.template operator()<64>();
    case 96:
      return body.template operator()<96>();
    case 128:
      return body.template operator()<128>();
    default:
      return body.template operator()<256>();
  }
}

// Calls `body` with the pages' type and the head dimension: body.template operator()<Pages, kDim>().
template <typename Body>
cudaError_t with_pages(PageFormat format, int32_t head_dim, const Body& body) {
  return with_head_dim(head_dim, [&]<int kDim>() {
    switch (format) {
      case PageFormat::bf16:
        return body.template operator()<Bf16Pages, kDim>();
      case PageFormat::fp8:
        return body.template operator()<Fp8Pages, kDim>();
      case PageFormat::int8:
        return body.template operator()<Int8Pages, kDim>();
      default:
        return body.template operator()<Int4Pages, kDim>();
    }
  });
}

// One block per multiprocessor, with as many warps as shared memory has room for.
template <typename Shared>
cudaError_t launch_blocks(void (*kernel)(DecodeProblem), const DecodeProblem& problem, const Device& device,
                          cudaStream_t stream) {
  const bool early = device.capability >= 9;
  const int heads = problem.group < kHeadsPerPass ? problem.group : kHeadsPerPass;
  const int warps = Shared::warps(device.shared_limit, heads);
  if (warps < 1) return cudaErrorInvalidConfiguration;
  const int bytes = Shared::bytes(warps, heads);
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status != cudaSuccess) return status;
  return launch(kernel, problem, {{static_cast<unsigned>(problem.blocks)}, warps * kWarp, bytes, early}, stream);
}

// Pages of a block up to which the spread kernel is the faster one.
constexpr int32_t kSpreadPages = 8;

// problem.page_scores, problem.selection and, where given, cleared problem.arrivals; empty sequences' results with
// them.
cudaError_t launch_choose(const DecodeProblem& problem, const Device& device, cudaStream_t stream);

// For shares of at most kSpreadPages pages: the warps of a block share its pages 16 rows at a time.
cudaError_t launch_spread(const DecodeProblem& problem, PageFormat format, const Device& device, cudaStream_t stream);

// One kernel for choice and attention; whether the problem and the device suit it is in `launched`.
cudaError_t launch_cluster(const DecodeProblem& problem, PageFormat format, const Device& device, cudaStream_t stream,
                           bool& launched);

}  // namespace tessera::attention::cuda
