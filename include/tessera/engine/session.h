// A session: one sequence on one model under one method.
//
//   Session session(model, method);
//   session.prefill(context);                    // the shared context, once
//   Session turn = session.fork();               // shares pages, copy on write
//   Generation answer = turn.generate(question, {.max_new_tokens = 64});
//
// Stages: the first prefill runs the method's selector, then its cache policy; later prompts are dense over what the
// cache holds (the rule of SCBench, arXiv 2412.10319); decoding is dense too, or reads through the loader where the
// method has one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/clock.h"
#include "tessera/engine/method.h"
#include "tessera/engine/sampler.h"
#include "tessera/kv/cache.h"
#include "tessera/model/model.h"

namespace tessera::engine {

class SessionAttention;
enum class SessionStage : uint8_t;

struct SessionOptions {
  // Prompt tokens computed at once, >= 1, rounded up to whole tiles of 64; bounds the work space. Dense, a-shape and
  // tri-shape give equal results for any value; a selector that probes queries probes those of each chunk.
  int64_t prefill_chunk = 32768;
  attention::TileFormat cache_format = attention::TileFormat::f32;
  bool allow_beyond_context = false;  // run past the model's trained context instead of Error(limit_exceeded)
  // Compare 8 rows of every sparse prefill chunk with dense attention, per layer. Its time is not part of
  // PrefillStats's.
  bool measure_skipped_mass = false;
  ThreadPool* pool = nullptr;  // null: ThreadPool::shared()
};

struct PrefillStats {
  int64_t tokens = 0;  // computed
  double wall_ms = 0;
  double cpu_ms = 0;
  double density = 1;       // executed, mean over layers, heads and chunks
  double select_ms = 0;     // wall, part of wall_ms
  double attention_ms = 0;  // wall, selection excluded
  // Estimated share of attention that was left out, mean over layers and chunks: 0 where everything was computed,
  // nothing where a selector chose and nobody measured.
  std::optional<double> skipped_mass = 0;
};

struct GenerateOptions {
  int64_t max_new_tokens = 64;
  SamplingOptions sampling;
  std::vector<std::string> stop_strings;
  std::function<void(std::string_view)> on_text;  // pieces as they come; may be empty
};

struct Generation {
  std::string text;
  std::vector<int32_t> tokens;  // the end token excluded
  bool ended = false;           // by an end token or stop string, not by the limit
  PrefillStats prompt;          // of the question
  double ttft_ms = 0;           // question given -> first token known
  double decode_ms = 0;
  double decode_density = 1;  // rows read over rows held, mean over steps, layers and heads
};

class Session {
 public:
  Session(std::shared_ptr<const model::Model> model, Method method, SessionOptions options = {});

  // Feeds tokens; keeps the last logits. May be called again (follow-up prompts).
  PrefillStats prefill(std::span<const int32_t> tokens);
  // Encodes and feeds text; BOS is added at the start of a sequence only.
  PrefillStats prefill(std::string_view text);

  // Feeds `question` (may be empty when logits are at hand) and decodes. Generated tokens belong to this session's
  // history; the last one is fed together with the next prompt.
  Generation generate(std::string_view question, const GenerateOptions& options);
  Generation generate(std::span<const int32_t> question, const GenerateOptions& options);

  // Feeds one token as a decode step (through the loader where the method has one); the next logits are in logits().
  void step(int32_t token);

  // Feeds tokens like `prefill` and returns the negative log-likelihood of each but the first (perplexity). Needs
  // tokens.size() * vocabulary floats per chunk.
  std::vector<double> token_losses(std::span<const int32_t> tokens);

  // A named copy that shares pages.
  Session fork() const;

  // [vocabulary] f32 of the last token fed; undefined before the first.
  const Tensor& logits() const { return logits_; }
  // The tokens whose rows were computed.
  std::span<const int32_t> tokens() const { return tokens_; }
  const kv::KeyValueCache& cache() const { return cache_; }
  const model::Model& model() const { return *model_; }
  const Method& method() const { return method_; }
  int64_t kv_bytes() const { return cache_.bytes(); }
  // Fixed work space of this session's prefill in bytes, printed by the tools.
  int64_t workspace_bytes() const;

 private:
  void check_room(int64_t more) const;
  void feed(std::span<const int32_t> tokens, SessionAttention& attention);
  SessionAttention attention_for(SessionStage stage);
  SessionStage prompt_stage() const;
  void decode(const GenerateOptions& options, const Stopwatch& since_question, Generation& result);
  std::vector<int32_t> encode(std::string_view text) const;

  std::shared_ptr<const model::Model> model_;
  Method method_;
  SessionOptions options_;
  kv::KeyValueCache cache_;
  std::shared_ptr<kv::Loader> loader_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> pending_;  // generated, not yet fed
  Tensor logits_;
  bool first_prefill_done_ = false;
};

}  // namespace tessera::engine

namespace tessera {
using engine::Session;
}
