// Vertical-slash lists on the GPU against the same kernel bodies run on the host, and their time inside a graph.
//
//   nvcc -std=c++20 -O2 -Isrc -gencode=arch=compute_90a,code=sm_90a tools/gpu/line_lists_check.cu \
//        src/attention/cuda/line_lists.cu -o line_lists_check && ./line_lists_check
//
// Prints one JSON object per size; exit status 1 when a list differs. Seeds are fixed.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "attention/cuda/line_lists_launch.h"

namespace {

using namespace tessera::attention::cuda;

void must(int status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(status)));
  std::exit(1);
}

template <typename T>
T* device(std::size_t count) {
  void* data = nullptr;
  must(cudaMalloc(&data, count * sizeof(T)), "allocation");
  return static_cast<T*>(data);
}

template <typename T>
std::vector<T> host(const T* data, std::size_t count) {
  std::vector<T> copy(count);
  must(cudaMemcpy(copy.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost), "copy");
  return copy;
}

// Heavy-tailed with many ties, as softmax masses are.
std::vector<float> masses(std::size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& x : values) x = std::exp(std::floor(8 * normal(random)) / 4);
  return values;
}

struct Expected {
  std::vector<int32_t> columns;
  std::vector<int32_t> begin = {0};
  std::vector<uint32_t> tiles;
};

Expected on_host(const LineListArguments& arguments, const std::vector<float>& columns,
                 const std::vector<float>& diagonals) {
  Expected expected;
  TileRule rule = arguments.rule;
  const auto rows = static_cast<std::size_t>(rule.key_rows);
  const int32_t words = (rule.key_rows + 31) / 32;
  const int32_t columns_kept = std::min(arguments.columns_kept, rule.key_rows);
  const int32_t diagonals_kept = std::min(arguments.diagonals_kept, rule.key_rows);
  for (int32_t head = 0; head < arguments.heads; ++head) {
    LargestShared largest;
    const std::size_t first = expected.columns.size();
    expected.columns.resize(first + static_cast<std::size_t>(columns_kept));
    write_largest({},
                  {columns.data() + head * rows, rule.key_rows, arguments.forced_columns, columns_kept,
                   expected.columns.data() + first},
                  largest);
    std::vector<int32_t> distances(static_cast<std::size_t>(diagonals_kept));
    write_largest(
        {},
        {diagonals.data() + head * rows, rule.key_rows, arguments.forced_diagonals, diagonals_kept, distances.data()},
        largest);
    std::vector<uint32_t> bits(static_cast<std::size_t>(words));
    write_bits({}, {distances.data(), diagonals_kept, words, bits.data()});
    rule.distances = bits.data();
    for (int32_t tile = 0; tile < line_query_tiles(rule); ++tile) {
      TileListShared shared;
      const std::size_t at = expected.tiles.size();
      expected.tiles.resize(at + write_tiles({}, rule, tile, nullptr, shared));
      write_tiles({}, rule, tile, expected.tiles.data() + at, shared);
      expected.begin.push_back(static_cast<int32_t>(expected.tiles.size()));
    }
  }
  return expected;
}

// Milliseconds of one replay, median of nine.
float replay(cudaGraphExec_t graph, cudaStream_t stream) {
  std::vector<float> times;
  cudaEvent_t start;
  cudaEvent_t stop;
  must(cudaEventCreate(&start), "event");
  must(cudaEventCreate(&stop), "event");
  for (int i = 0; i < 9; ++i) {
    must(cudaEventRecord(start, stream), "record");
    must(cudaGraphLaunch(graph, stream), "graph launch");
    must(cudaEventRecord(stop, stream), "record");
    must(cudaEventSynchronize(stop), "run");
    float time = 0;
    must(cudaEventElapsedTime(&time, start, stop), "time");
    times.push_back(time);
  }
  std::sort(times.begin(), times.end());
  return times[4];
}

bool check(int32_t query_rows, int32_t key_rows, int32_t heads, int32_t key_tile) {
  LineListArguments arguments{.heads = heads};
  arguments.rule = {
      .query_rows = query_rows, .key_rows = key_rows, .first_position = key_rows - query_rows, .key_tile = key_tile};
  const auto rows = static_cast<std::size_t>(key_rows) * static_cast<std::size_t>(heads);
  const std::vector<float> columns = masses(rows, 11);
  const std::vector<float> diagonals = masses(rows, 12);
  const Expected expected = on_host(arguments, columns, diagonals);

  auto* column_mass = device<float>(rows);
  auto* diagonal_mass = device<float>(rows);
  must(cudaMemcpy(column_mass, columns.data(), rows * sizeof(float), cudaMemcpyHostToDevice), "copy");
  must(cudaMemcpy(diagonal_mass, diagonals.data(), rows * sizeof(float), cudaMemcpyHostToDevice), "copy");
  arguments.column_mass = column_mass;
  arguments.diagonal_mass = diagonal_mass;
  const std::size_t all = static_cast<std::size_t>(heads) * static_cast<std::size_t>(line_query_tiles(arguments.rule));
  const auto head_count = static_cast<std::size_t>(heads);
  LineLists lists{.column_stride = 1024, .tile_capacity = static_cast<int64_t>(expected.tiles.size())};
  lists.columns = device<int32_t>(head_count * 1024);
  lists.column_count = device<int32_t>(head_count);
  lists.column_cut = device<int32_t>(all);
  lists.distances = device<int32_t>(head_count * 6096);
  lists.distance_bits = device<uint32_t>(head_count * static_cast<std::size_t>(distance_words(key_rows)));
  lists.flags = device<uint32_t>(head_count * static_cast<std::size_t>(arguments.rule.flag_words()));
  lists.counts = device<int32_t>(all + 1);
  lists.tile_begin = device<int32_t>(all + 1);
  lists.tiles = device<uint32_t>(expected.tiles.size());
  lists.overflow = device<uint32_t>(1);
  lists.scan_bytes = line_scan_bytes(static_cast<int64_t>(all) + 1);
  lists.scan = device<char>(lists.scan_bytes);

  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  must(cudaStreamCreate(&stream), "stream");
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  must(build_line_lists(arguments, lists, stream), "lists");
  must(cudaStreamEndCapture(stream, &graph), "capture");
  must(cudaGraphInstantiate(&executable, graph, 0), "graph");
  const float time = replay(executable, stream);

  const bool begins = host(lists.tile_begin, all + 1) == expected.begin;
  const bool tiles = begins && host(lists.tiles, expected.tiles.size()) == expected.tiles;
  const std::vector<int32_t> got = host(lists.columns, head_count * 1024);
  const std::size_t kept = expected.columns.size() / head_count;
  bool same_columns = true;
  for (std::size_t head = 0; head < head_count; ++head) {
    same_columns = same_columns && std::equal(got.begin() + static_cast<std::ptrdiff_t>(head * 1024),
                                              got.begin() + static_cast<std::ptrdiff_t>(head * 1024 + kept),
                                              expected.columns.begin() + static_cast<std::ptrdiff_t>(head * kept));
  }
  const bool fits = host(lists.overflow, 1)[0] == 0;
  std::printf(
      "{\"query_rows\": %d, \"key_rows\": %d, \"heads\": %d, \"key_tile\": %d, \"tiles\": %zu, "
      "\"bytes\": %lld, \"median_ms\": %.4f, \"columns\": %d, \"begins\": %d, \"lists\": %d, \"fits\": %d}\n",
      query_rows, key_rows, heads, key_tile, expected.tiles.size(),
      static_cast<long long>(line_list_bytes(arguments, 1024, lists.tile_capacity)), time, same_columns, begins, tiles,
      fits);
  for (void* data :
       {static_cast<void*>(column_mass), static_cast<void*>(diagonal_mass), static_cast<void*>(lists.columns),
        static_cast<void*>(lists.column_count), static_cast<void*>(lists.column_cut),
        static_cast<void*>(lists.distances), static_cast<void*>(lists.distance_bits), static_cast<void*>(lists.flags),
        static_cast<void*>(lists.counts), static_cast<void*>(lists.tile_begin), static_cast<void*>(lists.tiles),
        static_cast<void*>(lists.overflow), lists.scan}) {
    cudaFree(data);
  }
  return same_columns && tiles && fits;
}

}  // namespace

int main() {
  bool good = check(1000, 1000, 2, 128);
  good = check(333, 5001, 3, 64) && good;
  good = check(32768, 32768, 8, 128) && good;
  good = check(32768, 32768, 8, 64) && good;
  good = check(131072, 131072, 2, 128) && good;
  return good ? 0 : 1;
}
