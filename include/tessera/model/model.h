// A decoder-only transformer: weights (mapped, never copied), tokenizer, chat template and the forward pass.
//
//   std::shared_ptr<const Model> model = Model::load("models/nano");   // HF directory, or a .gguf file
//   Tensor logits = model->forward(tokens, first_position, attention, {.logits = Logits::last});
//
// The forward pass knows nothing of caches: for every layer it hands rotated queries and keys and the values to a
// LayerAttention and goes on with what that returns.
#pragma once

#include <filesystem>
#include <memory>
#include <span>

#include "tessera/base/thread_pool.h"
#include "tessera/model/chat_template.h"
#include "tessera/model/config.h"
#include "tessera/model/tokenizer.h"
#include "tessera/tensor/tensor.h"

namespace tessera::model {

class LayerAttention {
 public:
  virtual ~LayerAttention() = default;

  // queries [n, query_heads, head_dim], keys and values [n, kv_heads, head_dim], f32, queries and keys rotated at the
  // true positions first_position + i. Writes out [n, query_heads, head_dim] f32. The tensors' memory is reused after
  // the call: what must stay is copied.
  struct Call {
    int layer = 0;
    int64_t first_position = 0;
    Tensor queries;
    Tensor keys;
    Tensor values;
  };
  virtual void attend(const Call& call, Tensor& out) = 0;
};

enum class Logits : uint8_t { none, last, all };

struct ForwardOptions {
  Logits logits = Logits::last;
  ThreadPool* pool = nullptr;  // null: ThreadPool::shared()
};

class Model {
 public:
  // Throws Error(not_found, bad_file, unsupported) with the file and what is wrong.
  static std::shared_ptr<const Model> load(const std::filesystem::path& path);

  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model();

  const ModelConfig& config() const;
  const Tokenizer& tokenizer() const;
  const ChatTemplate& chat_template() const;
  // Stable digest of configuration, weights' table and a sample of every tensor's bytes (16 hexadecimal digits);
  // results carry it.
  std::string digest() const;
  // Bytes of the mapped weights.
  int64_t weight_bytes() const;

  // Logits: [1, vocabulary] or [n, vocabulary] f32, undefined for Logits::none. Tokens outside the vocabulary throw
  // Error(invalid_argument), and so does an empty span or a negative position. Cost: 2 * parameters * n operations plus
  // attention. After the attention of the last layer only the rows whose logits are asked for are computed.
  // Thread-safe.
  Tensor forward(std::span<const int32_t> tokens, int64_t first_position, LayerAttention& attention,
                 const ForwardOptions& options) const;

  // Bytes of work space `forward` allocates for n tokens at once, attention and logits excluded.
  int64_t workspace_bytes(int64_t tokens) const;

 private:
  struct State;
  explicit Model(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tessera::model

namespace tessera {
using model::Model;
}
