// Policies of the cache stage and loaders of the load stage of a Method.
//
// A new policy is one source file in src/kv/, one factory here, one registry line in engine/method.cpp, one row in the
// shared matrix tests/kv/policy_matrix_test.cpp, one link to its paper and one quality-and-speed row in docs/kv.md.
// Each states its rule for grouped queries (GQA).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tessera/attention/attention.h"
#include "tessera/base/thread_pool.h"
#include "tessera/kv/cache.h"

namespace tessera::kv {

// What a policy sees when a layer of the first prefill is finished.
struct PrefillEnd {
  int layer = 0;
  Tensor last_queries = {};    // [w, query_heads, head_dim] f32, rotated; w = min(observation_window(), prompt)
  int64_t first_position = 0;  // of last_queries row 0
  ThreadPool* pool = nullptr;  // null: ThreadPool::shared()
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

// StreamingLLM (arXiv 2309.17453), the one-off form of SCBench and kvpress: keeps the first `sinks` and the last
// `window` rows of the first prefill at their true positions; later tokens are appended. GQA: nothing to decide.
struct StreamingLlmOptions {
  int64_t sinks = 128;    // first rows kept, >= 0 (SCBench; 4 in the paper)
  int64_t window = 3968;  // last rows kept, >= 1 (SCBench)
};
std::unique_ptr<CachePolicy> make_streaming_llm(const StreamingLlmOptions& options);

// SnapKV (arXiv 2404.14469): keeps per KV head the `capacity - window` rows with the highest pooled attention from the
// last `window` queries, and those last rows. GQA: mean over the group, before pooling. Definition: docs/kv.md.
struct SnapKvOptions {
  int64_t capacity = 4096;  // rows kept per head, > window (SCBench)
  int64_t window = 32;      // observing queries, and most recent rows always kept, >= 1 (SCBench)
  int64_t pool = 5;         // width of the pooling in rows, odd (SCBench)
  enum class Pooling { average, maximum } pooling = Pooling::average;
};
std::unique_ptr<CachePolicy> make_snapkv(const SnapKvOptions& options);

// KIVI (arXiv 2402.02750): asymmetric quantisation, keys per channel, values per row, in groups of 32. Pages that lie
// wholly before the last `residual` rows are quantised, after the first prefill and after every append. GQA: nothing to
// decide.
struct KiviOptions {
  int bits = 2;        // 2 or 4
  int64_t group = 32;  // elements that share a scale and a zero; only 32 in this build
  int64_t residual =
      32;  // most recent rows that stay unquantised, >= 0; in effect rounded up to whole pages (paper: 32)
};
std::unique_ptr<CachePolicy> make_kivi(const KiviOptions& options);

// Loader: which rows a decode step reads. The cache stays complete.
class Loader {
 public:
  virtual ~Loader() = default;
  virtual std::string describe() const = 0;

  // The work list of one decode step (input.queries has few rows, already appended to the cache). `view` is the layer's
  // cache behind input.heads. What the loader remembers about pages it finds again by their stamps, so that truncation,
  // dropped rows and re-encoding need no notice.
  virtual attention::WorkList select(int layer, const attention::AttentionInput& input, const LayerView& view,
                                     const attention::AttentionOptions& options = {}) = 0;

  // The attention of one decode step: equal to attention::attend() over what `select` names up to rounding, unless the
  // loader has rows elsewhere to merge in. Prefer it to the two calls: a loader may know a faster way to read its
  // choice.
  virtual attention::AttentionPartial attend(int layer, const attention::AttentionInput& input, const LayerView& view,
                                             const attention::AttentionOptions& options = {});

  // Bytes that the loader keeps beside the cache.
  virtual int64_t bytes() const = 0;

  // An independent loader for a forked session; cheap, what is known about shared pages is shared.
  virtual std::unique_ptr<Loader> fork() const = 0;
};

// Quest (arXiv 2406.10774): scores pages of `page` rows by the upper bound sum_c max(q_c min_c, q_c max_c) and reads
// the best `budget / page` of them, at least 3, the pages of the query's own rows always. Layers below `dense_layers`
// read everything. GQA: one choice per KV head, the maximum of the bound over the group (safe).
struct QuestOptions {
  int64_t budget = 1024;  // rows read per KV head, >= 1 (SCBench code; 4096 in its paper)
  int64_t page = 16;      // rows; divides 64 (paper)
  int dense_layers = 2;   // first layers that read everything, >= 0 (paper)
};
std::unique_ptr<Loader> make_quest(const QuestOptions& options);

}  // namespace tessera::kv
