// Kernels of decode: every warp copies its pages into shared memory of its own (bulk copies on sm_90) and works on them
// alone; a block's warps meet only where a job ends. One block per multiprocessor.
#include "attention/cuda/decode_body.h"
#include "attention/cuda/decode_launch.h"
#include "attention/cuda/decode_pages.h"
#include "attention/cuda/decode_select.h"
#include "attention/cuda/ptx.cuh"

namespace tessera::attention::cuda {
namespace {

constexpr int kMaxWarps = 12;            // of a block; the register file then has 168 registers for a thread
constexpr int kChunks = kPageRows / 16;  // of a page, each with a barrier of its own
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

template <typename Pages, int kDim>
struct DecodeShared {
  using Shape = PageShape<Pages, kDim>;
  static constexpr int kBarriers = kMaxWarps * 8 * kChunks;
  static constexpr int kStage = Shape::kKeyPage + Shape::kValuePage;

  static constexpr int bytes(int warps, int heads) { return kBarriers + warps * (kStage + heads * (kDim + 2) * 4); }
  static constexpr int warps(int limit, int heads) {
    const int fit = (limit - kBarriers) / (bytes(1, heads) - kBarriers);
    return fit < kMaxWarps ? fit : kMaxWarps;
  }
  static constexpr int kWarps = warps(kHopperShared, 1);  // at most
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

// Asks for 16 rows of keys and values and their parameters; those of the keys come with the first chunk.
template <typename Pages, int kDim>
__device__ __forceinline__ void request_chunk(const DecodeProblem& problem, int64_t page, const PageCopy& copy,
                                              uint8_t* stage, int chunk, int lane) {
  using Shape = PageShape<Pages, kDim>;
  constexpr int kRows = 16 * Shape::kRowBytes;
  constexpr int kParameters = Pages::kScaled ? 32 : 0;  // bytes of 16 scales
  const uint8_t* keys = problem.keys + page * Shape::kKeyPage;
  const uint8_t* values = problem.values + page * Shape::kValuePage;
  uint8_t* to_values = stage + Shape::kKeyPage;
  copy.expect(2 * kRows + (chunk == 0 ? Shape::kKeyParameters : 0) + kParameters * (1 + Pages::kZeroed), lane);
  copy.request(stage + chunk * kRows, keys + chunk * kRows, kRows, lane);
  if constexpr (Pages::kScaled) {
    if (chunk == 0) copy.request(stage + Shape::kCodeBytes, keys + Shape::kCodeBytes, Shape::kKeyParameters, lane);
    const int scales = Shape::kCodeBytes + chunk * kParameters;
    copy.request(to_values + scales, values + scales, kParameters, lane);
    const int zeros = scales + 2 * kPageRows;
    if constexpr (Pages::kZeroed) copy.request(to_values + zeros, values + zeros, kParameters, lane);
  }
  copy.request(to_values + chunk * kRows, values + chunk * kRows, kRows, lane);
}

template <typename Pages, int kDim>
__global__ void __launch_bounds__(DecodeShared<Pages, kDim>::kWarps* kWarp, 1)
    decode_kernel(const DecodeProblem problem) {
  using Shared = DecodeShared<Pages, kDim>;
  using Shape = PageShape<Pages, kDim>;
  extern __shared__ __align__(128) uint8_t memory[];
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  uint8_t* stage = memory + Shared::kBarriers + warp * Shared::kStage;
  auto* merge_out = reinterpret_cast<float*>(memory + Shared::kBarriers + warps * Shared::kStage);
  const int merge_heads = problem.group < kHeadsPerPass ? problem.group : kHeadsPerPass;
  float* merge_max = merge_out + warps * merge_heads * kDim;
  float* merge_sum = merge_max + warps * merge_heads;
  auto* barriers = reinterpret_cast<uint64_t*>(memory) + warp * kChunks;
#if __CUDA_ARCH__ >= 900
  if (lane == 0) {
    for (int i = 0; i < kChunks; ++i) ptx::mbarrier_init(barriers + i, 1);
    ptx::fence_barrier_init();
  }
  __syncwarp();
#endif
  allow_next();
  wait_for_previous();

  const Shares shares = shares_of(problem);
  const auto worker = static_cast<int32_t>(blockIdx.x);
  if (worker >= shares.workers) return;
  const int32_t end = shares.begin(worker + 1);
  int32_t segment = shares.begin(worker);
  int32_t unit = segment + warp;
  uint32_t parity = 0;
  JobRange job = job_at(problem, segment);
  JobRange ahead = job;  // of the page looked up last
  const auto look_up = [&](int32_t at) {
    if (at >= end) return PageAt{-1, 0};
    if (at >= ahead.end) ahead = job_at(problem, at);
    return page_at(problem, ahead, at - ahead.begin);
  };
  const auto request = [&](const PageAt& at, int chunk) {
    if (at.page >= 0) request_chunk<Pages, kDim>(problem, at.page, {barriers + chunk}, stage, chunk, lane);
  };
  PageAt now = look_up(unit);
  for (int chunk = 0; chunk < kChunks; ++chunk) request(now, chunk);
  PageAt next = look_up(unit + warps);

  DecodeWarp<Pages, kDim> state;
  while (segment < end) {
    const int32_t segment_end = job.end < end ? job.end : end;
    const int pass = job.job % problem.passes;
    const int kv_head = job.job / problem.passes % problem.kv_heads;
    const int left = problem.group - pass * kHeadsPerPass;
    const int heads = left < kHeadsPerPass ? left : kHeadsPerPass;
    state.start(problem.queries + job.sequence * problem.query_stride[0] +
                    (kv_head * problem.group + pass * kHeadsPerPass) * problem.query_stride[1],
                problem.query_stride[1], heads);
    for (; unit < segment_end; unit += warps) {
      const PageAt later = look_up(unit + 2 * warps);
      state.attend(
          stage, problem.scale_log2, now.rows,
          [&](int chunk) {
            PageCopy{barriers + chunk}.wait(parity);
            if (now.rows < kPageRows) clear_rows<Pages, kDim>(stage + Shape::kKeyPage, now.rows, chunk, lane);
          },
          [&](int chunk) {
            if (now.rows < kPageRows) PageCopy{barriers + chunk}.release();
            __syncwarp();
            request(next, chunk);
          });
      now = next;
      next = later;
      parity ^= 1;
    }
    state.finish(merge_out + warp * merge_heads * kDim, merge_max + warp * merge_heads, merge_sum + warp * merge_heads,
                 heads);
    __syncthreads();
    const int64_t row = slot_of(worker, job.job) * kHeadsPerPass;
    for (int i = static_cast<int>(threadIdx.x); i < heads * kDim; i += static_cast<int>(blockDim.x)) {
      const int head = i / kDim;
      const Merged merged = merge_channel(
          {merge_out + head * kDim, merge_max + head, merge_sum + head, warps, merge_heads}, kDim, i % kDim);
      problem.partial_out[(row + head) * kDim + i % kDim] = merged.out;
      if (i % kDim == 0) {
        problem.partial_max[row + head] = merged.max;
        problem.partial_sum[row + head] = merged.sum;
      }
    }
    __syncthreads();
    segment = segment_end;
    if (segment < end) job = job_at(problem, segment);
  }
}

__global__ void merge_kernel(const DecodeProblem problem) {
  allow_next();
  wait_for_previous();
  const auto row = static_cast<int32_t>(blockIdx.x);
  merge_head(problem, row / problem.query_heads, row % problem.query_heads, static_cast<int32_t>(threadIdx.x));
}

constexpr int kBoundThreads = 256;

template <int kDim>
__global__ void __launch_bounds__(kBoundThreads) bounds_kernel(const DecodeProblem problem) {
  allow_next();
  wait_for_previous();
  const auto list = static_cast<int32_t>(blockIdx.y);
  const int32_t sequence = list / problem.kv_heads;
  const int32_t head = list % problem.kv_heads;
  const int32_t pages = pages_of(problem, sequence);
  const int32_t* table = problem.table + (problem.table_heads == 1 ? sequence : list) * int64_t{problem.table_stride};
  const uint16_t* queries =
      problem.queries + sequence * problem.query_stride[0] + head * problem.group * problem.query_stride[1];
  constexpr int kPages = kBoundThreads / kBoundLanes;  // of a block
  const auto offset = static_cast<int32_t>(threadIdx.x) / kBoundLanes;
  const auto lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int32_t start = static_cast<int32_t>(blockIdx.x) * kPages; start < pages;
       start += static_cast<int32_t>(gridDim.x) * kPages) {
    const int32_t page = start + offset;
    Lanes<const uint8_t*> bounds = {};
    if (page < pages && !is_forced(problem, page, pages)) {
      const int64_t at = problem.table_heads == 1 ? int64_t{table[page]} * problem.kv_heads + head : table[page];
      bounds[lane] = problem.bounds + at * 4 * kDim;
    }
    Lanes<float> best;
    page_bounds<kDim>(queries, problem.query_stride[1], problem.group, bounds, best);
    if (page < pages && threadIdx.x % kBoundLanes == 0) {
      problem.page_scores[list * int64_t{problem.table_stride} + page] =
          bounds[lane] != nullptr ? best[lane] : INFINITY;
    }
  }
}

__global__ void __launch_bounds__(kSelectThreads) select_kernel(const DecodeProblem problem) {
  __shared__ SelectShared shared;
  allow_next();
  wait_for_previous();
  const int64_t list = blockIdx.x;
  const auto sequence = static_cast<int32_t>(list / problem.kv_heads);
  const int32_t pages = pages_of(problem, sequence);
  int32_t* selected = problem.selection + list * problem.budget;
  select_largest(SelectBlock{}, problem.page_scores + list * problem.table_stride, pages, problem.budget, selected,
                 shared);
  for (int32_t i = pages + static_cast<int32_t>(threadIdx.x); i < problem.budget; i += kSelectThreads) selected[i] = -1;
}

template <typename Pages, int kDim>
__global__ void __launch_bounds__(kPageThreads) write_kernel(const PageWriteProblem problem) {
  using Shape = PageShape<Pages, kDim>;
  const auto sequence = static_cast<int64_t>(blockIdx.z);
  const auto head = static_cast<int64_t>(blockIdx.y);
  const int32_t first = problem.first_page != nullptr ? problem.first_page[sequence] : 0;
  const int32_t row = static_cast<int32_t>(blockIdx.x) * kPageRows;
  const int32_t left = problem.lengths[sequence] - first * kPageRows - row;
  if (left <= 0) return;
  const int64_t logical = first + static_cast<int64_t>(blockIdx.x);
  const int64_t table = problem.table_heads == 1 ? sequence : sequence * problem.kv_heads + head;
  int64_t page = problem.table[table * problem.table_stride + logical];
  if (problem.table_heads == 1) page = page * problem.kv_heads + head;
  write_page<Pages, kDim>(
      PageBlock{},
      {problem.keys + sequence * problem.key_stride[0] + row * problem.key_stride[1] + head * problem.key_stride[2],
       problem.values + sequence * problem.value_stride[0] + row * problem.value_stride[1] +
           head * problem.value_stride[2],
       problem.key_stride[1], problem.value_stride[1], left < kPageRows ? left : kPageRows},
      {problem.key_pool + page * Shape::kKeyPage, problem.value_pool + page * Shape::kValuePage,
       problem.bounds != nullptr ? problem.bounds + page * 4 * kDim : nullptr});
}

struct Grid {
  dim3 blocks;
  int threads = 0;
  int shared_bytes = 0;
  bool early = false;  // may start while the kernel before it still runs
};

// All kernels ask for the same division of L1 and shared memory: a multiprocessor must be idle to change it.
template <typename Problem>
cudaError_t launch(void (*kernel)(Problem), const Problem& problem, const Grid& grid, cudaStream_t stream) {
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid.blocks;
  config.blockDim = dim3(static_cast<unsigned>(grid.threads));
  config.dynamicSmemBytes = static_cast<size_t>(grid.shared_bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = grid.early ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, problem);
}

struct Device {
  int capability = 0, shared_limit = 0, multiprocessors = 0;
};

cudaError_t read_device(Device& device) {
  int index = 0;
  cudaError_t status = cudaGetDevice(&index);
  const auto read = [&](int& value, cudaDeviceAttr attribute) {
    if (status == cudaSuccess) status = cudaDeviceGetAttribute(&value, attribute, index);
  };
  read(device.capability, cudaDevAttrComputeCapabilityMajor);
  read(device.shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  read(device.multiprocessors, cudaDevAttrMultiProcessorCount);
  return status;
}

template <typename Pages, int kDim>
cudaError_t run(const DecodeProblem& problem, const Device& device, cudaStream_t stream) {
  using Shared = DecodeShared<Pages, kDim>;
  const bool early = device.capability >= 9;
  cudaError_t status = cudaSuccess;
  const auto lists = static_cast<unsigned>(problem.sequences * problem.kv_heads);
  if (problem.selection != nullptr) {
    constexpr int kPages = kBoundThreads / kBoundLanes;
    const unsigned room = (static_cast<unsigned>(problem.table_stride) + kPages - 1) / kPages;
    const unsigned wanted = (static_cast<unsigned>(device.multiprocessors) * 8 + lists - 1) / lists;
    status =
        launch(bounds_kernel<kDim>, problem, {{room < wanted ? room : wanted, lists}, kBoundThreads, 0, early}, stream);
    if (status != cudaSuccess) return status;
    status = launch(select_kernel, problem, {{lists}, kSelectThreads, 0, early}, stream);
    if (status != cudaSuccess) return status;
  }
  const int heads = problem.group < kHeadsPerPass ? problem.group : kHeadsPerPass;
  const int warps = Shared::warps(device.shared_limit, heads);
  if (warps < 1) return cudaErrorInvalidConfiguration;
  const int bytes = Shared::bytes(warps, heads);
  status = cudaFuncSetAttribute(decode_kernel<Pages, kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status != cudaSuccess) return status;
  status = launch(decode_kernel<Pages, kDim>, problem,
                  {{static_cast<unsigned>(problem.blocks)}, warps * kWarp, bytes, early}, stream);
  if (status != cudaSuccess) return status;
  return launch(merge_kernel, problem,
                {{static_cast<unsigned>(problem.sequences * problem.query_heads)}, kDim, 0, early}, stream);
}

template <typename Pages>
cudaError_t run(const DecodeProblem& problem, const Device& device, cudaStream_t stream) {
  switch (problem.head_dim) {
    case 64:
      return run<Pages, 64>(problem, device, stream);
    case 96:
      return run<Pages, 96>(problem, device, stream);
    case 128:
      return run<Pages, 128>(problem, device, stream);
    default:
      return run<Pages, 256>(problem, device, stream);
  }
}

template <typename Pages>
cudaError_t run_write(const PageWriteProblem& problem, cudaStream_t stream) {
  const Grid grid = {{static_cast<unsigned>((problem.rows + kPageRows - 1) / kPageRows),
                      static_cast<unsigned>(problem.kv_heads), static_cast<unsigned>(problem.sequences)},
                     kPageThreads};
  switch (problem.head_dim) {
    case 64:
      return launch(write_kernel<Pages, 64>, problem, grid, stream);
    case 96:
      return launch(write_kernel<Pages, 96>, problem, grid, stream);
    case 128:
      return launch(write_kernel<Pages, 128>, problem, grid, stream);
    default:
      return launch(write_kernel<Pages, 256>, problem, grid, stream);
  }
}

}  // namespace

cudaError_t launch_decode(const DecodeProblem& problem, PageFormat format, cudaStream_t stream) {
  Device device;
  const cudaError_t status = read_device(device);
  if (status != cudaSuccess) return status;
  switch (format) {
    case PageFormat::bf16:
      return run<Bf16Pages>(problem, device, stream);
    case PageFormat::fp8:
      return run<Fp8Pages>(problem, device, stream);
    case PageFormat::int8:
      return run<Int8Pages>(problem, device, stream);
    default:
      return run<Int4Pages>(problem, device, stream);
  }
}

cudaError_t launch_page_write(const PageWriteProblem& problem, PageFormat format, cudaStream_t stream) {
  switch (format) {
    case PageFormat::bf16:
      return run_write<Bf16Pages>(problem, stream);
    case PageFormat::fp8:
      return run_write<Fp8Pages>(problem, stream);
    case PageFormat::int8:
      return run_write<Int8Pages>(problem, stream);
    default:
      return run_write<Int4Pages>(problem, stream);
  }
}

}  // namespace tessera::attention::cuda
