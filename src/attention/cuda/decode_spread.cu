// Decode where a block has few pages: its warps take turns at chunks of 16 rows, all asked for at once and in the order
// of work, so that work starts with the first chunk and every warp has an equal part.
#include "attention/cuda/decode_kernel.cuh"

namespace tessera::attention::cuda {
namespace {

template <typename Pages, int kDim>
__global__ void __launch_bounds__(DecodeShared<Pages, kDim, kChunks>::kWarps* kWarp, 1)
    spread_kernel(const DecodeProblem problem) {
  using Shared = DecodeShared<Pages, kDim, kChunks>;
  using Shape = PageShape<Pages, kDim>;
  extern __shared__ __align__(128) uint8_t memory[];
  const ShareBlock<Pages, kDim, kChunks> block(problem, memory);
  const int warps = block.warps;
  const int warp = block.warp;
  const int lane = block.lane;
  uint8_t* const stage = block.stage;
  uint64_t* const barriers = block.barriers;
  // The kernel that chose pages began when all before it had ended: only its choice is to be waited for.
  const bool chosen = problem.selection != nullptr;
  if (!chosen) wait_for_previous();

  const Shares shares = shares_of(problem);
  const auto worker = static_cast<int32_t>(blockIdx.x);
  if (worker >= shares.workers) {
    if (chosen) wait_for_previous();  // the end of this kernel tells that the choice has ended
    return;
  }
  const int32_t begin = shares.begin(worker);
  const int32_t end = shares.begin(worker + 1);
  JobRange job = job_at(problem, begin);
  DecodeWarp<Pages, kDim> state;
  block.load_queries(state, job);  // before the rows are asked for: they would wait behind them
  if (chosen) wait_for_previous();
  PageAt mine = {0, 0};  // lane i: page i of the block
  if (begin + lane < end) {
    const JobRange of_lane = begin + lane < job.end ? job : job_at(problem, begin + lane);
    mine = page_at(problem, of_lane, begin + lane - of_lane.begin);
  }
  const int chunks = (end - begin) * kChunks;
  const auto request = [&](int turn) {
    const int at = warp + turn * warps;
    if (at >= chunks) return;
    const int64_t page = __shfl_sync(0xffffffffu, static_cast<long long>(mine.page), at / kChunks);
    const int slot = turn % kChunks;
    uint8_t* parameters = Pages::kScaled ? Shared::key_parameters(stage, slot) : nullptr;
    request_chunk<Pages, kDim>(problem, {page, at % kChunks, slot, parameters}, {barriers + slot}, stage, lane);
  };
  for (int turn = 0; turn < kChunks; ++turn) request(turn);

  int turn = 0;
  TESSERA_ROLLED
  for (int32_t segment = begin; segment < end;) {
    if (segment > begin) {
      job = job_at(problem, segment);
      block.load_queries(state, job);
    }
    const int32_t segment_end = job.end < end ? job.end : end;
    state.start_loaded();
    TESSERA_ROLLED
    for (int at = warp + turn * warps; at < (segment_end - begin) * kChunks; at += warps) {
      const int slot = turn % kChunks;
      const PageCopy copy = {barriers + slot};
      const int rows = __shfl_sync(0xffffffffu, mine.rows, at / kChunks) - at % kChunks * 16;
      copy.wait(static_cast<uint32_t>(turn / kChunks & 1));
      if (rows < 16 && rows > 0) clear_rows<Pages, kDim>(stage + Shape::kKeyPage, 16 * slot + rows, slot, lane);
      if (rows > 0) state.attend_chunk(stage, Shared::key_parameters(stage, slot), slot, problem.scale_log2, rows);
      if (rows < 16) copy.release();
      __syncwarp();
      request(turn + kChunks);
      ++turn;
    }
    block.finish(state, shares, job);
    segment = segment_end;
  }
}

}  // namespace

cudaError_t launch_spread(const DecodeProblem& problem, PageFormat format, const Device& device, cudaStream_t stream) {
  return with_pages(format, problem.head_dim, [&]<typename Pages, int kDim>() {
    return launch_blocks<DecodeShared<Pages, kDim, kChunks>>(spread_kernel<Pages, kDim>, problem, device, stream);
  });
}

}  // namespace tessera::attention::cuda
