#include "model/transformer.h"

#include <algorithm>

#include "tessera/tensor/ops.h"

namespace tessera::model {
namespace {

// Rows that the projections and the feed-forward take at once: enough to amortise the expansion of quantised weights,
// few enough that gate and up of a large model stay within tens of megabytes.
constexpr int64_t kRowChunk = 512;

template <typename Body>
void for_row_chunks(int64_t begin, int64_t end, const Body& body) {
  for (int64_t first = begin; first < end; first += kRowChunk) body(first, std::min(kRowChunk, end - first));
}

void check_tokens(std::span<const int32_t> tokens, int64_t first_position, int64_t vocabulary) {
  if (tokens.empty()) throw Error(ErrorCode::invalid_argument, "forward: expected at least one token, found none");
  if (first_position < 0) {
    throw Error(ErrorCode::invalid_argument, "forward: expected a first position of at least 0, found {}",
                first_position);
  }
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocabulary) {
      throw Error(ErrorCode::invalid_argument, "forward: token {} is outside the vocabulary of {}", token, vocabulary);
    }
  }
}

}  // namespace

struct Transformer::Workspace {
  Workspace(const ModelConfig& config, int64_t n, ThreadPool& threads)
      : pool(threads),
        hidden(Tensor::empty(DType::f32, {n, config.width})),
        queries(Tensor::empty(DType::f32, {n, config.query_heads, config.head_dim})),
        keys(Tensor::empty(DType::f32, {n, config.kv_heads, config.head_dim})),
        values(Tensor::empty(DType::f32, {n, config.kv_heads, config.head_dim})),
        attended(Tensor::empty(DType::f32, {n, config.query_heads, config.head_dim})),
        normed(Tensor::empty(DType::f32, {std::min(n, kRowChunk), config.width})),
        gate(Tensor::empty(DType::f32, {std::min(n, kRowChunk), config.feed_forward})),
        up(Tensor::empty(DType::f32, {std::min(n, kRowChunk), config.feed_forward})) {}

  int64_t rows() const { return hidden.shape()[0]; }

  ThreadPool& pool;
  Tensor hidden;    // [n, width], the residual stream
  Tensor queries;   // [n, query_heads, head_dim]
  Tensor keys;      // [n, kv_heads, head_dim]
  Tensor values;    // [n, kv_heads, head_dim]
  Tensor attended;  // [n, query_heads, head_dim]
  Tensor normed;    // [chunk, width]
  Tensor gate;      // [chunk, feed_forward]
  Tensor up;        // [chunk, feed_forward]
};

Transformer::Transformer(ModelConfig config, ModelWeights weights)
    : config_(std::move(config)), weights_(std::move(weights)), frequencies_(config_.rope, config_.head_dim) {}

Transformer Transformer::from_huggingface(const std::filesystem::path& directory) {
  ModelConfig config = config_from_huggingface(directory);
  ModelWeights weights = load_weights(config, SafetensorsCheckpoint::open(directory), directory.string());
  return {std::move(config), std::move(weights)};
}

Transformer Transformer::from_gguf(const GgufFile& file) {
  ModelConfig config = config_from_gguf(file);
  ModelWeights weights = load_weights(config, file);
  return {std::move(config), std::move(weights)};
}

// hidden -> queries, keys, values, not yet rotated.
void Transformer::project(const LayerWeights& layer, Workspace& work) const {
  const LinearOptions linear_options{.pool = &work.pool};
  const auto into = [&](const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& heads, int64_t first) {
    Tensor y = heads.reshape({heads.shape()[0], weight.shape()[0]}).slice(first, x.shape()[0]);
    linear(x, weight, bias, y, linear_options);
  };
  for_row_chunks(0, work.rows(), [&](int64_t first, int64_t count) {
    Tensor normed = work.normed.slice(0, count);
    rms_norm(work.hidden.slice(first, count), layer.attention_norm, config_.rms_epsilon, normed, &work.pool);
    into(normed, layer.query, layer.query_bias, work.queries, first);
    into(normed, layer.key, layer.key_bias, work.keys, first);
    into(normed, layer.value, layer.value_bias, work.values, first);
  });
}

// hidden += attention output, then hidden += feed-forward, for the rows from first_row on.
void Transformer::absorb(const LayerWeights& layer, int64_t first_row, Workspace& work) const {
  const LinearOptions overwrite{.pool = &work.pool};
  const LinearOptions accumulate{.accumulate = true, .pool = &work.pool};
  const Tensor attended = work.attended.reshape({work.rows(), config_.query_heads * config_.head_dim});
  for_row_chunks(first_row, work.rows(), [&](int64_t first, int64_t count) {
    Tensor hidden = work.hidden.slice(first, count);
    Tensor normed = work.normed.slice(0, count);
    Tensor gate = work.gate.slice(0, count);
    Tensor up = work.up.slice(0, count);
    linear(attended.slice(first, count), layer.output, layer.output_bias, hidden, accumulate);
    rms_norm(hidden, layer.feed_forward_norm, config_.rms_epsilon, normed, &work.pool);
    linear(normed, layer.gate, layer.gate_bias, gate, overwrite);
    linear(normed, layer.up, layer.up_bias, up, overwrite);
    silu_multiply(gate, up, &work.pool);
    linear(gate, layer.down, layer.down_bias, hidden, accumulate);
  });
}

// [rows from first_row on, vocabulary]
Tensor Transformer::logits(int64_t first_row, Workspace& work) const {
  Tensor logits = Tensor::empty(DType::f32, {work.rows() - first_row, config_.vocabulary});
  for_row_chunks(first_row, work.rows(), [&](int64_t first, int64_t count) {
    Tensor normed = work.normed.slice(0, count);
    Tensor y = logits.slice(first - first_row, count);
    rms_norm(work.hidden.slice(first, count), weights_.final_norm, config_.rms_epsilon, normed, &work.pool);
    linear(normed, weights_.output, Tensor(), y, {.pool = &work.pool});
  });
  return logits;
}

Tensor Transformer::forward(std::span<const int32_t> tokens, int64_t first_position, LayerAttention& attention,
                            const ForwardOptions& options) const {
  check_tokens(tokens, first_position, config_.vocabulary);
  const auto n = static_cast<int64_t>(tokens.size());
  Workspace work(config_, n, options.pool != nullptr ? *options.pool : ThreadPool::shared());
  gather_rows(weights_.embedding, tokens, work.hidden);
  const RopeAngles angles = frequencies_.angles(first_position, n, work.pool);

  // The rows whose logits are wanted; the last layer computes nothing else after its attention.
  int64_t first_logits_row = n;
  if (options.logits == Logits::last) first_logits_row = n - 1;
  if (options.logits == Logits::all) first_logits_row = 0;

  for (int layer = 0; layer < config_.layers; ++layer) {
    const LayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
    project(weights, work);
    angles.rotate(work.queries, work.pool);
    angles.rotate(work.keys, work.pool);
    attention.attend({layer, first_position, work.queries, work.keys, work.values}, work.attended);
    absorb(weights, layer + 1 == config_.layers ? first_logits_row : 0, work);
  }
  return options.logits == Logits::none ? Tensor() : logits(first_logits_row, work);
}

int64_t Transformer::workspace_bytes(int64_t tokens) const {
  const int64_t per_token =
      config_.width + 2 * (config_.query_heads + config_.kv_heads) * config_.head_dim + config_.head_dim;
  const int64_t per_chunk_row = config_.width + 2 * config_.feed_forward;
  return static_cast<int64_t>(sizeof(float)) * (tokens * per_token + std::min(tokens, kRowChunk) * per_chunk_row);
}

}  // namespace tessera::model
