// The lowest rungs of the GPU check: one instruction or one mechanism each, so that the first failure names the cause.
//
//   ladder_units RUNG     tma | scores | values | registers | pipeline | turns
//
// Prints one line of JSON; exit status 1 when numbers differ.
#include <string>

#include "attention/cuda/hopper_maps.h"
#include "attention/cuda/layout.h"
#include "attention/cuda/ptx.cuh"
#include "attention/cuda/tensor_map.h"
#include "attention/cuda/wgmma.cuh"
#include "gpu/support.h"

namespace {

using namespace tessera::attention::cuda;
using check::DeviceArray;
using check::must;

constexpr int kRows = 128;
constexpr int kChannels = 128;
constexpr int kBytes = kRows * kChannels * 2;

__device__ unsigned char* aligned_shared() {
  extern __shared__ unsigned char raw[];
  return reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(raw) + 1023) & ~uintptr_t{1023});
}

// ---- tma: one tile by the copy engine, read back through swizzled_offset().

__global__ void tma_kernel(const __grid_constant__ CUtensorMap map, int head, int first_row, uint16_t* out) {
  unsigned char* tile = aligned_shared();
  __shared__ alignas(8) uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::fence_barrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect(&barrier, kBytes);
    for (int box = 0; box < 2; ++box) {
      ptx::tma_load_3d(tile + box * kRows * kBoxRowBytes, &map, &barrier, box * kBoxChannels, head, first_row);
    }
  }
  ptx::mbarrier_wait(&barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kChannels; i += static_cast<int>(blockDim.x)) {
    out[i] = *reinterpret_cast<uint16_t*>(tile + swizzled_offset(kRows, i / kChannels, i % kChannels));
  }
}

int run_tma() {
  constexpr int kTensorRows = 300;
  constexpr int kHeads = 3;
  constexpr int kFirst = 200;  // 28 of the 128 rows lie outside and must arrive as zeros
  std::vector<uint16_t> input = check::random_elements(kTensorRows * kHeads * kChannels, 1, false);
  DeviceArray<uint16_t> source(input);
  DeviceArray<uint16_t> out(kRows * kChannels);
  out.poison();
  CUtensorMap map = encode_tensor_map({.data = source.data(),
                                       .rows = kTensorRows,
                                       .heads = kHeads,
                                       .head_dim = kChannels,
                                       .row_stride = kHeads * kChannels,
                                       .head_stride = kChannels,
                                       .box_rows = kRows});
  must(cudaFuncSetAttribute(tma_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes + 1024), "shared memory");
  tma_kernel<<<1, 128, kBytes + 1024>>>(map, 1, kFirst, out.data());
  must(cudaDeviceSynchronize(), "tma");
  std::vector<uint16_t> found = out.host();
  int wrong = 0;
  for (int i = 0; i < kRows * kChannels; ++i) {
    int row = kFirst + i / kChannels;
    uint16_t wanted =
        row < kTensorRows ? input[static_cast<size_t>((row * kHeads + 1) * kChannels + i % kChannels)] : 0;
    if (found[static_cast<size_t>(i)] != wanted && wrong++ < 4) {
      std::printf("# row %d channel %d: found %04x, wanted %04x\n", i / kChannels, i % kChannels,
                  found[static_cast<size_t>(i)], wanted);
    }
  }
  std::printf("{\"rung\": \"tma\", \"wrong\": %d}\n", wrong);
  return wrong != 0;
}

// ---- scores, values, registers: one product of 64 x 128 by 128 x 128, operands placed by ordinary stores.

enum class Product { scores, values, registers };

template <Product kProduct>
__global__ void product_kernel(const uint16_t* a, const uint16_t* b, float* out) {
  unsigned char* a_tile = aligned_shared();
  unsigned char* b_tile = a_tile + 64 * kChannels * 2;
  int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < 64 * kChannels; i += 128) {
    *reinterpret_cast<uint16_t*>(a_tile + swizzled_offset(64, i / kChannels, i % kChannels)) = a[i];
  }
  for (int i = thread; i < kRows * kChannels; i += 128) {
    *reinterpret_cast<uint16_t*>(b_tile + swizzled_offset(kRows, i / kChannels, i % kChannels)) = b[i];
  }
  ptx::fence_proxy_async();
  __syncthreads();
  uint32_t a_address = ptx::shared_address(a_tile);
  uint32_t b_address = ptx::shared_address(b_tile);
  float sums[64];
  uint32_t weights[32];
  for (int i = 0; i < 32; ++i) {
    int row = operand_row(thread, i % 4);
    int column = operand_column(thread, i / 4, i % 4);
    weights[i] = a[row * kChannels + column] | static_cast<uint32_t>(a[row * kChannels + column + 1]) << 16;
  }
  ptx::keep_registers(weights);
  ptx::wgmma_fence();
#pragma unroll
  for (int step = 0; step < 8; ++step) {
    uint64_t a_descriptor = row_operand_descriptor(a_address + row_operand_step(64, step));
    uint64_t b_rows = row_operand_descriptor(b_address + row_operand_step(kRows, step));
    uint64_t b_columns = column_operand_descriptor(b_address + column_operand_step(step), kRows);
    if constexpr (kProduct == Product::scores) {
      Wgmma<__nv_bfloat16, 128>::shared<0>(sums, a_descriptor, b_rows, step > 0);
    } else if constexpr (kProduct == Product::values) {
      Wgmma<__nv_bfloat16, 128>::shared<1>(sums, a_descriptor, b_columns, step > 0);
    } else {
      Wgmma<__nv_bfloat16, 128>::registers<1>(sums, weights + 4 * step, b_columns, step > 0);
    }
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::keep_registers(sums);
#pragma unroll
  for (int i = 0; i < 64; ++i) out[accumulator_row(thread, i) * 128 + accumulator_column(thread, i)] = sums[i];
}

template <Product kProduct>
int run_product(const char* name) {
  std::vector<uint16_t> a_host = check::random_elements(64 * kChannels, 2, false);
  std::vector<uint16_t> b_host = check::random_elements(kRows * kChannels, 3, false);
  DeviceArray<uint16_t> a(a_host);
  DeviceArray<uint16_t> b(b_host);
  DeviceArray<float> out(64 * 128);
  out.poison();
  constexpr int kShared = kBytes + 64 * kChannels * 2 + 1024;
  must(cudaFuncSetAttribute(product_kernel<kProduct>, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), "shared");
  product_kernel<kProduct><<<1, 128, kShared>>>(a.data(), b.data(), out.data());
  must(cudaDeviceSynchronize(), name);
  std::vector<float> found = out.host();
  std::vector<double> wanted(64 * 128);
  for (int m = 0; m < 64; ++m) {
    for (int n = 0; n < 128; ++n) {
      double sum = 0;
      for (int k = 0; k < 128; ++k) {
        int at = kProduct == Product::scores ? n * kChannels + k : k * kChannels + n;
        sum += double{check::decode(a_host[static_cast<size_t>(m * kChannels + k)], false)} *
               check::decode(b_host[static_cast<size_t>(at)], false);
      }
      wanted[static_cast<size_t>(m * 128 + n)] = sum;
    }
  }
  double error = check::relative_error(found, wanted);
  bool good = error < 1e-5;
  if (!good) {
    for (int i : {0, 1, 8, 64, 128, 8 * 128, 16 * 128 + 5}) {
      std::printf("# row %d column %d: found %g, wanted %g\n", i / 128, i % 128, found[static_cast<size_t>(i)],
                  wanted[static_cast<size_t>(i)]);
    }
  }
  std::printf("{\"rung\": \"%s\", \"relative_error\": %.3g}\n", name, error);
  return !good;
}

// ---- pipeline: a producer thread, register budgets, a two-stage ring; two warpgroups add up what arrives.

struct PipelineBarriers {
  uint64_t full[2];
  uint64_t empty[2];
};

__global__ void __launch_bounds__(384, 1)
    pipeline_kernel(const __grid_constant__ CUtensorMap map, int tiles, float* sums) {
  unsigned char* stages = aligned_shared();
  __shared__ PipelineBarriers barriers;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      ptx::mbarrier_init(&barriers.full[i], 1);
      ptx::mbarrier_init(&barriers.empty[i], 8);
    }
    ptx::fence_barrier_init();
  }
  __syncthreads();
  if (__shfl_sync(0xffffffffu, threadIdx.x / 128, 0) == 0) {
    ptx::register_decrease<40>();
    if (threadIdx.x != 0) return;
    for (int t = 0; t < tiles; ++t) {
      ptx::mbarrier_wait(&barriers.empty[t % 2], (static_cast<uint32_t>(t) / 2 & 1) ^ 1);
      ptx::mbarrier_arrive_expect(&barriers.full[t % 2], kBytes);
      for (int box = 0; box < 2; ++box) {
        ptx::tma_load_3d(stages + t % 2 * kBytes + box * kRows * kBoxRowBytes, &map, &barriers.full[t % 2],
                         box * kBoxChannels, 0, t * kRows);
      }
    }
  } else {
    ptx::register_increase<232>();
    int thread = static_cast<int>(threadIdx.x) - 128;
    float sum = 0;
    for (int t = 0; t < tiles; ++t) {
      ptx::mbarrier_wait(&barriers.full[t % 2], static_cast<uint32_t>(t) / 2 & 1);
      for (int row = thread / 128; row < kRows; row += 2) {
        auto* element =
            reinterpret_cast<__nv_bfloat16*>(stages + t % 2 * kBytes + swizzled_offset(kRows, row, thread % 128));
        sum += __bfloat162float(*element) * static_cast<float>(t + 1);
      }
      __syncwarp();
      if (thread % 32 == 0) ptx::mbarrier_arrive(&barriers.empty[t % 2]);
    }
    sums[thread] = sum;
  }
}

int run_pipeline() {
  constexpr int kTiles = 9;
  std::vector<uint16_t> input = check::random_elements(kTiles * kRows * kChannels, 4, false);
  DeviceArray<uint16_t> source(input);
  DeviceArray<float> out(256);
  out.poison();
  CUtensorMap map = encode_tensor_map({.data = source.data(),
                                       .rows = kTiles * kRows,
                                       .heads = 1,
                                       .head_dim = kChannels,
                                       .row_stride = kChannels,
                                       .head_stride = kChannels,
                                       .box_rows = kRows});
  must(cudaFuncSetAttribute(pipeline_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 2 * kBytes + 1024), "shared");
  pipeline_kernel<<<1, 384, 2 * kBytes + 1024>>>(map, kTiles, out.data());
  must(cudaDeviceSynchronize(), "pipeline");
  std::vector<double> wanted(256, 0.0);
  for (int t = 0; t < kTiles; ++t) {
    for (int row = 0; row < kRows; ++row) {
      for (int c = 0; c < kChannels; ++c) {
        wanted[static_cast<size_t>(row % 2 * 128 + c)] +=
            (t + 1) * double{check::decode(input[static_cast<size_t>((t * kRows + row) * kChannels + c)], false)};
      }
    }
  }
  double error = check::relative_error(out.host(), wanted);
  std::printf("{\"rung\": \"pipeline\", \"relative_error\": %.3g}\n", error);
  return !(error < 1e-5);
}

// ---- turns: two warpgroups alternate through named barriers; each writes the order in which it came.

__global__ void turns_kernel(int rounds, int* order) {
  __shared__ int counter;
  if (threadIdx.x == 0) counter = 0;
  __syncthreads();
  int group = static_cast<int>(threadIdx.x) / 128;
  if (group == 1) ptx::named_barrier_arrive(1, 256);
  for (int round = 0; round < rounds; ++round) {
    ptx::named_barrier_sync(1 + group, 256);
    if (threadIdx.x % 128 == 0) order[counter++] = group;
    __threadfence_block();
    ptx::named_barrier_arrive(2 - group, 256);
  }
  if (group == 0) ptx::named_barrier_sync(1, 256);
}

int run_turns() {
  constexpr int kRounds = 50;
  DeviceArray<int> order(2 * kRounds);
  order.poison();
  turns_kernel<<<1, 256>>>(kRounds, order.data());
  must(cudaDeviceSynchronize(), "turns");
  std::vector<int> found = order.host();
  int wrong = 0;
  for (int i = 0; i < 2 * kRounds; ++i) wrong += found[static_cast<size_t>(i)] != i % 2;
  std::printf("{\"rung\": \"turns\", \"wrong\": %d}\n", wrong);
  return wrong != 0;
}

}  // namespace

int main(int count, char** words) {
  std::string rung = count > 1 ? words[1] : "";
  if (rung == "tma") return run_tma();
  if (rung == "scores") return run_product<Product::scores>("scores");
  if (rung == "values") return run_product<Product::values>("values");
  if (rung == "registers") return run_product<Product::registers>("registers");
  if (rung == "pipeline") return run_pipeline();
  if (rung == "turns") return run_turns();
  std::fprintf(stderr, "usage: ladder_units tma|scores|values|registers|pipeline|turns\n");
  return 2;
}
