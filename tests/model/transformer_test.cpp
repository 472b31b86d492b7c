#include "model/transformer.h"

#include <algorithm>
#include <set>

#include "model/gguf_builder.h"
#include "model/support.h"
#include "tessera/base/file.h"

namespace tessera::model {
namespace {

Transformer load(const std::filesystem::path& path) {
  return path.extension() == ".gguf" ? Transformer::from_gguf(GgufFile::open(path))
                                     : Transformer::from_huggingface(path);
}

Tensor all_logits(const Transformer& transformer, std::span<const int32_t> tokens) {
  DenseAttention attention(transformer.config());
  return transformer.forward(tokens, 0, attention, {.logits = Logits::all});
}

class GoldenTest : public testing::TestWithParam<GoldenCase> {};
class GgufGoldenTest : public GoldenTest {};

TEST_P(GoldenTest, LogitsAgreeWithTransformers) {
  const Transformer transformer = load(GetParam().path);
  const Tensor logits = all_logits(transformer, GetParam().tokens);
  const Tensor expected = golden_logits(GetParam().name, "transformers");
  ASSERT_EQ(logits.shape(), expected.shape()) << kRemake;
  const double error = relative_error(values_of(logits), values_of(expected));
  EXPECT_LT(error, 1e-4) << kRemake;
  RecordProperty("relative_error", fmt::format("{:.2e}", error));
}

TEST_P(GoldenTest, PiecesAndSingleStepsGiveTheLogitsOfOneCall) {
  const Transformer transformer = load(GetParam().path);
  const std::span<const int32_t> tokens = GetParam().tokens;
  const Tensor whole = all_logits(transformer, tokens);
  DenseAttention attention(transformer.config());
  int64_t position = 0;
  for (const int64_t count : {7, 1, 1, 11, 1, 1, 1, 16, 1}) {
    const auto piece = tokens.subspan(static_cast<size_t>(position), static_cast<size_t>(count));
    const Tensor last = transformer.forward(piece, position, attention, {});
    position += count;
    ASSERT_EQ(last.shape(), Shape({1, transformer.config().vocabulary}));
    EXPECT_LT(relative_error(values_of(last), values_of(whole.slice(position - 1, 1))), 1e-5);
  }
  EXPECT_EQ(position, std::ssize(tokens));
}

// llama.cpp rounds activations to the type that it multiplies the weights in: not at all for F32, to F16 or BF16, and
// to 8 bits for the quantised types. The bounds are what it itself differs from transformers by, with room.
double llama_cpp_bound(const std::string& name) {
  if (name.ends_with("f32")) return 1e-4;
  if (name.ends_with("-f16")) return 2e-3;
  if (name.ends_with("bf16")) return 1.5e-2;
  return 5e-2;
}

TEST_P(GgufGoldenTest, LogitsAgreeWithLlamaCpp) {
  const Transformer transformer = load(GetParam().path);
  const Tensor expected = golden_logits(GetParam().name, "llama.cpp");
  const Tensor logits = all_logits(transformer, GetParam().tokens);
  const int64_t positions = expected.shape()[0];
  const Tensor last = logits.slice(logits.shape()[0] - positions, positions);
  const double error = relative_error(values_of(last), values_of(expected));
  EXPECT_LT(error, llama_cpp_bound(GetParam().name)) << kRemake;
  RecordProperty("relative_error", fmt::format("{:.2e}", error));
}

std::string test_name(const testing::TestParamInfo<GoldenCase>& parameter) {
  std::string name = parameter.param.name;
  std::ranges::replace(name, '-', '_');
  return name;
}

std::vector<GoldenCase> gguf_cases() {
  std::vector<GoldenCase> cases = golden_cases();
  std::erase_if(cases, [](const GoldenCase& golden) { return golden.path.extension() != ".gguf"; });
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, testing::ValuesIn(golden_cases()), test_name);
INSTANTIATE_TEST_SUITE_P(Models, GgufGoldenTest, testing::ValuesIn(gguf_cases()), test_name);

TEST(Transformer, CachesFilledWithoutLogitsAreTheSame) {
  const GoldenCase golden = golden_cases().front();
  const Transformer transformer = load(golden.path);
  const std::span<const int32_t> tokens = golden.tokens;
  const Tensor whole = all_logits(transformer, tokens);
  DenseAttention attention(transformer.config());
  EXPECT_FALSE(transformer.forward(tokens.first(39), 0, attention, {.logits = Logits::none}).defined());
  const Tensor last = transformer.forward(tokens.subspan(39), 39, attention, {});
  EXPECT_LT(relative_error(values_of(last), values_of(whole.slice(39, 1))), 1e-5);
}

TEST(Transformer, PromptsLongerThanARowChunkAreExact) {
  const Transformer transformer = load(kGoldens / "llama-tied");
  std::vector<int32_t> tokens(1100);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 37 % 288);
  const Tensor whole = all_logits(transformer, tokens);
  DenseAttention attention(transformer.config());
  for (int64_t position = 0; position < 1100; position += 100) {
    const auto piece = std::span(tokens).subspan(static_cast<size_t>(position), 100);
    const Tensor logits = transformer.forward(piece, position, attention, {.logits = Logits::all});
    EXPECT_LT(relative_error(values_of(logits), values_of(whole.slice(position, 100))), 1e-5) << position;
  }
}

TEST(Transformer, TheNumberOfThreadsDoesNotChangeTheResult) {
  const GoldenCase golden = golden_cases().front();
  const Transformer transformer = load(golden.path);
  std::vector<Tensor> logits;
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    DenseAttention attention(transformer.config());
    logits.push_back(transformer.forward(golden.tokens, 0, attention, {.logits = Logits::all, .pool = &pool}));
  }
  EXPECT_EQ(relative_error(values_of(logits[0]), values_of(logits[1])), 0.0);
}

TEST(Transformer, BadArgumentsAreErrors) {
  const Transformer transformer = load(kGoldens / "llama-tied");
  DenseAttention attention(transformer.config());
  const auto run = [&](std::vector<int32_t> tokens, int64_t position) {
    return error_of(ErrorCode::invalid_argument, [&] { transformer.forward(tokens, position, attention, {}); });
  };
  run({}, 0);
  run({-1}, 0);
  run({288}, 0);
  run({0}, -1);
}

TEST(Transformer, WorkspaceGrowsByTheTokensAndIsBoundedPerRowChunk) {
  const Transformer transformer = load(kGoldens / "llama-tied");
  const int64_t per_token = 4 * (32 + 2 * (4 + 2) * 8 + 8);
  EXPECT_EQ(transformer.workspace_bytes(1), per_token + 4 * (32 + 2 * 64));
  EXPECT_EQ(transformer.workspace_bytes(100000) - transformer.workspace_bytes(99999), per_token);
}

TEST(Weights, AreBorrowedFromTheMap) {
  const GgufFile file = GgufFile::open(kGoldens / "gguf-llama-q4_1.gguf");
  const Transformer transformer = Transformer::from_gguf(file);
  const auto& layer = transformer.weights().layers[1];
  EXPECT_EQ(layer.gate.raw(), file.tensors().at("blk.1.ffn_gate.weight").bytes.data());
  EXPECT_EQ(layer.gate.dtype(), DType::q4_1);
  EXPECT_EQ(transformer.weights().output.raw(), transformer.weights().embedding.raw());
}

TEST(Weights, DigestsTellModelsApart) {
  std::set<std::string> digests;
  for (const GoldenCase& golden : golden_cases()) digests.insert(load(golden.path).weights().digest);
  EXPECT_EQ(digests.size(), golden_cases().size());
  EXPECT_EQ(load(kGoldens / "qwen2").weights().digest, load(kGoldens / "qwen2").weights().digest);
}

// A copy of the fixture llama-tied in which one piece of a file is replaced.
class DamagedDirectory : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(kGoldens / "llama-tied", folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // `text` and `replacement` are of one length in a safetensors file, so that its header length stays right.
  void replace(const std::string& file, const std::string& text, const std::string& replacement) {
    std::string content = read_file(folder_ / file);
    const size_t at = content.find(text);
    ASSERT_NE(at, std::string::npos) << text;
    content.replace(at, text.size(), replacement);
    write_file_atomically(folder_ / file, content);
  }
  std::string refusal(ErrorCode code) {
    return error_of(code, [&] { Transformer::from_huggingface(folder_); });
  }

  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(DamagedDirectory, MissingTensorsAreNamed) {
  replace("model.safetensors", "layers.1.mlp.up_proj", "layers.1.mlp.uq_proj");
  EXPECT_NE(refusal(ErrorCode::bad_file).find("model.layers.1.mlp.up_proj.weight' is missing"), std::string::npos);
}

TEST_F(DamagedDirectory, UnknownTensorsAreNamed) {
  replace("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
  EXPECT_NE(refusal(ErrorCode::unsupported).find("model.layers.1."), std::string::npos);
}

TEST_F(DamagedDirectory, WrongShapesAreNamed) {
  replace("config.json", "\"intermediate_size\": 64", "\"intermediate_size\": 96");
  EXPECT_NE(refusal(ErrorCode::bad_file).find("asks for shape [96, 32], found [64, 32]"), std::string::npos);
}

TEST_F(DamagedDirectory, AMissingOutputMatrixIsAnErrorUnlessTied) {
  replace("config.json", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
  EXPECT_NE(refusal(ErrorCode::bad_file).find("lm_head.weight"), std::string::npos);
}

TEST_F(DamagedDirectory, WeightsThatAreNotAlignedGiveTheSameLogits) {
  const GoldenCase golden = golden_cases().front();
  const std::string content = read_file(folder_ / "model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, content.data(), sizeof(length));
  const std::string header = content.substr(sizeof(length), length);
  const std::string buffer = content.substr(sizeof(length) + length);
  write_file_atomically(folder_ / "model.safetensors", fmt::format("{}{} {}", le(length + 1), header, buffer));
  const Transformer transformer = Transformer::from_huggingface(folder_);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(transformer.weights().embedding.raw()) % 4, 1U);
  const Tensor logits = all_logits(transformer, golden.tokens);
  EXPECT_LT(relative_error(values_of(logits), values_of(golden_logits(golden.name, "transformers"))), 1e-4);
}

// Whatever one byte of a real file's header becomes, loading ends in a model or in an Error.
TEST(Weights, DamagedGgufHeadersNeverCrash) {
  const std::string bytes = read_file(kGoldens / "gguf-llama-q4_0.gguf");
  const size_t header = bytes.size() - static_cast<size_t>(load(kGoldens / "gguf-llama-q4_0.gguf").weights().bytes);
  int refused = 0;
  for (size_t at = 0; at < header; at += 3) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    auto copy = exact_copy(damaged);
    const std::span<const std::byte> span(*copy);
    try {
      Transformer::from_gguf(GgufFile::parse(span, "damaged.gguf", std::move(copy)));
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace tessera::model
