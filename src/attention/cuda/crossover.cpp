// Where choosing begins to pay: the rule, and its measurement on the current device.
#include <algorithm>
#include <cmath>
#include <string>

#include "attention/cuda/status.h"
#include "tessera/attention/cuda_select.h"

namespace tessera::attention::cuda {
namespace {

constexpr double kSelectionShare = 0.1;
constexpr int32_t kFirstRows = 2048;
constexpr int32_t kLastRows = 65536;
constexpr int kRepeats = 5;

double share_of(const CrossoverTime& time) { return time.choosing_ms / std::max(time.dense_ms, 1e-6); }

// Device memory of one measurement.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes) { check_cuda(cudaMalloc(&data_, std::max<std::size_t>(bytes, 1)), "allocating"); }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

class Event {
 public:
  Event() { check_cuda(cudaEventCreate(&event_), "creating an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Median of a few runs after one that is not counted.
template <typename Work>
double median_ms(const Work& work) {
  const Event begin;
  const Event end;
  std::vector<float> times;
  for (int repeat = 0; repeat <= kRepeats; ++repeat) {
    check_cuda(cudaEventRecord(begin.get()), "recording an event");
    work();
    check_cuda(cudaEventRecord(end.get()), "recording an event");
    check_cuda(cudaEventSynchronize(end.get()), "timing");
    float time = 0;
    check_cuda(cudaEventElapsedTime(&time, begin.get(), end.get()), "timing");
    if (repeat > 0) times.push_back(time);
  }
  std::nth_element(times.begin(), times.begin() + kRepeats / 2, times.end());
  return times[kRepeats / 2];
}

// Rows of noise. Values of one megabyte repeat: times do not depend on them, but equal masses would meet in one counter
// of the search.
void fill_with_noise(void* data, int64_t elements, ElementType type) {
  std::vector<uint16_t> noise(static_cast<size_t>(std::min<int64_t>(elements, 1 << 19)));
  uint32_t state = 1;
  for (uint16_t& bits : noise) {
    state = state * 1664525U + 1013904223U;
    const uint32_t sign = state >> 31 << 15;
    // 2^-3 .. 2 in magnitude, in either format.
    const uint32_t exponent = state >> 20 & 3U;
    bits = static_cast<uint16_t>(type == ElementType::bf16 ? sign | (124U + exponent) << 7 | (state >> 8 & 0x7fU)
                                                           : sign | (12U + exponent) << 10 | (state >> 8 & 0x3ffU));
  }
  for (int64_t at = 0; at < elements; at += static_cast<int64_t>(noise.size())) {
    const auto count = std::min<int64_t>(static_cast<int64_t>(noise.size()), elements - at);
    check_cuda(cudaMemcpy(static_cast<uint16_t*>(data) + at, noise.data(), static_cast<size_t>(count) * 2,
                          cudaMemcpyHostToDevice),
               "copying");
  }
}

CrossoverTime measure(const CrossoverShape& shape, int32_t rows) {
  const int64_t queries = int64_t{rows} * shape.query_heads * shape.head_dim;
  const int64_t keys = int64_t{rows} * shape.kv_heads * shape.head_dim;
  const Buffer q(static_cast<size_t>(queries) * 2);
  const Buffer k(static_cast<size_t>(keys) * 2);
  const Buffer out(static_cast<size_t>(queries) * 2);
  const Buffer lse(static_cast<size_t>(rows) * static_cast<size_t>(shape.query_heads) * sizeof(float));
  fill_with_noise(q.data(), queries, shape.type);
  fill_with_noise(k.data(), keys, shape.type);
  int device = 0;
  check_cuda(cudaGetDevice(&device), "looking for a GPU");
  AttentionArguments arguments;
  arguments.queries = contiguous_view(q.data(), shape.type, {rows, shape.query_heads, shape.head_dim}, device);
  arguments.keys = contiguous_view(k.data(), shape.type, {rows, shape.kv_heads, shape.head_dim}, device);
  arguments.values = arguments.keys;
  arguments.out = contiguous_view(out.data(), shape.type, {rows, shape.query_heads, shape.head_dim}, device);
  arguments.lse = contiguous_view(lse.data(), ElementType::f32, {rows, shape.query_heads}, device);
  arguments.sequences = {{0, rows, 0, rows, 0}};
  const SelectOptions options{.method = Method::recall};
  const std::size_t bytes = std::max(list_bytes(arguments, options), workspace_bytes(arguments));
  const Buffer scratch(bytes);
  const Launch launch{.data = scratch.data(), .bytes = bytes};
  CrossoverTime time{.rows = rows};
  time.choosing_ms = median_ms([&] { select(arguments, options, launch); });
  time.dense_ms = median_ms([&] { attend_dense(arguments, launch); });
  return time;
}

}  // namespace

int32_t crossover_from(const std::vector<CrossoverTime>& times) {
  if (times.empty()) throw Error(ErrorCode::invalid_argument, "CUDA selection: no times to find a crossover from");
  for (size_t i = 0; i < times.size(); ++i) {
    const double share = share_of(times[i]);
    if (share > kSelectionShare) continue;
    if (i == 0) return times[0].rows;
    const double before = share_of(times[i - 1]);
    // share = c rows^-p between the two lengths.
    const double part = std::log(before / kSelectionShare) / std::log(before / std::max(share, 1e-9));
    const double ratio = static_cast<double>(times[i].rows) / times[i - 1].rows;
    const double rows = times[i - 1].rows * std::pow(ratio, part);
    const auto tiles = static_cast<int32_t>(std::ceil(rows / kQueryTile - 1e-6));  // what rounding adds is no tile
    return std::min(times[i].rows, tiles * kQueryTile);
  }
  return times.back().rows;
}

int32_t measure_crossover(const CrossoverShape& shape) {
  if (shape.query_heads < 1 || shape.kv_heads < 1) {
    throw Error(ErrorCode::invalid_argument, "CUDA selection: heads must be >= 1, found " +
                                                 std::to_string(shape.query_heads) + " and " +
                                                 std::to_string(shape.kv_heads));
  }
  kernel_for(compute_capability());
  std::vector<CrossoverTime> times;
  for (int32_t rows = kFirstRows; rows <= kLastRows; rows *= 2) {
    times.push_back(measure(shape, rows));
    if (share_of(times.back()) <= kSelectionShare) break;
  }
  return crossover_from(times);
}

}  // namespace tessera::attention::cuda
