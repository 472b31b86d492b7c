// What the GPU check programs share: device memory, inputs, the fp64 reference.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "attention/cuda/problem.h"
#include "tessera/attention/cuda.h"

namespace check {

namespace cuda = tessera::attention::cuda;

inline void must(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
  std::exit(3);
}

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    must(cudaMalloc(&data_, std::max<size_t>(count, 1) * sizeof(T)), "allocation");
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    must(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "copy to the device");
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  T* data() { return data_; }
  size_t size() const { return count_; }
  // NaN in every floating-point format.
  void poison() { must(cudaMemset(data_, 0xff, count_ * sizeof(T)), "poisoning"); }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    must(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost), "copy from the device");
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

// 16-bit numbers as their bits, so that one code path serves both formats.
inline uint16_t encode(float value, bool half_precision) {
  if (half_precision) return __half_as_ushort(__float2half(value));
  return __bfloat16_as_ushort(__float2bfloat16(value));
}
inline float decode(uint16_t bits, bool half_precision) {
  if (half_precision) return __half2float(__ushort_as_half(bits));
  return __bfloat162float(__ushort_as_bfloat16(bits));
}

inline std::vector<uint16_t> random_elements(size_t count, uint64_t seed, bool half_precision) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> bits(count);
  for (uint16_t& x : bits) x = encode(normal(random), half_precision);
  return bits;
}

// ||found - wanted|| / ||wanted||; infinite as soon as one number found is not finite.
inline double relative_error(const std::vector<float>& found, const std::vector<double>& wanted) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (!std::isfinite(found[i])) return std::numeric_limits<double>::infinity();
    difference += (found[i] - wanted[i]) * (found[i] - wanted[i]);
    norm += wanted[i] * wanted[i];
  }
  return std::sqrt(difference / std::max(norm, 1e-300));
}

template <typename Body>
void parallel_for(int64_t count, const Body& body) {
  int64_t threads = std::min<int64_t>(count, std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::thread> pool;
  for (int64_t t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      for (int64_t i = t; i < count; i += threads) body(i);
    });
  }
  for (std::thread& thread : pool) thread.join();
}

}  // namespace check
