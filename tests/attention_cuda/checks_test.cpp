// Errors that come before any launch, with or without a GPU.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "attention/cuda/tensor_map.h"
#include "tessera/attention/cuda.h"
#include "tessera/attention/cuda_c.h"

namespace tessera::attention::cuda {
namespace {

// Never read: every test ends before a launch.
alignas(256) unsigned char some_memory[256];

AttentionArguments good_arguments() {
  AttentionArguments arguments;
  arguments.queries = contiguous_view(some_memory, ElementType::bf16, {300, 8, 128});
  arguments.keys = contiguous_view(some_memory, ElementType::bf16, {400, 2, 128});
  arguments.values = contiguous_view(some_memory, ElementType::bf16, {400, 2, 128});
  arguments.out = contiguous_view(some_memory, ElementType::bf16, {300, 8, 128});
  arguments.lse = contiguous_view(some_memory, ElementType::f32, {300, 8});
  arguments.sequences = {{0, 300, 0, 400, 100}};
  return arguments;
}

DeviceWorkList good_work() {
  DeviceWorkList work;
  work.list_heads = 8;
  work.query_tiles = 3;
  work.tile_begin = reinterpret_cast<const int32_t*>(some_memory);
  return work;
}

std::string message_of(const std::function<void()>& body, ErrorCode code) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

struct BadCase {
  const char* expected;  // part of the sentence
  std::function<void(AttentionArguments&)> spoil;
};

TEST(CudaChecks, GoodArgumentsPass) {
  EXPECT_NO_THROW(check(good_arguments()));
  EXPECT_NO_THROW(check(good_arguments(), good_work()));
}

TEST(CudaChecks, EveryBadArgumentIsNamed) {
  const BadCase cases[] = {
      {"queries must be bf16 or f16", [](auto& a) { a.queries.type = ElementType::f32; }},
      {"keys must have the element type", [](auto& a) { a.keys.type = ElementType::f16; }},
      {"queries must have shape [rows, heads, head_dim]", [](auto& a) { a.queries.rank = 2; }},
      {"head_dim must be 64, 96, 128 or 256, found 80",
       [](auto& a) {
         for (auto* view : {&a.queries, &a.keys, &a.values, &a.out}) view->shape[2] = 80;
       }},
      {"keys [400, 2, 128] and values [399, 2, 128] must agree", [](auto& a) { a.values.shape[0] = 399; }},
      {"keys must have the queries' head_dim 128", [](auto& a) { a.keys.shape[2] = a.values.shape[2] = 64; }},
      {"multiple of kv_heads, found 8 and 3", [](auto& a) { a.keys.shape[1] = a.values.shape[1] = 3; }},
      {"out must have the queries' shape", [](auto& a) { a.out.shape[0] = 299; }},
      {"lse must be f32", [](auto& a) { a.lse.type = ElementType::bf16; }},
      {"lse must be f32", [](auto& a) { a.lse.shape[1] = 7; }},
      {"contiguous in its last dimension", [](auto& a) { a.values.strides[2] = 2; }},
      {"multiples of 16 bytes, found stride 1023", [](auto& a) { a.queries.strides[0] = 1023; }},
      {"keys must be aligned to 16 bytes", [](auto& a) { a.keys.data = some_memory + 2; }},
      {"queries has no data", [](auto& a) { a.queries.data = nullptr; }},
      {"scale must be >= 0", [](auto& a) { a.scale = -1; }},
      {"1 to 64 sequences per call are supported, found 0", [](auto& a) { a.sequences.clear(); }},
      {"found 65", [](auto& a) { a.sequences.assign(65, a.sequences[0]); }},
      {"sequence 0 names query rows outside the 300", [](auto& a) { a.sequences[0].query_rows = 301; }},
      {"sequence 0 names key rows outside the 400", [](auto& a) { a.sequences[0].key_begin = 1; }},
      {"first_position", [](auto& a) { a.sequences[0].first_position = -1; }},
  };
  for (const BadCase& bad : cases) {
    AttentionArguments arguments = good_arguments();
    bad.spoil(arguments);
    EXPECT_THAT(message_of([&] { check(arguments); }, ErrorCode::invalid_argument), testing::HasSubstr(bad.expected));
  }
}

TEST(CudaChecks, EveryBadListIsNamed) {
  const std::pair<const char*, std::function<void(DeviceWorkList&)>> cases[] = {
      {"key_tile must be 128 or 64, found 32", [](auto& w) { w.key_tile = 32; }},
      {"list_heads must be query_heads 8 or kv_heads 2, found 4", [](auto& w) { w.list_heads = 4; }},
      {"has 2 query tiles, the sequences have 3", [](auto& w) { w.query_tiles = 2; }},
      {"no tile_begin", [](auto& w) { w.tile_begin = nullptr; }},
      {"no tile_begin or tiles", [](auto& w) { w.tile_capacity = 5; }},
      {"column_stride must be a multiple of 128, found 100", [](auto& w) { w.column_stride = 100; }},
      {"needs columns, column_count and column_cut", [](auto& w) { w.column_stride = 128; }},
      {"correction_levels must be 0, 1 or 2, found 3", [](auto& w) { w.correction_levels = 3; }},
      {"key_tile must be 32 with bands, found 128", [](auto& w) { w.band_stride = 4; }},
      {"needs bands, band_cut and band_stride", [](auto& w) { w.band_stride = -1; }},
      {"needs bands, band_cut and band_stride",
       [](auto& w) {
         w.band_stride = 4;
         w.key_tile = 32;
       }},
      {"the mean correction needs tiles, found bands",
       [](auto& w) {
         w.band_stride = 4;
         w.key_tile = 32;
         w.bands = w.band_cut = w.tile_begin;
         w.correction_levels = 1;
       }},
  };
  for (const auto& [expected, spoil] : cases) {
    DeviceWorkList work = good_work();
    spoil(work);
    EXPECT_THAT(message_of([&, &w = work] { check(good_arguments(), w); }, ErrorCode::invalid_argument),
                testing::HasSubstr(expected));
  }
}

TEST(CudaChecks, KernelsByCapability) {
  EXPECT_EQ(kernel_for(90), Kernel::wgmma);
  for (int capability : {80, 86, 89, 100, 120}) EXPECT_EQ(kernel_for(capability), Kernel::mma_sync);
  EXPECT_THAT(message_of([] { kernel_for(75); }, ErrorCode::unsupported), testing::HasSubstr("found 7.5"));
}

TEST(CudaChecks, WorkspaceGrowsWithTheLists) {
  DeviceWorkList work = good_work();
  size_t without = workspace_bytes(good_arguments(), work);
  work.column_stride = 1024;
  work.columns = work.column_count = work.column_cut = work.tile_begin;
  size_t with = workspace_bytes(good_arguments(), work);
  // Keys and values of 8 heads x 1,024 columns x 128 channels, and the marks of 24 lists.
  EXPECT_EQ(with - without, 2u * 8 * 1024 * 128 * 2 + 24 * 1024 / 8);
}

// Where there is no GPU, the first thing asked of one says so.
TEST(CudaChecks, AMissingGpuIsAClearError) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) GTEST_SKIP() << "this machine has a GPU";
  Launch launch{some_memory, sizeof(some_memory), nullptr};
  EXPECT_THAT(message_of([] { compute_capability(); }, ErrorCode::unsupported),
              testing::HasSubstr("needs an NVIDIA GPU"));
  EXPECT_THAT(message_of([&] { attend_dense(good_arguments(), launch); }, ErrorCode::unsupported),
              testing::HasSubstr("needs an NVIDIA GPU"));
  EXPECT_THAT(message_of([&] { attend(good_arguments(), good_work(), launch); }, ErrorCode::unsupported),
              testing::HasSubstr("needs an NVIDIA GPU"));
  message_of([] { encode_tensor_map({.data = some_memory, .rows = 1, .heads = 1, .head_dim = 64, .box_rows = 64}); },
             ErrorCode::unsupported);
}

TEST(CudaChecks, CInterfaceReportsInsteadOfThrowing) {
  tessera_cuda_attention attention = {};
  size_t bytes = 0;
  EXPECT_NE(tessera_cuda_workspace_bytes(&attention, nullptr, nullptr), 0);
  EXPECT_THAT(tessera_cuda_last_error(), testing::HasSubstr("bytes is null"));
  attention.keys.rank = 9;
  EXPECT_EQ(tessera_cuda_workspace_bytes(&attention, nullptr, &bytes),
            1 + static_cast<int>(ErrorCode::invalid_argument));
  EXPECT_THAT(tessera_cuda_last_error(), testing::HasSubstr("rank 9"));
  attention.keys.rank = 3;
  tessera_cuda_launch launch = {};
  EXPECT_EQ(tessera_cuda_attend_dense(&attention, &launch), 1 + static_cast<int>(ErrorCode::invalid_argument));
  launch.kernel = 7;
  EXPECT_NE(tessera_cuda_attend_dense(&attention, &launch), 0);
  EXPECT_THAT(tessera_cuda_last_error(), testing::HasSubstr("found 7"));
}

}  // namespace
}  // namespace tessera::attention::cuda
