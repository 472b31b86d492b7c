#include "tessera/model/safetensors.h"

#include "model/gguf_builder.h"
#include "model/support.h"
#include "tessera/base/file.h"

namespace tessera::model {
namespace {

SafetensorsFile parse(std::string_view bytes) {
  auto copy = exact_copy(bytes);
  const std::span<const std::byte> span(*copy);
  return SafetensorsFile::parse(span, "test.safetensors", std::move(copy));
}

std::string file_of(std::string_view header, size_t buffer_bytes) {
  return le<uint64_t>(header.size()) + std::string(header) + std::string(buffer_bytes, '\1');
}

std::string entry(std::string_view dtype, std::string_view shape, size_t begin, size_t end) {
  return fmt::format(R"({{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", dtype, shape, begin, end);
}

const std::string kValid = R"({"__metadata__":{"format":"pt"},"a":)" + entry("F32", "[2,3]", 0, 24) + R"(,"b":)" +
                           entry("BF16", "[]", 24, 26) + "}";

std::string refusal(std::string_view header, size_t buffer_bytes, ErrorCode code = ErrorCode::bad_file) {
  return error_of(code, [&] { parse(file_of(header, buffer_bytes)); });
}

void expect_contains(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const SafetensorsFile file = parse(file_of(kValid + "   ", 26));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.tensor("a").shape(), Shape({2, 3}));
  EXPECT_EQ(file.tensor("a").bytes(), 24);
  EXPECT_EQ(file.tensor("b").shape(), Shape());  // rank 0 has one element
  EXPECT_EQ(file.tensor("b").dtype(), DType::bf16);
  expect_contains(error_of(ErrorCode::bad_file, [&] { file.tensor("c"); }), "'c' is missing");
}

TEST(Safetensors, EmptyTensorsAndFilesAreLegal) {
  EXPECT_TRUE(parse(file_of("{}", 0)).tensors().empty());
  const SafetensorsFile file =
      parse(file_of("{\"a\":" + entry("F32", "[0,7]", 0, 0) + ",\"b\":" + entry("F16", "[1]", 0, 2) + "}", 2));
  EXPECT_EQ(file.tensor("a").elements(), 0);
  EXPECT_EQ(file.tensor("b").elements(), 1);
}

TEST(Safetensors, OtherTypesAreNamedWhenTheyAreUsed) {
  const SafetensorsFile file =
      parse(file_of("{\"w\":" + entry("F8_E4M3", "[4]", 0, 4) + ",\"x\":" + entry("F4", "[6]", 4, 7) +
                        ",\"y\":" + entry("F32", "[1,1,1,1,1]", 7, 11) + "}",
                    11));
  expect_contains(error_of(ErrorCode::unsupported, [&] { file.tensor("w"); }), "F8_E4M3");
  expect_contains(error_of(ErrorCode::unsupported, [&] { file.tensor("x"); }), "F4");
  expect_contains(error_of(ErrorCode::unsupported, [&] { file.tensor("y"); }), "5 dimensions");
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const std::string bytes = file_of(kValid, 26);
  for (size_t length = 0; length < bytes.size(); ++length) {
    error_of(ErrorCode::bad_file, [&] { parse(std::string_view(bytes).substr(0, length)); });
  }
  expect_contains(refusal(kValid, 27), "truncated");
}

TEST(Safetensors, EveryDamagedByteIsReadOrRefused) {
  const std::string bytes = file_of(kValid, 26);
  int refused = 0;
  for (size_t at = 0; at < 8 + kValid.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(value);
      try {
        const SafetensorsFile file = parse(damaged);
        for (const auto& [name, info] : file.tensors()) EXPECT_LE(info.bytes.size(), 26U);
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 10000);
}

TEST(Safetensors, DamagedHeadersAreRefused) {
  for (const uint64_t length : {uint64_t{100'000'001}, uint64_t{1} << 40, ~uint64_t{0}}) {
    error_of(ErrorCode::bad_file, [&] { parse(le(length) + kValid); });
  }
  expect_contains(refusal(" " + kValid, 26), "begins with");
  expect_contains(refusal("[]", 0), "begins with");
  expect_contains(refusal("{\"a\":", 0), "not valid JSON");
  expect_contains(refusal("{\"a\":1}", 0), "expected an object");
  expect_contains(refusal(R"({"__metadata__":{"a":1}})", 0), "strings to strings");
  expect_contains(refusal(R"({"__metadata__":[]})", 0), "strings to strings");
  expect_contains(refusal("{\"\xff\":" + entry("F32", "[]", 0, 4) + "}", 4), "not valid JSON");
  const std::string deep = "{\"a\":" + std::string(100000, '[');
  expect_contains(refusal(deep, 0), "nested deeper");
  const std::string once = "\"a\":" + entry("F32", "[]", 0, 4);
  expect_contains(refusal("{" + once + "," + once + "}", 4), "appears twice");
  expect_contains(refusal(R"({"a":{"dtype":"F32","dtype":"F16","shape":[],"data_offsets":[0,4]}})", 4),
                  "appears twice");
}

TEST(Safetensors, DamagedEntriesAreRefused) {
  const auto one = [](const std::string& text, ErrorCode code = ErrorCode::bad_file) {
    return refusal("{\"a\":" + text + "}", 4, code);
  };
  expect_contains(one(entry("Q6_K", "[1]", 0, 4), ErrorCode::unsupported), "Q6_K");
  expect_contains(one(entry("F32", "[2]", 0, 4)), "need 8 bytes");
  expect_contains(one(entry("F32", "[-1]", 0, 4)), "'shape'");
  expect_contains(one(entry("F32", "[1.0]", 0, 4)), "'shape'");
  expect_contains(one(entry("F32", "3", 0, 4)), "'shape'");
  expect_contains(one(entry("F32", "[18446744073709551615,2]", 0, 4)), "2^62");
  expect_contains(one(entry("F32", "[4294967296,4294967296]", 0, 4)), "2^56");
  expect_contains(one(entry("F32", "[1e300]", 0, 4)), "'shape'");
  expect_contains(one(entry("F32", "[1]", 4, 0)), "[begin, end]");
  expect_contains(one(entry("F4", "[1]", 0, 0)), "within a byte");
  expect_contains(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})"), "[begin, end]");
  expect_contains(one(R"({"dtype":"F32","shape":[1],"data_offsets":"x"})"), "data_offsets");
  expect_contains(one(R"({"dtype":7,"shape":[1],"data_offsets":[0,4]})"), "dtype");
  expect_contains(one(R"({"dtype":"F32","shape":[1]})"), "expected an object");
  expect_contains(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1})"), "expected an object");
}

TEST(Safetensors, HolesAndOverlapsAreRefused) {
  const auto two = [](size_t a_begin, size_t b_begin, size_t buffer) {
    return refusal("{\"a\":" + entry("F32", "[1]", a_begin, a_begin + 4) +
                       ",\"b\":" + entry("F32", "[1]", b_begin, b_begin + 4) + "}",
                   buffer);
  };
  expect_contains(two(0, 2, 6), "overlap");
  expect_contains(two(0, 0, 4), "overlap");
  expect_contains(two(0, 6, 10), "belong to no tensor");
  expect_contains(two(4, 8, 12), "belong to no tensor");
  expect_contains(two(0, 4, 12), "truncated");
  expect_contains(two(0, 4, 7), "truncated");
}

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& content) { write_file_atomically(folder_ / name, content); }
  std::string refusal_of_index(const std::string& index, ErrorCode code = ErrorCode::bad_file) {
    write("model.safetensors.index.json", index);
    return error_of(code, [&] { SafetensorsCheckpoint::open(folder_); });
  }

  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(CheckpointTest, ShardsAreFoundThroughTheIndex) {
  const SafetensorsCheckpoint checkpoint = SafetensorsCheckpoint::open(kGoldens / "llama-biases-sharded");
  const std::vector<std::string> names = checkpoint.names();
  EXPECT_EQ(names.size(), 35U);  // embedding, norm, output and 2 layers of 9 weights and 7 biases
  for (const std::string& name : names) EXPECT_TRUE(checkpoint.tensor(name).defined());
}

TEST_F(CheckpointTest, DamagedIndexesAreRefused) {
  expect_contains(error_of(ErrorCode::not_found, [&] { SafetensorsCheckpoint::open(folder_); }), "found neither");
  write("one.safetensors", file_of("{\"a\":" + entry("F32", "[1]", 0, 4) + "}", 4));
  expect_contains(refusal_of_index("{"), "not valid JSON");
  expect_contains(refusal_of_index("{}"), "weight_map");
  expect_contains(refusal_of_index(R"({"weight_map":[]})"), "weight_map");
  expect_contains(refusal_of_index(R"({"weight_map":{"a":1}})"), "same directory");
  expect_contains(refusal_of_index(R"({"weight_map":{"a":"../one.safetensors"}})"), "same directory");
  expect_contains(refusal_of_index(R"({"weight_map":{"a":"/etc/passwd"}})"), "same directory");
  expect_contains(refusal_of_index(R"({"weight_map":{"b":"one.safetensors"}})"), "is not in");
  expect_contains(refusal_of_index(R"({"weight_map":{"a":"one.safetensors","a":"one.safetensors"}})"), "appears twice");
  refusal_of_index(R"({"weight_map":{"a":"two.safetensors"}})", ErrorCode::not_found);
  refusal_of_index(R"({"weight_map":{"a":".."}})", ErrorCode::io);
}

}  // namespace
}  // namespace tessera::model
