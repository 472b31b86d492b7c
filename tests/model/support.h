// Shared by the tests of model/: goldens, an exact attention, damaged bytes.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/model/model.h"

namespace tessera::model {

inline const std::filesystem::path kGoldens = std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/goldens/models";
inline constexpr std::string_view kRemake = "regenerate with: python3 tools/goldens/make_model_goldens.py";

// Runs `action` and returns the message of the Error it throws; fails the test when the code is another one or nothing
// is thrown.
inline std::string error_of(ErrorCode code, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(to_string(error.code()), std::string(to_string(code))) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "expected a tessera::Error " << to_string(code);
  return {};
}

// A copy of the bytes in a block of exactly their size, so that the address sanitizer sees a read past the end.
inline std::shared_ptr<std::vector<std::byte>> exact_copy(std::string_view bytes) {
  auto copy = std::make_shared<std::vector<std::byte>>(bytes.size());
  copy->shrink_to_fit();
  if (!bytes.empty()) std::memcpy(copy->data(), bytes.data(), bytes.size());
  return copy;
}

// ||a - b|| / ||b||
double relative_error(std::span<const float> a, std::span<const float> b);
std::span<const float> values_of(const Tensor& tensor);  // of an f32 tensor

// Dense causal attention over everything seen so far, accumulated in double precision.
class DenseAttention : public LayerAttention {
 public:
  explicit DenseAttention(const ModelConfig& config);
  void attend(const Call& call, Tensor& out) override;

 private:
  struct Rows {
    std::vector<float> keys;    // [positions, kv_heads, head_dim]
    std::vector<float> values;  // [positions, kv_heads, head_dim]
  };
  std::vector<double> attend_one(const float* query, int kv_head, const Rows& rows, int64_t visible) const;

  const ModelConfig& config_;
  std::vector<Rows> layers_;
};

// One line of tests/goldens/models/cases.json.
struct GoldenCase {
  std::string name;
  std::filesystem::path path;
  std::vector<int32_t> tokens;

  friend void PrintTo(const GoldenCase& golden, std::ostream* stream) { *stream << golden.name; }
};
std::vector<GoldenCase> golden_cases();
// [positions, vocabulary]; reference is "transformers" or "llama.cpp".
Tensor golden_logits(const std::string& name, const std::string& reference);

}  // namespace tessera::model
