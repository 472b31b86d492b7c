#include <cub/device/device_scan.cuh>

#include "attention/cuda/line_lists_launch.h"
#include "attention/cuda/team_launch.cuh"

namespace tessera::attention::cuda {
namespace {

// Grid (heads * blocks of a team, tasks).
template <int kBlocks>
__global__ void __launch_bounds__(kSearchThreads) largest_kernel(LargestTask first, LargestTask second) {
  using Team = Block<kSearchThreads, kBlocks>;
  __shared__ LargestShared shared;
  const int64_t head = blockIdx.x / kBlocks;
  LargestTask task = blockIdx.y == 0 ? first : second;
  task.line.values += head * task.line.size;
  task.line.indices += head * task.stride;
  if (task.count != nullptr && threadIdx.x == 0) task.count[head] = task.line.count;
  write_largest(Team{}, task.line, shared);
  if (task.bits == nullptr) return;
  write_bits(Team{}, {task.line.indices, task.line.count, task.words, task.bits + head * task.words,
                      task.summary + head * ((task.words + 31) / 32)});
}

// Grid (heads).
__global__ void __launch_bounds__(kSearchThreads) bands_kernel(BandArguments line, int64_t stride) {
  __shared__ BandShared shared;
  const int64_t head = blockIdx.x;
  line.distances += head * line.count;
  line.bands += head * stride;
  line.band_count += head;
  write_bands(SearchBlock{}, line, shared);
}

// A thread per bit, a warp per word.
__global__ void flags_kernel(TileRule rule, uint32_t* flags) {
  const auto bit = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  const int32_t words = rule.flag_words();
  const bool flag = bit < words * 32 && rule_of_head(rule, blockIdx.y).flag(bit);
  const uint32_t bits = __ballot_sync(0xffffffffu, flag);
  if (bit % 32 == 0 && bit < words * 32) flags[int64_t{blockIdx.y} * words + bit / 32] = bits;
}

struct ListTarget {
  int32_t first_tile = 0;          // query tile of the first list
  const int32_t* begin = nullptr;  // null: count only
  int32_t* counts = nullptr;
  uint32_t* tiles = nullptr;
  int64_t capacity = 0;
  uint32_t* overflow = nullptr;
};

constexpr int kListsPerBlock = 4;  // each a warp's

// Grid (lists of a head / kListsPerBlock, heads), blocks (kLineThreads, kListsPerBlock).
__global__ void __launch_bounds__(kLineThreads* kListsPerBlock)
    tiles_kernel(TileRule rule, const uint32_t* flags, int64_t pitch, ListTarget target) {
  __shared__ TileListShared all[kListsPerBlock];
  TileListShared& shared = all[threadIdx.y];
  const auto tile = target.first_tile + static_cast<int32_t>(blockIdx.x * kListsPerBlock + threadIdx.y);
  if (tile >= rule.query_tiles()) return;
  const int64_t head = blockIdx.y;
  const int64_t list = head * pitch + tile;
  rule = rule_of_head(rule, head);
  if (flags != nullptr) flags += head * rule.flag_words();
  if (target.begin == nullptr) {
    const uint32_t count = write_tiles(LineBlock{}, rule, tile, nullptr, shared, flags);
    if (threadIdx.x == 0) target.counts[list] = static_cast<int32_t>(count);
    return;
  }
  if (target.begin[list + 1] > target.capacity) {
    if (threadIdx.x == 0) *target.overflow = 1;
    return;
  }
  write_tiles(LineBlock{}, rule, tile, target.tiles + target.begin[list], shared, flags);
}

// Of the lists of some heads, from target.first_tile on.
void launch_tiles(const TileRule& rule, const LineListArguments& arguments, const LineLists& lists,
                  const ListTarget& target, cudaStream_t stream) {
  const int32_t query_tiles = line_query_tiles(rule);
  if (target.first_tile >= query_tiles) return;
  const dim3 grid(static_cast<unsigned>(query_tiles - target.first_tile + kListsPerBlock - 1) / kListsPerBlock,
                  static_cast<unsigned>(arguments.heads));
  tiles_kernel<<<grid, dim3(kLineThreads, kListsPerBlock), 0, stream>>>(
      rule, list_flags(rule, lists), lists.list_pitch > 0 ? lists.list_pitch : query_tiles, target);
}

__global__ void range_kernel(LineLists lists, int32_t first, int32_t count) {
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += static_cast<int32_t>(blockDim.x)) {
    lists.columns[int64_t{blockIdx.x} * lists.column_stride + i] = first + i;
  }
  if (threadIdx.x == 0) lists.column_count[blockIdx.x] = count;
}

// Grid (lists of a head / 128, heads), a thread per list: how many columns it uses, and, with flags, how many tiles
// when its query tile is full.
__global__ void count_kernel(TileRule rule, const uint32_t* flags, int64_t pitch, LineLists lists) {
  const auto tile = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (tile >= rule.query_tiles()) return;
  const int64_t head = blockIdx.y;
  const int64_t list = head * pitch + tile;
  if (lists.column_cut != nullptr) {
    lists.column_cut[list] =
        column_cut(rule, tile, lists.columns + head * lists.column_stride, lists.column_count[head]);
  }
  if (flags == nullptr || tile >= rule.full_tiles()) return;
  lists.counts[list] = count_tiles(rule_of_head(rule, head), tile, flags + head * rule.flag_words());
}

__global__ void band_cut_kernel(TileRule rule, int32_t query_tiles, int64_t pitch, LineLists lists) {
  const auto tile = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (tile >= query_tiles) return;
  const int64_t head = blockIdx.y;
  lists.band_cut[head * pitch + tile] = band_cut(rule.first_position + tile * rule.query_tile,
                                                 lists.bands + head * lists.band_stride, lists.band_count[head]);
}

// Lists that did not fit end where the room ends.
__global__ void clamp_kernel(int32_t* begin, int64_t count, int64_t capacity) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count && begin[i] > capacity) begin[i] = static_cast<int32_t>(capacity);
}

}  // namespace

int32_t line_query_tiles(const TileRule& rule) { return rule.query_tiles(); }

std::size_t line_scan_bytes(int64_t lists) {
  std::size_t bytes = 0;
  const int32_t* none = nullptr;
  cub::DeviceScan::ExclusiveSum(nullptr, bytes, none, static_cast<int32_t*>(nullptr), static_cast<int>(lists));
  return bytes;
}

LineTasks line_tasks(const LineListArguments& arguments, const LineLists& lists) {
  const TileRule& rule = arguments.rule;
  const int32_t words = (rule.key_rows + 31) / 32;
  const auto kept = [&](int32_t count) { return count < rule.key_rows ? count : rule.key_rows; };
  const uint32_t window = order_key(4.0F / static_cast<float>(rule.key_rows));  // a sixteenth of the mean of 64 rows
  LineTasks tasks;
  if (arguments.column_mass != nullptr) {
    tasks.largest[tasks.count++] = {.line = {arguments.column_mass, rule.key_rows, arguments.forced_columns,
                                             kept(arguments.columns_kept), lists.columns, window},
                                    .stride = lists.column_stride,
                                    .count = lists.column_count};
  }
  if (arguments.diagonal_mass != nullptr) {
    const int32_t count = kept(arguments.diagonals_kept);
    tasks.largest[tasks.count++] = {
        .line = {arguments.diagonal_mass, rule.key_rows, arguments.forced_diagonals, count, lists.distances, window},
        .stride = count};
    if (lists.band_stride == 0) {
      LargestTask& task = tasks.largest[tasks.count - 1];
      task.words = words;
      task.bits = lists.distance_bits;
      task.summary = lists.distance_bits + int64_t{arguments.heads} * words;
    }
  }
  return tasks;
}

TileRule line_rule(const LineListArguments& arguments, const LineLists& lists) {
  TileRule rule = arguments.rule;
  rule.distances = nullptr;
  if (arguments.diagonal_mass != nullptr && lists.band_stride == 0) {
    rule.distances = lists.distance_bits;
    rule.summary = lists.distance_bits + int64_t{arguments.heads} * ((rule.key_rows + 31) / 32);
  }
  return rule;
}

int count_line_lists(const LineListArguments& arguments, const LineLists& lists, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  const TileRule rule = line_rule(arguments, lists);
  const int32_t query_tiles = line_query_tiles(rule);
  const int64_t pitch = lists.list_pitch > 0 ? lists.list_pitch : query_tiles;
  const auto heads = static_cast<unsigned>(arguments.heads);
  if (arguments.heads <= 0 || query_tiles <= 0) return cudaSuccess;
  const LineTasks tasks = line_tasks(arguments, lists);
  if (arguments.column_mass == nullptr && arguments.first_column >= 0 && lists.column_stride > 0) {
    range_kernel<<<heads, 128, 0, stream>>>(lists, arguments.first_column, arguments.columns_kept);
  }
  if (tasks.count > 0) {
    const TeamLaunch launch{arguments.heads, tasks.count, stream};
    const auto status = launch_team(
        launch, [](auto blocks) { return largest_kernel<blocks()>; }, tasks.largest[0], tasks.largest[tasks.count - 1]);
    if (status != cudaSuccess) return status;
  }
  const dim3 list_grid(static_cast<unsigned>(query_tiles + 127) / 128, heads);
  LineLists counted = lists;
  if (!has_columns(arguments) || lists.column_stride == 0) counted.column_cut = nullptr;
  if (lists.band_stride > 0) {
    bands_kernel<<<heads, kSearchThreads, 0, stream>>>(band_arguments(arguments, lists, 0), lists.band_stride);
    count_kernel<<<list_grid, 128, 0, stream>>>(rule, nullptr, pitch, counted);
    band_cut_kernel<<<list_grid, 128, 0, stream>>>(rule, query_tiles, pitch, lists);
    return cudaGetLastError();
  }
  uint32_t* const flags = list_flags(rule, lists);
  if (flags != nullptr) {
    const dim3 flag_grid(static_cast<unsigned>(rule.flag_words() + 7) / 8, heads);
    flags_kernel<<<flag_grid, 256, 0, stream>>>(rule, flags);
  }
  count_kernel<<<list_grid, 128, 0, stream>>>(rule, flags, pitch, counted);
  launch_tiles(rule, arguments, lists, {.first_tile = flags != nullptr ? rule.full_tiles() : 0, .counts = lists.counts},
               stream);
  return cudaGetLastError();
}

int write_line_lists(const LineListArguments& arguments, const LineLists& lists, void* stream) {
  const TileRule rule = line_rule(arguments, lists);
  if (arguments.heads <= 0 || line_query_tiles(rule) <= 0) return cudaSuccess;
  const ListTarget target{.begin = lists.tile_begin,
                          .counts = lists.counts,
                          .tiles = lists.tiles,
                          .capacity = lists.tile_capacity,
                          .overflow = lists.overflow};
  launch_tiles(rule, arguments, lists, target, static_cast<cudaStream_t>(stream));
  return cudaGetLastError();
}

int begin_lists(const LineLists& lists, int64_t count, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  cudaMemsetAsync(lists.overflow, 0, sizeof(uint32_t), stream);
  cudaMemsetAsync(lists.counts + count, 0, sizeof(int32_t), stream);
  std::size_t bytes = lists.scan_bytes;
  return cub::DeviceScan::ExclusiveSum(lists.scan, bytes, lists.counts, lists.tile_begin, static_cast<int>(count + 1),
                                       stream);
}

int end_lists(const LineLists& lists, int64_t count, void* stream) {
  clamp_kernel<<<static_cast<unsigned>((count + 256) / 256), 256, 0, static_cast<cudaStream_t>(stream)>>>(
      lists.tile_begin, count + 1, lists.tile_capacity);
  return cudaGetLastError();
}

int build_line_lists(const LineListArguments& arguments, const LineLists& lists, void* stream) {
  const int64_t all = int64_t{arguments.heads} * line_query_tiles(arguments.rule);
  if (all <= 0) return cudaSuccess;
  int status = count_line_lists(arguments, lists, stream);
  if (status == cudaSuccess) status = begin_lists(lists, all, stream);
  if (status == cudaSuccess) status = write_line_lists(arguments, lists, stream);
  return status == cudaSuccess ? end_lists(lists, all, stream) : status;
}

}  // namespace tessera::attention::cuda
