// What decode and write_pages refuse before any launch.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tessera/attention/cuda_decode.h"

namespace tessera::attention::cuda {
namespace {

alignas(256) unsigned char some_memory[256];  // never read

DecodeArguments good_arguments() {
  DecodeArguments arguments;
  arguments.queries = contiguous_view(some_memory, ElementType::bf16, {2, 8, 128});
  arguments.out = contiguous_view(some_memory, ElementType::f32, {2, 8, 128});
  arguments.lse = contiguous_view(some_memory, ElementType::f32, {2, 8});
  arguments.cache = {.format = PageFormat::int8,
                     .kv_heads = 2,
                     .head_dim = 128,
                     .keys = some_memory,
                     .values = some_memory,
                     .bounds = some_memory,
                     .table = reinterpret_cast<const int32_t*>(some_memory),
                     .lengths = reinterpret_cast<const int32_t*>(some_memory),
                     .table_stride = 16};
  arguments.selection = {.pages = 8};
  return arguments;
}

void expect_rejected(const DecodeArguments& arguments, const std::string& sentence) {
  try {
    check(arguments);
    ADD_FAILURE() << "accepted, expected: " << sentence;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_THAT(error.what(), testing::HasSubstr(sentence));
  }
}

TEST(DecodeArguments, GoodOnesPass) { EXPECT_NO_THROW(check(good_arguments())); }

TEST(DecodeArguments, BadOnesAreNamed) {
  const auto with = [](auto change) {
    DecodeArguments arguments = good_arguments();
    change(arguments);
    return arguments;
  };
  expect_rejected(with([](auto& a) { a.queries.type = ElementType::f16; }), "queries must be bf16");
  expect_rejected(with([](auto& a) { a.queries.strides[2] = 2; }), "contiguous in its last dimension");
  expect_rejected(with([](auto& a) { a.queries.strides[0] = 1025; }), "multiples of 16 bytes");
  expect_rejected(with([](auto& a) { a.out.type = ElementType::f16; }), "out must be bf16 or f32");
  expect_rejected(with([](auto& a) { a.out.shape[1] = 4; }), "out must have the queries' shape");
  expect_rejected(with([](auto& a) { a.lse.shape[0] = 1; }), "lse must be f32");
  expect_rejected(with([](auto& a) { a.cache.head_dim = 80; }), "head_dim must be 64, 96, 128 or 256, found 80");
  expect_rejected(with([](auto& a) { a.cache.head_dim = 64; }), "cache's head_dim 64");
  expect_rejected(with([](auto& a) { a.cache.kv_heads = 3; }), "multiple of kv_heads");
  expect_rejected(with([](auto& a) { a.cache.table_heads = 4; }), "table_heads must be 1 or kv_heads 2");
  expect_rejected(with([](auto& a) { a.cache.keys = some_memory + 8; }), "aligned to 16 bytes");
  expect_rejected(with([](auto& a) { a.cache.values = nullptr; }), "value pool has no data");
  expect_rejected(with([](auto& a) { a.cache.lengths = nullptr; }), "needs a table and lengths");
  expect_rejected(with([](auto& a) { a.cache.bounds = nullptr; }), "pool of bounds has no data");
  expect_rejected(with([](auto& a) { a.cache.table_stride = 0; }), "table_stride");
  expect_rejected(with([](auto& a) { a.selection.pages = 2; }), "must not exceed the 2 selected");
  expect_rejected(with([](auto& a) { a.selection.last_pages = 0; }), "last_pages >= 1");
  expect_rejected(with([](auto& a) { a.selection = {}, a.selected = reinterpret_cast<int32_t*>(some_memory); }),
                  "selection.pages > 0");
  expect_rejected(with([](auto& a) { a.scale = -1; }), "scale must be finite");
}

TEST(DecodeArguments, PageWritesAreChecked) {
  PageWrite write = {.keys = contiguous_view(some_memory, ElementType::bf16, {1, 64, 2, 128}),
                     .values = contiguous_view(some_memory, ElementType::bf16, {1, 64, 2, 128}),
                     .cache = good_arguments().cache};
  EXPECT_NO_THROW(check(write));
  write.values.shape[1] = 32;
  EXPECT_THROW(check(write), Error);
}

}  // namespace
}  // namespace tessera::attention::cuda
