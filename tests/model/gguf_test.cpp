#include "tessera/model/gguf.h"

#include "model/gguf_builder.h"
#include "model/support.h"

namespace tessera::model {
namespace {

GgufFile parse(std::string_view bytes) {
  auto copy = exact_copy(bytes);
  const std::span<const std::byte> span(*copy);
  return GgufFile::parse(span, "test.gguf", std::move(copy));
}

std::string numbers(int count, float first) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += le(first + static_cast<float>(i));
  return bytes;
}

GgufBuilder valid() {
  return {.values = {{"general.architecture", gguf_text("llama")},
                     {"list", gguf_array(5, 3, le<int32_t>(-1) + le<int32_t>(2) + le<int32_t>(3))}},
          .tensors = {{"a", {3, 2}, 0, numbers(6, 1)}, {"b", {32}, 8, std::string(34, '\1')}}};
}

std::string bad_file(const GgufBuilder& builder) {
  return error_of(ErrorCode::bad_file, [&] { parse(builder.build()); });
}

std::string bad_value(const std::string& typed_value) { return bad_file({.values = {{"key", typed_value}}}); }

std::string bad_tensors(std::vector<GgufTensor> tensors) { return bad_file({.tensors = std::move(tensors)}); }

void expect_contains(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

TEST(Gguf, ReadsEveryValueType) {
  const GgufFile file =
      parse(GgufBuilder{.values = {{"u8", le<uint32_t>(0) + le<uint8_t>(200)},
                                   {"i8", le<uint32_t>(1) + le<int8_t>(-100)},
                                   {"u16", le<uint32_t>(2) + le<uint16_t>(60000)},
                                   {"i16", le<uint32_t>(3) + le<int16_t>(-30000)},
                                   {"u32", le<uint32_t>(4) + le<uint32_t>(4000000000U)},
                                   {"i32", le<uint32_t>(5) + le<int32_t>(-2000000000)},
                                   {"f32", le<uint32_t>(6) + le(0.5F)},
                                   {"bool", le<uint32_t>(7) + le<uint8_t>(1)},
                                   {"string", gguf_text("grüß")},
                                   {"u64", le<uint32_t>(10) + le<uint64_t>(1ULL << 60)},
                                   {"i64", le<uint32_t>(11) + le<int64_t>(-(1LL << 60))},
                                   {"f64", le<uint32_t>(12) + le(0.1)},
                                   {"strings", gguf_array(8, 2, gguf_string("x") + gguf_string(""))},
                                   {"integers", gguf_array(0, 2, "\1\xff")},
                                   {"floats", gguf_array(12, 1, le(0.25))},
                                   {"bools", gguf_array(7, 2, std::string("\1\0", 2))},
                                   {"empty", gguf_array(8, 0, "")},
                                   {"nested", gguf_array(9, 1, le<uint32_t>(0) + le<uint64_t>(1) + "\7")}}}
                .build());
  const GgufMetadata& metadata = file.metadata();
  EXPECT_EQ(metadata.find_integer("u8"), 200);
  EXPECT_EQ(metadata.find_integer("i8"), -100);
  EXPECT_EQ(metadata.find_integer("u16"), 60000);
  EXPECT_EQ(metadata.find_integer("i16"), -30000);
  EXPECT_EQ(metadata.find_integer("u32"), 4000000000);
  EXPECT_EQ(metadata.find_integer("i32"), -2000000000);
  EXPECT_EQ(metadata.find_integer("u64"), int64_t{1} << 60);
  EXPECT_EQ(metadata.find_integer("i64"), -(int64_t{1} << 60));
  EXPECT_EQ(metadata.find_float("f32"), 0.5);
  EXPECT_EQ(metadata.find_float("f64"), 0.1);
  EXPECT_EQ(metadata.find_float("u8"), 200.0);
  EXPECT_EQ(metadata.find_bool("bool"), true);
  EXPECT_EQ(metadata.require_string("string"), "grüß");
  EXPECT_EQ(metadata.require_strings("strings"), (std::vector<std::string>{"x", ""}));
  EXPECT_EQ(*metadata.find_integers("integers"), (std::vector<int64_t>{1, 255}));
  EXPECT_EQ(*metadata.find_floats("floats"), std::vector<double>{0.25});
  EXPECT_TRUE(metadata.find_strings("empty")->empty());
  EXPECT_TRUE(std::holds_alternative<GgufNestedArray>(metadata.values().at("nested")));
}

TEST(Gguf, AccessorsTellAbsentFromWrong) {
  const GgufFile file = parse(valid().build());
  const GgufMetadata& metadata = file.metadata();
  EXPECT_FALSE(metadata.find_integer("none").has_value());
  EXPECT_EQ(metadata.find_string("none"), nullptr);
  expect_contains(error_of(ErrorCode::bad_file, [&] { metadata.require_integer("none"); }), "'none' is missing");
  const std::string message = error_of(ErrorCode::bad_file, [&] { metadata.find_integer("general.architecture"); });
  expect_contains(message, "expected integer, found string");
}

TEST(Gguf, BorrowsTensorsWithoutCopyAndKeepsThemAlive) {
  auto copy = exact_copy(valid().build());
  const std::byte* begin = copy->data();
  const std::byte* end = begin + copy->size();
  Tensor a;
  {
    const std::span<const std::byte> span(*copy);
    const GgufFile file = GgufFile::parse(span, "test.gguf", std::move(copy));
    a = file.tensor("a");
    EXPECT_EQ(file.tensor("b").dtype(), DType::q8_0);
    expect_contains(error_of(ErrorCode::bad_file, [&] { file.tensor("c"); }), "'c' is missing");
  }
  EXPECT_EQ(a.shape(), Shape({2, 3}));  // the file has the fastest dimension first
  EXPECT_TRUE(a.raw() >= begin && a.raw() < end);
  std::vector<float> values(6);
  std::memcpy(values.data(), a.raw(), 24);
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3, 4, 5, 6}));
}

TEST(Gguf, VersionTwoAndOtherAlignmentsAreRead) {
  GgufBuilder builder = valid();
  builder.version = 2;
  EXPECT_EQ(parse(builder.build()).tensors().size(), 2U);
  builder.values.emplace_back("general.alignment", gguf_u32(8));
  builder.alignment = 8;
  EXPECT_EQ(parse(builder.build()).tensor("b").bytes(), 34);
  EXPECT_TRUE(parse(GgufBuilder{}.build()).tensors().empty());
}

TEST(Gguf, OtherFormatsVersionsAndByteOrdersAreNamed) {
  EXPECT_TRUE(error_of(ErrorCode::bad_file, [] { parse(""); }).find("truncated") != std::string::npos);
  expect_contains(bad_file({.magic = "GGML"}), "found 'GGML'");
  for (const uint32_t version : {0U, 1U, 4U}) {
    error_of(ErrorCode::unsupported, [&] { parse(GgufBuilder{.version = version}.build()); });
  }
  const std::string message =
      error_of(ErrorCode::unsupported, [] { parse(GgufBuilder{.version = 0x03000000}.build()); });
  expect_contains(message, "big-endian");
}

TEST(Gguf, EveryTruncationIsAnError) {
  const std::string bytes = valid().build();
  EXPECT_NO_THROW(parse(bytes));
  for (size_t length = 0; length < bytes.size(); ++length) {
    error_of(ErrorCode::bad_file, [&] { parse(std::string_view(bytes).substr(0, length)); });
  }
}

TEST(Gguf, EveryDamagedByteIsReadOrRefused) {
  const std::string bytes = valid().build();
  int refused = 0;
  for (size_t at = 0; at < valid().header().size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(value);
      try {
        const GgufFile file = parse(damaged);
        for (const auto& [name, info] : file.tensors()) EXPECT_LE(info.bytes.size(), bytes.size());
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(Gguf, HugeCountsAreRefusedBeforeAnythingIsAllocated) {
  for (const uint64_t huge : {uint64_t{1} << 32, uint64_t{1} << 62, ~uint64_t{0}}) {
    GgufBuilder tensors = valid();
    tensors.tensor_count = huge;
    expect_contains(bad_file(tensors), "do not fit");
    GgufBuilder values = valid();
    values.value_count = huge;
    expect_contains(bad_file(values), "do not fit");
    for (const uint32_t type : {0U, 4U, 7U, 8U, 9U, 12U}) {
      expect_contains(bad_value(gguf_array(type, huge, "\0\0\0\0")), "does not fit");
    }
    expect_contains(bad_value(le<uint32_t>(8) + le(huge)), "truncated");
  }
}

TEST(Gguf, DamagedValuesAreRefused) {
  expect_contains(bad_value(le<uint32_t>(13) + le<uint64_t>(0)), "value type");
  expect_contains(bad_value(gguf_array(13, 1, std::string(16, '\0'))), "value type");
  expect_contains(bad_value(le<uint32_t>(7) + le<uint8_t>(2)), "bool");
  expect_contains(bad_value(gguf_array(7, 2, "\1\2")), "bool");
  expect_contains(bad_value(le<uint32_t>(10) + le(~uint64_t{0})), "2^63");
  std::string nested = le<uint32_t>(9);
  for (int depth = 0; depth < 100000; ++depth) nested += le<uint32_t>(9) + le<uint64_t>(1);
  expect_contains(bad_value(nested), "nested deeper");
}

TEST(Gguf, DamagedNamesAreRefused) {
  const std::string value = gguf_u32(1);
  expect_contains(bad_file({.values = {{"key", value}, {"key", value}}}), "appears twice");
  expect_contains(bad_file({.values = {{"\xff\xfe", value}}}), "\\xff\\xfe");
  expect_contains(bad_file({.values = {{"", value}}}), "empty");
  expect_contains(bad_file({.values = {{std::string("a\0b", 3), value}}}), "UTF-8");
  expect_contains(bad_tensors({{"a", {1}, 0, numbers(1, 0)}, {"a", {1}, 0, numbers(1, 0)}}), "appears twice");
  expect_contains(bad_tensors({{"\xc3(", {1}, 0, numbers(1, 0)}}), "UTF-8");
  expect_contains(bad_tensors({{std::string(64, 'x'), {1}, 0, numbers(1, 0)}}), "longer than 63");
}

TEST(Gguf, DamagedTensorTablesAreRefused) {
  expect_contains(bad_tensors({{"a", {1, 1, 1, 1, 1}, 0, numbers(1, 0)}}), "at most 4");
  expect_contains(bad_tensors({{"a", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, ""}}), "2^58");
  expect_contains(bad_tensors({{"a", {~uint64_t{0}}, 0, ""}}), "2^58");
  expect_contains(bad_tensors({{"a", {31}, 8, std::string(34, 0)}}), "whole blocks");
  expect_contains(bad_tensors({{"a", {32, 2}, 8, std::string(34, 0)}}), "outside");
  expect_contains(bad_tensors({{"a", {4}, 0, numbers(4, 0), 4}}), "multiple of the alignment");
  expect_contains(bad_tensors({{"a", {4}, 0, numbers(4, 0), uint64_t{1} << 40}}), "outside");
  expect_contains(bad_tensors({{"a", {4}, 0, numbers(4, 0), ~uint64_t{0} - 31}}), "outside");
  expect_contains(bad_tensors({{"a", {4}, 0, numbers(4, 0)}, {"b", {4}, 0, numbers(4, 0), 0}}), "overlaps");
  expect_contains(bad_tensors({{"a", {16}, 0, numbers(16, 0)}, {"b", {4}, 0, numbers(4, 0), 32}}), "overlaps");
  for (const uint32_t alignment : {0U, 3U, 48U}) {
    expect_contains(bad_file({.values = {{"general.alignment", gguf_u32(alignment)}}}), "power of two");
  }
}

TEST(Gguf, OtherTensorTypesAreNamedWhenTheyAreUsed) {
  const GgufFile file =
      parse(GgufBuilder{.tensors = {{"blk.0.attn_q.weight", {256}, 14, std::string(210, '\0')}}}.build());
  const std::string message = error_of(ErrorCode::unsupported, [&] { file.tensor("blk.0.attn_q.weight"); });
  expect_contains(message, "blk.0.attn_q.weight");
  expect_contains(message, "Q6_K");
  for (const uint32_t removed : {4U, 31U, 1000U}) {
    error_of(ErrorCode::unsupported, [&] {
      parse(GgufBuilder{.tensors = {{"a", {32}, removed, std::string(64, '\0')}}}.build());
    });
  }
}

}  // namespace
}  // namespace tessera::model
