// Policies of the cache stage and loaders of the load stage of a Method.
//
// A new policy is one source file in src/kv/, one factory here, one registry line in engine/method.cpp, one row in the
// shared matrix tests/kv/policy_matrix_test.cpp, one link to its paper and one quality-and-speed row in docs/kv.md. Each
// states its rule for grouped queries (GQA).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tessera/kv/cache.h"

namespace tessera::kv {

// What a policy sees when a layer of the first prefill is finished.
struct PrefillEnd {
  int layer = 0;
  Tensor last_queries;         // [w, query_heads, head_dim] f32, rotated; w = min(observation_window(), prompt)
  int64_t first_position = 0;  // of last_queries row 0
  ThreadPool* pool = nullptr;
};

class CachePolicy {
 public:
  virtual ~CachePolicy() = default;
  virtual std::string describe() const = 0;

  // How many of the last query rows of the prefill `after_prefill` needs.
  virtual int64_t observation_window() const { return 0; }
  // True when rows are dropped, so that the cache is no exact prefix for other prompts.
  virtual bool drops_rows() const { return false; }

  // Called once per layer, when the first prefill (whole or in chunks) has ended.
  virtual void after_prefill(KeyValueCache& cache, const PrefillEnd& end) const = 0;
  // Called per layer after every later append (follow-up prompts and decoding).
  virtual void after_append(KeyValueCache& /*cache*/, int /*layer*/) const {}
};

// StreamingLLM (arXiv 2309.17453), the one-off form of SCBench and kvpress: keeps the first `sinks` and the last `window`
// rows of the first prefill at their true positions; later tokens are appended. GQA: nothing to decide.
struct StreamingLlmOptions {
  int64_t sinks = 128;    // >= 0
  int64_t window = 3968;  // >= 1
};
std::unique_ptr<CachePolicy> make_streaming_llm(const StreamingLlmOptions& options);

// SnapKV (arXiv 2404.14469): keeps per KV head the `capacity - window` rows with the highest pooled attention from the
// last `window` queries, and those last rows. GQA: mean over the group, before pooling.
struct SnapKvOptions {
  int64_t capacity = 4096;  // rows kept per head, > window
  int64_t window = 32;      // observing queries, and most recent rows always kept
  int64_t pool = 5;         // odd width of the pooling
  enum class Pooling { average, maximum } pooling = Pooling::average;
};
std::unique_ptr<CachePolicy> make_snapkv(const SnapKvOptions& options);

// KIVI (arXiv 2402.02750): asymmetric quantisation, keys per channel, values per row, in groups of 32. Pages that lie
// wholly before the last `residual` rows are quantised. GQA: nothing to decide.
struct KiviOptions {
  int bits = 2;           // 2 or 4
  int64_t group = 32;     // only 32 in this build
  int64_t residual = 32;  // most recent rows that stay unquantised, rounded up to whole pages
};
std::unique_ptr<CachePolicy> make_kivi(const KiviOptions& options);

// Loader: which rows a decode step reads. The cache stays complete.
class Loader {
 public:
  virtual ~Loader() = default;
  virtual std::string describe() const = 0;

  // The work list of one decode step (input.queries has few rows). `view` is the layer's cache behind input.heads.
  virtual attention::WorkList select(int layer, const attention::AttentionInput& input, const LayerView& view) = 0;
  // An independent loader for a forked session.
  virtual std::unique_ptr<Loader> fork() const = 0;
};

// Quest (arXiv 2406.10774): scores pages of `page` rows by the upper bound sum_c max(q_c min_c, q_c max_c) and reads the
// best `budget / page` of them, at least 3, the last page always. Layers below `dense_layers` read everything.
// GQA: one choice per KV head, the maximum of the bound over the group (safe).
struct QuestOptions {
  int64_t budget = 1024;  // rows read per KV head
  int64_t page = 16;      // rows; divides 64
  int dense_layers = 2;
};
std::unique_ptr<Loader> make_quest(const QuestOptions& options);

}  // namespace tessera::kv
