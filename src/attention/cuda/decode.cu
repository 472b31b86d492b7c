// Kernels of decode: every warp copies its pages into shared memory of its own (bulk copies on sm_90) and works on them
// alone; a block's warps meet only where a job ends. One block per multiprocessor.
#include "attention/cuda/decode_kernel.cuh"
#include "attention/cuda/decode_pages.h"

namespace tessera::attention::cuda {
namespace {

template <typename Pages, int kDim>
__device__ __forceinline__ void request_page(const DecodeProblem& problem, int64_t page, const PageCopy& copy,
                                             uint8_t* stage, int lane) {
  using Shape = PageShape<Pages, kDim>;
  copy.expect(Shape::kKeyPage + Shape::kValuePage, lane);
  copy.request(stage, problem.keys + page * Shape::kKeyPage, Shape::kKeyPage, lane);
  copy.request(stage + Shape::kKeyPage, problem.values + page * Shape::kValuePage, Shape::kValuePage, lane);
}

template <typename Pages, int kDim>
__global__ void __launch_bounds__(DecodeShared<Pages, kDim, 1>::kWarps* kWarp, 1)
    decode_kernel(const DecodeProblem problem) {
  using Shared = DecodeShared<Pages, kDim, 1>;
  using Shape = PageShape<Pages, kDim>;
  // Small copies pay for their parameters and barriers: only bf16 gains by 16 rows at a time.
  constexpr bool kWhole = Pages::kScaled;
  extern __shared__ __align__(128) uint8_t memory[];
  const ShareBlock<Pages, kDim, 1> block(problem, memory);
  const int warps = block.warps;
  const int warp = block.warp;
  const int lane = block.lane;
  uint8_t* const stage = block.stage;
  uint64_t* const barriers = block.barriers;
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
    if (at.page < 0) return;
    if constexpr (kWhole) {
      if (chunk == kChunks - 1) request_page<Pages, kDim>(problem, at.page, {barriers}, stage, lane);
    } else {
      uint8_t* parameters = chunk == 0 ? Shared::key_parameters(stage, 0) : nullptr;
      request_chunk<Pages, kDim>(problem, {at.page, chunk, chunk, parameters}, {barriers + chunk}, stage, lane);
    }
  };
  PageAt now = look_up(unit);
  for (int chunk = 0; chunk < kChunks; ++chunk) request(now, chunk);
  PageAt next = look_up(unit + warps);

  DecodeWarp<Pages, kDim> state;
  while (segment < end) {
    const int32_t segment_end = job.end < end ? job.end : end;
    block.load_queries(state, job);
    state.start_loaded();
    for (; unit < segment_end; unit += warps) {
      const PageAt later = look_up(unit + 2 * warps);
      state.attend(
          stage, problem.scale_log2, now.rows,
          [&](int chunk) {
            if (!kWhole || chunk == 0) PageCopy{barriers + (kWhole ? 0 : chunk)}.wait(parity);
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
    block.finish(state, shares, job);
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

int64_t most_pages_of_a_block(const DecodeProblem& problem) {
  const bool some = problem.selection != nullptr && problem.budget < problem.table_stride;
  const int64_t pages = some ? problem.budget : problem.table_stride;
  const int64_t all = pages * problem.sequences * problem.kv_heads * problem.passes;
  return (all + problem.blocks - 1) / problem.blocks;
}

}  // namespace

cudaError_t launch_decode(const DecodeProblem& given, PageFormat format, cudaStream_t stream) {
  DecodeProblem problem = given;
  Device device;
  cudaError_t status = read_device(device);
  if (status != cudaSuccess) return status;
  if (problem.selection != nullptr && most_pages_of_a_block(problem) <= kSpreadPages) {
    bool launched = false;
    status = launch_cluster(problem, format, device, stream, launched);
    if (status != cudaSuccess || launched) return status;
  }
  // Counts must be cleared before: launch_choose() does. Every warp brings room for head_dim + 2 floats a head to the
  // two floats a worker that merge_if_last() needs; three warps at least fit on Hopper.
  const bool roomy = 2 * problem.blocks <= 3 * (problem.head_dim + 2);
  if (problem.selection == nullptr || device.capability < 9 || !roomy) problem.arrivals = nullptr;
  if (problem.selection != nullptr) status = launch_choose(problem, device, stream);
  if (status != cudaSuccess) return status;
  if (most_pages_of_a_block(problem) <= kSpreadPages) {
    const int32_t jobs = problem.kv_heads * problem.passes;
    if (problem.sequences == 1 && problem.blocks >= jobs) problem.workers_per_job = problem.blocks / jobs;
    status = launch_spread(problem, format, device, stream);
  } else {
    status = with_pages(format, problem.head_dim, [&]<typename Pages, int kDim>() {
      return launch_blocks<DecodeShared<Pages, kDim, 1>>(decode_kernel<Pages, kDim>, problem, device, stream);
    });
  }
  if (status != cudaSuccess || problem.arrivals != nullptr) return status;
  const Grid grid = {
      {static_cast<unsigned>(problem.sequences * problem.query_heads)}, problem.head_dim, 0, device.capability >= 9};
  return launch(merge_kernel, problem, grid, stream);
}

cudaError_t launch_page_write(const PageWriteProblem& problem, PageFormat format, cudaStream_t stream) {
  const Grid grid = {{static_cast<unsigned>((problem.rows + kPageRows - 1) / kPageRows),
                      static_cast<unsigned>(problem.kv_heads), static_cast<unsigned>(problem.sequences)},
                     kPageThreads};
  return with_pages(format, problem.head_dim, [&]<typename Pages, int kDim>() {
    return launch(write_kernel<Pages, kDim>, problem, grid, stream);
  });
}

}  // namespace tessera::attention::cuda
