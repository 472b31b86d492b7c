#include "model/support.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "tessera/base/file.h"
#include "tessera/model/safetensors.h"

namespace tessera::model {

double relative_error(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference / norm);
}

std::span<const float> values_of(const Tensor& tensor) {
  return {tensor.data<float>(), static_cast<size_t>(tensor.elements())};
}

DenseAttention::DenseAttention(const ModelConfig& config)
    : config_(config), layers_(static_cast<size_t>(config.layers)) {}

std::vector<double> DenseAttention::attend_one(const float* query, int kv_head, const Rows& rows,
                                               int64_t visible) const {
  const int64_t head_dim = config_.head_dim;
  std::vector<double> scores(static_cast<size_t>(visible));
  double largest = -HUGE_VAL;
  for (int64_t row = 0; row < visible; ++row) {
    const float* key = rows.keys.data() + (row * config_.kv_heads + kv_head) * head_dim;
    double score = 0;
    for (int64_t i = 0; i < head_dim; ++i) score += static_cast<double>(query[i]) * key[i];
    scores[static_cast<size_t>(row)] = score / std::sqrt(static_cast<double>(head_dim));
    largest = std::max(largest, scores[static_cast<size_t>(row)]);
  }
  double total = 0;
  std::vector<double> out(static_cast<size_t>(head_dim), 0.0);
  for (int64_t row = 0; row < visible; ++row) {
    const float* value = rows.values.data() + (row * config_.kv_heads + kv_head) * head_dim;
    const double weight = std::exp(scores[static_cast<size_t>(row)] - largest);
    total += weight;
    for (int64_t i = 0; i < head_dim; ++i) out[static_cast<size_t>(i)] += weight * value[i];
  }
  for (double& element : out) element /= total;
  return out;
}

void DenseAttention::attend(const Call& call, Tensor& out) {
  Rows& rows = layers_[static_cast<size_t>(call.layer)];
  const int64_t n = call.queries.shape()[0];
  const int64_t row_size = config_.kv_heads * config_.head_dim;
  ASSERT_EQ(call.queries.shape(), Shape({n, config_.query_heads, config_.head_dim}));
  ASSERT_EQ(call.keys.shape(), Shape({n, config_.kv_heads, config_.head_dim}));
  ASSERT_EQ(call.values.shape(), call.keys.shape());
  ASSERT_EQ(out.shape(), call.queries.shape());
  ASSERT_EQ(call.first_position * row_size, std::ssize(rows.keys));
  const std::span<const float> keys = values_of(call.keys);
  const std::span<const float> values = values_of(call.values);
  rows.keys.insert(rows.keys.end(), keys.begin(), keys.end());
  rows.values.insert(rows.values.end(), values.begin(), values.end());
  const int group = config_.query_heads / config_.kv_heads;
  for (int64_t i = 0; i < n; ++i) {
    for (int head = 0; head < config_.query_heads; ++head) {
      const int64_t at = (i * config_.query_heads + head) * config_.head_dim;
      const std::vector<double> one =
          attend_one(call.queries.data<float>() + at, head / group, rows, call.first_position + i + 1);
      std::copy(one.begin(), one.end(), out.data<float>() + at);
    }
  }
}

std::vector<GoldenCase> golden_cases() {
  const nlohmann::json json = read_json(kGoldens / "cases.json");
  if (json.at("version") != 1) {
    throw Error(ErrorCode::bad_file, "cases.json: expected version 1; {}", kRemake);
  }
  std::vector<GoldenCase> cases;
  for (const nlohmann::json& item : json.at("cases")) {
    cases.push_back({item.at("name"), kGoldens / item.at("path").get<std::string>(), item.at("tokens")});
  }
  return cases;
}

Tensor golden_logits(const std::string& name, const std::string& reference) {
  static const SafetensorsFile file = SafetensorsFile::open(kGoldens / "logits.safetensors");
  if (file.metadata().find("version") == file.metadata().end() || file.metadata().find("version")->second != "1") {
    throw Error(ErrorCode::bad_file, "logits.safetensors: expected version 1; {}", kRemake);
  }
  return file.tensor(name + "/" + reference);
}

}  // namespace tessera::model
