// What a session does at every layer of a forward pass: append to the cache, choose, attend, apply the cache policy.
#pragma once

#include <vector>

#include "tessera/base/clock.h"
#include "tessera/engine/session.h"

namespace tessera::engine {

enum class SessionStage : uint8_t {
  first_prefill,  // the method's selector, and at its end the cache policy
  follow_up,      // later prompts: dense over what the cache holds
  decode,         // one row at a time, through the loader where there is one
};

class SessionAttention : public model::LayerAttention {
 public:
  struct Setup {
    kv::KeyValueCache& cache;
    const Method& method;
    kv::Loader* loader = nullptr;
    ThreadPool* pool = nullptr;
    SessionStage stage = SessionStage::first_prefill;
    bool measure_skipped_mass = false;
  };
  explicit SessionAttention(const Setup& setup);

  // Announces the next chunk of the prompt, `rows_after` more rows following it; the policy runs in the last one.
  void begin_chunk(int64_t rows_after);

  void attend(const Call& call, Tensor& out) override;

  // Density, times and skipped mass so far; tokens and totals are the caller's to fill in.
  PrefillStats stats() const;
  // What measuring the skipped mass took, which is no part of the method's cost.
  const Elapsed& measuring() const { return measuring_; }

 private:
  void observe(const Call& call);
  attention::AttentionPartial compute(const Call& call, const kv::LayerView& view,
                                      const attention::AttentionInput& input);

  Setup setup_;
  int64_t rows_after_ = 0;            // of this prompt, in later chunks
  std::vector<Tensor> last_queries_;  // [layers] of [w, query_heads, head_dim], the policy's observation window

  double computed_area_ = 0;  // pairs computed, over chunks and layers, per head
  double dense_area_ = 0;
  double select_ms_ = 0;
  double attention_ms_ = 0;
  double skipped_mass_ = 0;
  int64_t skipped_samples_ = 0;
  Elapsed measuring_;
};

}  // namespace tessera::engine
